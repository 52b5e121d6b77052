//! CSV tables of an archive, plain or gzip, whose errors name file, line and column.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use super::PrepareError;

/// A table being read, row by row.
pub(super) struct Table {
    file: PathBuf,
    header: StringRecord,
    /// Fewest fields of a row: a header may end in empty names that rows leave out.
    width: usize,
    reader: csv::Reader<Box<dyn Read>>,
    record: StringRecord,
}

/// A column of one table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column(usize);

impl Table {
    /// Opens a table; gzip is told by its first bytes, whatever the name.
    pub(super) fn open(file: &Path) -> Result<Self, PrepareError> {
        let mut input = File::open(file).map_err(PrepareError::read(file))?;
        let mut magic = Vec::with_capacity(2);
        input.by_ref().take(2).read_to_end(&mut magic).map_err(PrepareError::read(file))?;
        let gzip = magic == [0x1f, 0x8b];
        let whole = BufReader::new(std::io::Cursor::new(magic).chain(input));
        let input: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let header: StringRecord = reader
            .headers()
            .map_err(|error| table_error(file, error))?
            .iter()
            // Spreadsheets write a byte order mark in front of the first name.
            .map(|name| name.trim_start_matches('\u{feff}').trim())
            .collect();
        let width = header.len() - header.iter().rev().take_while(|name| name.is_empty()).count();
        Ok(Self { file: file.to_owned(), header, width, reader, record: StringRecord::new() })
    }

    /// Opens `folder/name` or `folder/name.gz`, `None` where there is neither.
    pub(super) fn find(folder: &Path, name: &str) -> Result<Option<Self>, PrepareError> {
        let candidates = [folder.join(name), folder.join(format!("{name}.gz"))];
        candidates.iter().find(|file| file.is_file()).map(|file| Self::open(file)).transpose()
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Result<Column, PrepareError> {
        self.optional(name).ok_or_else(|| {
            let names: Vec<String> = self.header.iter().map(|name| format!("\"{name}\"")).collect();
            let found = if names.is_empty() { "no columns".to_owned() } else { names.join(", ") };
            PrepareError::MissingColumn { file: self.file.clone(), column: name.to_owned(), found }
        })
    }

    /// The column of this name, where there is one.
    pub(super) fn optional(&self, name: &str) -> Option<Column> {
        self.header.iter().position(|other| other == name).map(Column)
    }

    /// The names of the columns that are none of these.
    pub(super) fn unused(&self, used: &[Column]) -> Vec<String> {
        let used = |index: usize| used.iter().any(|column| column.0 == index);
        let unused = self.header.iter().enumerate().filter(|(index, name)| !used(*index) && !name.is_empty());
        unused.map(|(_, name)| name.to_owned()).collect()
    }

    /// The next row.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, PrepareError> {
        if !self.reader.read_record(&mut self.record).map_err(|error| table_error(&self.file, error))? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let (found, widest) = (self.record.len(), self.header.len());
        if !(self.width..=widest).contains(&found) {
            let problem = format!("the row has {found} fields but the header has {}; is a quote missing?", self.width);
            return Err(PrepareError::NotATable { file: self.file.clone(), line, problem });
        }
        Ok(Some(Row { table: &self.file, header: &self.header, record: &self.record, line }))
    }
}

/// A row of a table.
pub(super) struct Row<'a> {
    table: &'a Path,
    header: &'a StringRecord,
    record: &'a StringRecord,
    line: u64,
}

impl<'a> Row<'a> {
    /// The field of a column, trimmed; empty where the row ends before it.
    pub(super) fn text(&self, column: Column) -> &'a str {
        self.record.get(column.0).unwrap_or_default().trim()
    }

    /// The field of a column that may not be there.
    pub(super) fn text_or_empty(&self, column: Option<Column>) -> &'a str {
        column.map_or("", |column| self.text(column))
    }

    /// The field of a column that may not be blank.
    pub(super) fn required(&self, column: Column) -> Result<&'a str, PrepareError> {
        match self.text(column) {
            "" => Err(self.wrong(column, "it is empty")),
            text => Ok(text),
        }
    }

    /// A name that becomes part of a path: no folder may be left through it.
    pub(super) fn file_name(&self, column: Column) -> Result<&'a str, PrepareError> {
        let name = self.required(column)?;
        if name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
            return Err(self.wrong(column, format!("\"{name}\" is no plain name")));
        }
        Ok(name)
    }

    /// The error of a field.
    pub(super) fn wrong(&self, column: Column, problem: impl Into<String>) -> PrepareError {
        PrepareError::Field {
            file: self.table.to_owned(),
            line: self.line,
            column: self.header.get(column.0).unwrap_or_default().to_owned(),
            problem: problem.into(),
        }
    }
}

fn table_error(file: &Path, error: csv::Error) -> PrepareError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.into_kind() {
        csv::ErrorKind::Io(source) => return PrepareError::Read { path: file.to_owned(), source },
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8 text".to_owned(),
        other => format!("it is not CSV: {other:?}"),
    };
    PrepareError::NotATable { file: file.to_owned(), line, problem }
}
