//! Open-i as published: one XML file for each report.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use raygen_manifest::View;

use super::{Archive, Picture, ReportText, key};
use crate::prepare::PrepareError;
use crate::prepare::files::walk;

/// The largest report has 40 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the reports of a folder or `.tgz`, in the order of their numbers.
pub(super) fn read(path: &Path, views: Option<&HashMap<String, View>>) -> Result<Archive, PrepareError> {
    let mut reports = if path.is_dir() { folder(path)? } else { archive(path)? };
    if reports.is_empty() {
        let problem = "there is no report in it; give the folder of the XML files, or NLMCXR_reports.tgz".to_owned();
        return Err(PrepareError::Archive { archive: path.to_owned(), problem });
    }
    // The same manifest from the folder as from the archive.
    reports.sort_by_key(|report| (report.uid.parse::<u64>().unwrap_or(u64::MAX), report.uid.clone()));
    let mut found = Archive::default();
    for XmlReport { uid, text, pictures } in reports {
        found.pictures.extend(pictures.into_iter().map(|name| {
            let view = views.and_then(|views| views.get(&key(&name)).copied());
            Picture { uid: uid.clone(), name, view }
        }));
        if found.reports.insert(uid.clone(), text).is_some() {
            let problem = format!("report {uid} is there twice");
            return Err(PrepareError::Archive { archive: path.to_owned(), problem });
        }
    }
    Ok(found)
}

/// One report.
#[derive(Debug, Default, PartialEq, Eq)]
struct XmlReport {
    uid: String,
    text: ReportText,
    pictures: Vec<String>,
}

fn is_report(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    !hidden && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml"))
}

fn folder(folder: &Path) -> Result<Vec<XmlReport>, PrepareError> {
    let files = walk(folder)?.into_iter().filter(|path| is_report(path));
    files
        .map(|path| {
            let bytes = fs::read(&path).map_err(PrepareError::read(&path))?;
            parse(&bytes).map_err(|problem| PrepareError::Archive { archive: path, problem })
        })
        .collect()
}

fn archive(file: &Path) -> Result<Vec<XmlReport>, PrepareError> {
    let input = BufReader::new(File::open(file).map_err(PrepareError::read(file))?);
    let mut archive = tar::Archive::new(MultiGzDecoder::new(input));
    let mut reports = Vec::new();
    for entry in archive.entries().map_err(PrepareError::read(file))? {
        let entry = entry.map_err(PrepareError::read(file))?;
        let name = entry.path().map_err(PrepareError::read(file))?.into_owned();
        if !entry.header().entry_type().is_file() || !is_report(&name) {
            continue;
        }
        let wrong = |problem: String| PrepareError::Archive {
            archive: file.to_owned(),
            problem: format!("{}: {problem}", name.display()),
        };
        if entry.size() > MAX_BYTES {
            return Err(wrong(format!("it has {} bytes, which no report has", entry.size())));
        }
        let mut bytes = Vec::new();
        entry.take(MAX_BYTES).read_to_end(&mut bytes).map_err(PrepareError::read(file))?;
        reports.push(parse(&bytes).map_err(wrong)?);
    }
    Ok(reports)
}

/// What the text between two tags belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Impression,
    Findings,
    Term,
    Nothing,
}

fn parse(bytes: &[u8]) -> Result<XmlReport, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let mut reader = Reader::from_str(text);
    let mut report = XmlReport::default();
    let (mut place, mut words) = (Place::Nothing, String::new());
    loop {
        let wrong = |problem: &dyn std::fmt::Display, at: u64| {
            let before = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let line = bytes[..before].iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line}: {problem}")
        };
        match reader.read_event().map_err(|error| wrong(&error, reader.error_position()))? {
            Event::Start(tag) => {
                let at = reader.buffer_position();
                place = open(&tag, &mut report).map_err(|problem| wrong(&problem, at))?;
                words.clear();
            }
            Event::Empty(tag) => {
                let at = reader.buffer_position();
                open(&tag, &mut report).map_err(|problem| wrong(&problem, at))?;
            }
            Event::Text(text) if place != Place::Nothing => words.push_str(&text.xml10_content()),
            Event::CData(text) if place != Place::Nothing => words.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) if place != Place::Nothing => {
                let character =
                    reference.resolve_char_ref().map_err(|error| wrong(&error, reader.buffer_position()))?;
                match character {
                    Some(character) => words.push(character),
                    None => words.push_str(resolve_predefined_entity(&reference.xml10_content()).unwrap_or(" ")),
                }
            }
            Event::End(_) => {
                // Pretty-printing breaks lines and indents.
                let said = words.split_whitespace().collect::<Vec<_>>().join(" ");
                match place {
                    Place::Impression => report.text.impression = said,
                    Place::Findings => report.text.findings = said,
                    Place::Term if !said.is_empty() => report.text.terms.push(said),
                    Place::Term | Place::Nothing => {}
                }
                (place, words) = (Place::Nothing, String::new());
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if report.uid.is_empty() {
        return Err("there is no <uId id=\"CXR...\"/> in it, so it is no report of Open-i".to_owned());
    }
    Ok(report)
}

/// Notes what a tag says of itself; returns what the text behind it is.
fn open(tag: &BytesStart<'_>, report: &mut XmlReport) -> Result<Place, String> {
    let attribute = |name: &str| -> Result<String, String> {
        match tag.try_get_attribute(name).map_err(|error| error.to_string())? {
            Some(attribute) => {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
                Ok(value.into_owned())
            }
            None => Ok(String::new()),
        }
    };
    Ok(match tag.name().as_ref() {
        "uId" => {
            let id = attribute("id")?;
            report.uid = id.strip_prefix("CXR").unwrap_or(&id).to_owned();
            Place::Nothing
        }
        "parentImage" => {
            let id = attribute("id")?;
            if !id.is_empty() {
                report.pictures.push(id);
            }
            Place::Nothing
        }
        // Below <MeSH>: what people chose. <automatic> terms are a program's guesses.
        "major" => Place::Term,
        "AbstractText" => match attribute("Label")?.as_str() {
            "IMPRESSION" => Place::Impression,
            "FINDINGS" => Place::Findings,
            _ => Place::Nothing,
        },
        _ => Place::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_and_line_breaks_are_undone_and_automatic_terms_left_out() {
        let report = parse(
            b"<eCitation><uId id=\"CXR7\"/><AbstractText Label=\"IMPRESSION\">Heart\n  &lt; 50&#37; &amp; clear.</AbstractText>\
              <MeSH><major>Opacity/lung</major><automatic>mass</automatic></MeSH><parentImage id=\"CXR7_IM-1-1001\"/></eCitation>",
        );
        let text = ReportText {
            terms: vec!["Opacity/lung".to_owned()],
            impression: "Heart < 50% & clear.".to_owned(),
            findings: String::new(),
        };
        let expected = XmlReport { uid: "7".to_owned(), text, pictures: vec!["CXR7_IM-1-1001".to_owned()] };
        assert_eq!(report, Ok(expected));
    }

    #[test]
    fn what_is_no_report_is_refused_with_its_line() {
        let problem = parse(b"<eCitation>\n<uId id=\"CXR7\"/>\n</wrong>").err().unwrap_or_default();
        assert!(problem.starts_with("line 3: "), "{problem}");
        assert!(parse(b"<html></html>").is_err());
        assert!(parse(b"\xff\xfe").is_err());
    }
}
