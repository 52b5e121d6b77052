//! PyTorch's zip archive (1.6 and later): `NAME/data.pkl`, one entry `NAME/data/KEY` a storage, all of them uncompressed.

use std::{fs::File, io::BufReader};

use zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::{
    error::PickleError,
    input::{Input, Region},
};

const PICKLE: &str = "data.pkl";
const BYTE_ORDER: &str = "byteorder";

pub(super) struct Archive<'a> {
    zip: ZipArchive<BufReader<&'a File>>,
    /// Length of the file in bytes.
    length: u64,
    /// What comes before `data.pkl`: the archive's name and a slash, in whatever encoding it was written.
    prefix: Vec<u8>,
}

impl<'a> Archive<'a> {
    pub(super) fn open(file: &'a File, length: u64) -> Result<Self, PickleError> {
        let zip = ZipArchive::new(BufReader::new(file)).map_err(of_zip)?;
        let prefix = find_pickle(&zip.file_names_raw().collect::<Vec<_>>())?;
        let mut archive = Self { zip, length, prefix };
        archive.check_byte_order(file)?;
        Ok(archive)
    }

    /// The pickle.
    pub(super) fn pickle(&mut self) -> Result<Region, PickleError> {
        self.region(PICKLE)
    }

    /// The bytes of a storage.
    pub(super) fn storage(&mut self, key: &str) -> Result<Region, PickleError> {
        self.region(&format!("data/{key}"))
    }

    fn check_byte_order(&mut self, file: &File) -> Result<(), PickleError> {
        // Files of PyTorch before 2.1 don't say; they are little-endian.
        if self.index(BYTE_ORDER).is_none() {
            return Ok(());
        }
        let region = self.region(BYTE_ORDER)?;
        let mut order = String::new();
        let mut input = Input::new(file, region)?;
        while input.position() < region.length.min(16) {
            order.push(char::from(input.byte()?));
        }
        if order == "little" { Ok(()) } else { Err(wrong_byte_order(&order)) }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.zip.index_for_name_raw(&[&self.prefix, name.as_bytes()].concat())
    }

    fn region(&mut self, name: &str) -> Result<Region, PickleError> {
        let index = self.index(name);
        let name = name.escape_debug();
        let index = index.ok_or_else(|| PickleError::Damaged(format!("the archive has no entry `{name}`")))?;
        let entry = self.zip.by_index_raw(index).map_err(of_zip)?;
        if entry.encrypted() || entry.compression() != CompressionMethod::Stored {
            let problem = format!(
                "has a compressed or encrypted entry `{name}`; PyTorch writes them plain: unpack the archive, and pack \
                 it again with `zip -0`"
            );
            return Err(PickleError::Unsupported(problem));
        }
        let start = entry.data_start().ok_or_else(|| PickleError::Damaged(format!("entry `{name}` has no data")))?;
        let region = Region { start, length: entry.size() };
        let inside = entry.size() == entry.compressed_size()
            && start.checked_add(region.length).is_some_and(|end| end <= self.length);
        if inside { Ok(region) } else { Err(PickleError::Damaged(format!("entry `{name}` is longer than its file"))) }
    }
}

/// What comes before the pickle's name, in the archive of a plain `torch.save`.
fn find_pickle(names: &[&[u8]]) -> Result<Vec<u8>, PickleError> {
    let mut prefixes = names.iter().filter_map(|name| name.strip_suffix(PICKLE.as_bytes()));
    let Some(prefix) = prefixes.find(|prefix| prefix.is_empty() || prefix.ends_with(b"/")) else {
        let problem = "is a zip archive without `data.pkl`, not a PyTorch file; give the file inside it";
        return Err(PickleError::Unsupported(problem.to_owned()));
    };
    let mut inside = names.iter().filter_map(|name| name.strip_prefix(prefix));
    if inside.any(|name| name.starts_with(b"code/") || name == b"constants.pkl") {
        let problem = "is a TorchScript archive, which holds a program; save the weights alone in Python: \
                       torch.save(torch.jit.load(FILE).state_dict(), NEW)";
        return Err(PickleError::Unsupported(problem.to_owned()));
    }
    Ok(prefix.to_vec())
}

pub(super) fn wrong_byte_order(order: &str) -> PickleError {
    let order = order.escape_debug();
    PickleError::Unsupported(format!(
        "stores its numbers in the byte order `{order}`; only `little` is read: save it again on a little-endian machine"
    ))
}

fn of_zip(error: ZipError) -> PickleError {
    match error {
        ZipError::Io(error) => error.into(),
        other => PickleError::Damaged(format!("its zip archive is damaged or cut off: {other}")),
    }
}
