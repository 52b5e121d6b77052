//! The header of a safetensors file: where every tensor lies, without reading any.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

use safetensors::{Dtype, tensor::Metadata};

use super::{
    error::ImportError,
    stored::{Element, StoredTensor, contiguous},
};

/// Longest header; the format's own bound.
const MAX_HEADER: u64 = 100_000_000;

/// Whether the file begins as a safetensors file does: with the length of a header, and its bracket.
pub(super) fn is_safetensors(mut file: &File, length: u64) -> io::Result<bool> {
    let mut head = Vec::new();
    file.rewind()?;
    file.take(9).read_to_end(&mut head)?;
    let header = head.first_chunk().map(|length| u64::from_le_bytes(*length));
    Ok(head.get(8) == Some(&b'{') && header.is_some_and(|header| header <= MAX_HEADER.min(length)))
}

/// Where every tensor lies, by its name.
///
/// # Errors
/// A header that is none, or that names bytes which the file lacks.
pub(super) fn tensors(path: &Path, file: &File, length: u64) -> Result<BTreeMap<String, StoredTensor>, ImportError> {
    let (metadata, start) = header(file, length)
        .map_err(|problem| ImportError::unreadable(path, format!("is not a safetensors file: {problem}")))?;
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        let stored = StoredTensor {
            element: element(info.dtype),
            start: start + from as u64,
            length: (to - from) as u64,
            offset: 0,
            shape: info.shape.clone(),
            strides: contiguous(&info.shape),
        };
        (name, stored)
    });
    Ok(tensors.collect())
}

/// The header, whose offsets follow each other and fit the shapes, and where the tensors' bytes begin.
fn header(mut file: &File, length: u64) -> Result<(Metadata, u64), String> {
    let text = |error: io::Error| error.to_string();
    let mut size = [0; 8];
    file.rewind().map_err(text)?;
    file.read_exact(&mut size).map_err(text)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER || size > length {
        return Err(format!("a header of {size} bytes in a file of {length}"));
    }
    let mut header = Vec::new();
    file.take(size).read_to_end(&mut header).map_err(text)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    let start = 8 + size;
    let expected = start.checked_add(metadata.data_len() as u64);
    if expected != Some(length) {
        let described = expected.map_or_else(|| "more than any file has".to_owned(), |bytes| bytes.to_string());
        return Err(format!("the file has {length} bytes, its header describes {described}"));
    }
    Ok((metadata, start))
}

fn element(dtype: Dtype) -> Element {
    let name = match dtype {
        Dtype::F16 => return Element::F16,
        Dtype::BF16 => return Element::Bf16,
        Dtype::F32 => return Element::F32,
        Dtype::F64 => return Element::F64,
        Dtype::BOOL => "bool",
        Dtype::U8 => "u8",
        Dtype::I8 => "i8",
        Dtype::U16 => "u16",
        Dtype::I16 => "i16",
        Dtype::U32 => "u32",
        Dtype::I32 => "i32",
        Dtype::U64 => "u64",
        Dtype::I64 => "i64",
        Dtype::C64 => "c64",
        _ => "smaller than 16 bits",
    };
    Element::Other { name, bytes: (dtype.bitsize() / 8) as u64 }
}
