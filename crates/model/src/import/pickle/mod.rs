//! Reads PyTorch files without running them: a pickle becomes inert values, and tensors are found among those.
//!
//! A pickle is a program, and Python's reader calls whatever that program names. This one calls nothing: names that it
//! knows (`names`) become data, and a call of any other name refuses the file. Formats, as PyTorch's
//! `torch/serialization.py` writes them: the zip archive of 1.6 and later (`archive`) and the stream before it
//! (`legacy`). Opcodes: Python's `pickletools`, protocols 0 to 5.
//!
//! Everything here may come from a hostile file: sizes are checked before memory is taken, and a pickle's length,
//! stack, memo, values and the bytes that those hold are bounded.

mod archive;
mod call;
mod error;
mod input;
mod legacy;
mod machine;
mod names;
mod stack;
mod state;
mod value;

#[cfg(test)]
mod hostile_tests;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek},
    path::Path,
};

use self::{
    archive::Archive,
    error::PickleError,
    input::{Input, Region},
    legacy::Legacy,
    machine::run,
    value::{Heap, PickledTensor, Storage, Value},
};
use super::{error::ImportError, stored::StoredTensor};

/// Where every tensor of a PyTorch file lies, by its name in the file's state dict or module.
///
/// # Errors
/// A file that is no PyTorch file, is damaged, or needs more than inert values to be read.
pub(super) fn tensors(path: &Path, file: &File, length: u64) -> Result<BTreeMap<String, StoredTensor>, ImportError> {
    read(file, length).map_err(|error| error.in_file(path))
}

fn read(file: &File, length: u64) -> Result<BTreeMap<String, StoredTensor>, PickleError> {
    if is_zip(file)? {
        let mut archive = Archive::open(file, length)?;
        let (heap, root) = run(&mut Input::new(file, archive.pickle()?)?)?;
        locate(&heap, &state::tensors(&heap, root)?, |key, _| archive.storage(key))
    } else {
        let legacy = Legacy::read(file, length)?;
        locate(&legacy.heap, &state::tensors(&legacy.heap, legacy.root)?, |key, storage| legacy.storage(key, storage))
    }
}

fn is_zip(mut file: &File) -> Result<bool, PickleError> {
    let mut head = Vec::new();
    file.rewind()?;
    file.take(4).read_to_end(&mut head)?;
    Ok(head == b"PK\x03\x04")
}

/// Finds the bytes of every tensor; `region` gives those of a storage.
fn locate(
    heap: &Heap,
    tensors: &BTreeMap<String, value::Id>,
    mut region: impl FnMut(&str, &Storage) -> Result<Region, PickleError>,
) -> Result<BTreeMap<String, StoredTensor>, PickleError> {
    let mut located = BTreeMap::new();
    for (name, id) in tensors {
        let Value::Tensor(tensor) = heap.get(*id) else { continue };
        let stored = locate_one(heap, tensor, &mut region).and_then(|stored| {
            stored.check().map_err(PickleError::Damaged)?;
            Ok(stored)
        });
        let stored = stored.map_err(|error| error.in_tensor(name))?;
        located.insert(name.clone(), stored);
    }
    Ok(located)
}

fn locate_one(
    heap: &Heap,
    tensor: &PickledTensor,
    region: &mut impl FnMut(&str, &Storage) -> Result<Region, PickleError>,
) -> Result<StoredTensor, PickleError> {
    let Value::Storage(storage) = heap.get(tensor.storage) else {
        return Err(PickleError::damaged("it has no storage"));
    };
    let key = heap.str(storage.key).ok_or_else(|| PickleError::damaged("its storage has no key"))?;
    let region = region(key, storage)?;
    let bytes = storage.count.checked_mul(storage.element.bytes());
    if bytes != Some(region.length) {
        let problem = format!(
            "its storage `{}` should hold {} elements of {}, and holds {} bytes",
            key.escape_debug(),
            storage.count,
            storage.element,
            region.length
        );
        return Err(PickleError::Damaged(problem));
    }
    Ok(StoredTensor {
        element: tensor.element,
        start: region.start,
        length: region.length,
        offset: tensor.offset,
        shape: tensor.shape.clone(),
        strides: tensor.strides.clone(),
    })
}
