//! PyTorch's stream before 1.6: pickles of a magic number, a protocol, the writer's machine, the object and the keys of
//! its storages, then every storage as a count (i64) and its elements.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use super::{
    archive::wrong_byte_order,
    error::PickleError,
    input::{Input, Region},
    machine::run,
    value::{Heap, Id, Storage, Value},
};

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;
/// Where a tar archive says that it is one.
const TAR_MARK: (u64, &[u8]) = (257, b"ustar");

pub(super) struct Legacy {
    pub(super) heap: Heap,
    pub(super) root: Id,
    /// Where each storage's elements lie.
    storages: HashMap<String, Region>,
}

impl Legacy {
    pub(super) fn read(file: &File, length: u64) -> Result<Self, PickleError> {
        check_kind(file)?;
        let mut input = Input::new(file, Region { start: 0, length })?;
        check_head(&mut input)?;
        let (heap, root) = run(&mut input)?;
        let (key_heap, keys) = run(&mut input)?;
        let keys = key_heap.items(keys).ok_or_else(|| PickleError::damaged("its storages have no list of keys"))?;
        let keys = keys.iter().map(|key| key_heap.str(*key));
        let storages = find_storages(file, Region { start: input.position(), length }, keys, &element_sizes(&heap))?;
        Ok(Self { heap, root, storages })
    }

    /// The bytes of a storage, or of the part of one that it is.
    pub(super) fn storage(&self, key: &str, storage: &Storage) -> Result<Region, PickleError> {
        let whole = self.storages.get(key).copied();
        let whole = whole
            .ok_or_else(|| PickleError::Damaged(format!("storage `{}` is not in the file", key.escape_debug())))?;
        if !storage.is_view {
            return Ok(whole);
        }
        let bytes = storage.element.bytes();
        let part = storage.first.checked_mul(bytes).zip(storage.count.checked_mul(bytes));
        part.filter(|(start, length)| start.checked_add(*length).is_some_and(|end| end <= whole.length))
            .map(|(start, length)| Region { start: whole.start + start, length })
            .ok_or_else(|| {
                PickleError::Damaged(format!("a view of storage `{}` ends outside of it", key.escape_debug()))
            })
    }
}

/// Reads and checks the pickles before the object. Their values are gone before those of the object take memory.
fn check_head(input: &mut Input<'_>) -> Result<(), PickleError> {
    let (heap, magic) = run(input)?;
    if !matches!(heap.get(magic), Value::Int(MAGIC)) {
        let found = heap.get(magic).kind();
        let problem = format!("is a pickle of {found}, not a PyTorch file; expected one written by torch.save");
        return Err(PickleError::Unsupported(problem));
    }
    drop(heap);
    let (heap, protocol) = run(input)?;
    if !matches!(heap.get(protocol), Value::Int(PROTOCOL)) {
        return Err(PickleError::Damaged(format!("its protocol is not {PROTOCOL}")));
    }
    drop(heap);
    let (heap, machine) = run(input)?;
    match heap.entry(machine, "little_endian").map(|little| heap.get(little)) {
        Some(Value::Bool(false)) => Err(wrong_byte_order("big")),
        _ => Ok(()),
    }
}

/// Bytes per element of every storage that the object names.
fn element_sizes(heap: &Heap) -> HashMap<&str, u64> {
    heap.values()
        .filter_map(|value| match value {
            Value::Storage(storage) => Some((heap.str(storage.key)?, storage.element.bytes())),
            _ => None,
        })
        .collect()
}

/// Walks over the storages, which follow each other in the order of `keys` from `rest.start` to `rest.length`.
fn find_storages<'a>(
    mut file: &File,
    rest: Region,
    keys: impl Iterator<Item = Option<&'a str>>,
    sizes: &HashMap<&str, u64>,
) -> Result<HashMap<String, Region>, PickleError> {
    let mut storages = HashMap::new();
    let mut place = rest.start;
    for key in keys {
        let key = key.ok_or_else(|| PickleError::damaged("a storage's key is no text"))?;
        let size = sizes.get(key);
        let size =
            size.ok_or_else(|| PickleError::Damaged(format!("no tensor looks into storage `{}`", key.escape_debug())))?;
        file.seek(SeekFrom::Start(place))?;
        let mut count = [0; 8];
        file.read_exact(&mut count)?;
        let start = place + 8;
        let length = u64::try_from(i64::from_le_bytes(count)).ok().and_then(|count| count.checked_mul(*size));
        let end = length.and_then(|length| start.checked_add(length)).filter(|end| *end <= rest.length);
        let (Some(length), Some(end)) = (length, end) else { return Err(PickleError::Truncated) };
        storages.insert(key.to_owned(), Region { start, length });
        place = end;
    }
    Ok(storages)
}

/// Names the files that people have in a checkpoint's place.
fn check_kind(mut file: &File) -> Result<(), PickleError> {
    let mut head = Vec::new();
    file.rewind()?;
    file.take(512).read_to_end(&mut head)?;
    let (tar_mark, tar_word) = TAR_MARK;
    let problem = if head.get(tar_mark as usize..).is_some_and(|rest| rest.starts_with(tar_word)) {
        "is a tar archive: unpack it and give the checkpoint inside. If PyTorch before 0.1.10 wrote it, load it in \
         Python and save it again with torch.save"
    } else if head.trim_ascii_start().starts_with(b"<") {
        "is a web page, not a checkpoint: the download did not work"
    } else if head.starts_with(b"version https://git-lfs") {
        "is a pointer of Git LFS, not a checkpoint: fetch the file with `git lfs pull`"
    } else {
        return Ok(());
    };
    Err(PickleError::Unsupported(problem.to_owned()))
}
