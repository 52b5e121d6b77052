//! Walking a DICOM file: the elements of its data set as slices of the file, nothing allocated for what it declares.
//!
//! The parser of dicom-object reserves and clears as many bytes as an element declares, up to 4 GiB, before it reads
//! them, and recurses into nested sequences: neither is fit for bytes from a stranger. This walk does neither.

use std::collections::BTreeMap;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};

use crate::image::ImageError;

use super::corrupt;

const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);
/// A length that says: up to the delimiter.
const UNDEFINED: u32 = u32::MAX;
/// Value representations whose length has 32 bits.
const LONG: [&[u8; 2]; 13] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

/// The elements of a file up to its pixel data, those of sequences left out.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    /// The UID of its transfer syntax.
    pub(super) transfer_syntax: String,
    /// Whether numbers have their high byte first.
    pub(super) big_endian: bool,
    values: BTreeMap<Tag, &'a [u8]>,
    pub(super) pixels: Option<Pixels<'a>>,
}

/// The pixel data as they stand in the file.
#[derive(Debug)]
pub(super) enum Pixels<'a> {
    /// Uncompressed.
    Native(&'a [u8]),
    /// Compressed, in pieces; the offset table is left out.
    Fragments(Vec<&'a [u8]>),
}

/// How elements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Encoding {
    explicit: bool,
    big_endian: bool,
}

impl Encoding {
    const EXPLICIT: Self = Self { explicit: true, big_endian: false };
    const IMPLICIT: Self = Self { explicit: false, big_endian: false };
}

impl<'a> Elements<'a> {
    /// Walks a whole file.
    pub(super) fn of_file(bytes: &'a [u8]) -> Result<Self, ImageError> {
        // Some files lack the 128 bytes before "DICM".
        let start = if bytes.starts_with(b"DICM") { 0 } else { 128 };
        Self::read(bytes.get(start..).unwrap_or_default())
    }

    /// Walks a file that starts at "DICM".
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let mut walk = Walk { bytes, at: 0 };
        if walk.take(4)? != b"DICM" {
            return Err(corrupt("it does not start with DICM"));
        }
        let transfer_syntax = walk.meta()?;
        let encoding = match transfer_syntax.as_str() {
            "1.2.840.10008.1.2" => Encoding::IMPLICIT,
            "1.2.840.10008.1.2.2" => Encoding { explicit: true, big_endian: true },
            uid if uid == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => {
                // Unpacks to a thousand times its size.
                return Err(ImageError::DicomUnsupported { what: format!("deflated transfer syntax ({uid})") });
            }
            _ => Encoding::EXPLICIT,
        };
        let mut elements =
            Self { transfer_syntax, big_endian: encoding.big_endian, values: BTreeMap::new(), pixels: None };
        while elements.pixels.is_none() && walk.at < bytes.len() {
            let header = walk.header(encoding)?;
            match (header.tag, header.length) {
                (tags::PIXEL_DATA, UNDEFINED) => elements.pixels = Some(Pixels::Fragments(walk.fragments()?)),
                (tags::PIXEL_DATA, length) => {
                    elements.pixels = Some(Pixels::Native(walk.value(tags::PIXEL_DATA, length)?))
                }
                (_, UNDEFINED) => walk.skip_undefined(header.inside(encoding))?,
                (tag, length) => {
                    elements.values.insert(tag, walk.value(tag, length)?);
                }
            }
        }
        Ok(elements)
    }

    /// An unsigned 16-bit value.
    pub(super) fn unsigned(&self, tag: Tag) -> Option<u16> {
        let pair = self.values.get(&tag)?.first_chunk::<2>()?;
        Some(if self.big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) })
    }

    /// A value without the padding at its ends, in whatever character set it is written.
    pub(super) fn raw(&self, tag: Tag) -> Option<&'a [u8]> {
        let mut value: &'a [u8] = self.values.get(&tag)?;
        while let [b' ' | 0, rest @ ..] | [rest @ .., b' ' | 0] = value {
            value = rest;
        }
        Some(value)
    }

    /// A text without the padding at its ends.
    pub(super) fn text(&self, tag: Tag) -> Option<&'a str> {
        let text = std::str::from_utf8(self.values.get(&tag)?).ok()?;
        Some(text.trim_matches([' ', '\0']))
    }

    /// The first of the numbers written as text.
    pub(super) fn decimal(&self, tag: Tag) -> Option<f64> {
        let first = self.text(tag)?.split('\\').next()?;
        first.trim().parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// Tag, representation and length of an element.
struct Header {
    tag: Tag,
    unknown: bool,
    length: u32,
}

impl Header {
    /// How the inside of this element is written where its length is undefined: a UN is implicit, whatever is around it.
    fn inside(&self, encoding: Encoding) -> Encoding {
        if self.unknown { Encoding::IMPLICIT } else { encoding }
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ImageError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest
            .get(..length)
            .ok_or_else(|| corrupt(format!("{length} bytes are due at byte {}, {} are left", self.at, rest.len())))?;
        self.at += length;
        Ok(taken)
    }

    fn value(&mut self, tag: Tag, length: u32) -> Result<&'a [u8], ImageError> {
        let left = self.bytes.len().saturating_sub(self.at);
        if length as usize > left {
            return Err(corrupt(format!("element {tag} says {length} bytes, {left} are left")));
        }
        self.take(length as usize)
    }

    fn u16(&mut self, encoding: Encoding) -> Result<u16, ImageError> {
        let pair = self.take(2)?;
        Ok(if encoding.big_endian {
            u16::from_be_bytes([pair[0], pair[1]])
        } else {
            u16::from_le_bytes([pair[0], pair[1]])
        })
    }

    fn u32(&mut self, encoding: Encoding) -> Result<u32, ImageError> {
        let (first, second) = (u32::from(self.u16(encoding)?), u32::from(self.u16(encoding)?));
        Ok(if encoding.big_endian { first << 16 | second } else { second << 16 | first })
    }

    fn header(&mut self, encoding: Encoding) -> Result<Header, ImageError> {
        let tag = Tag(self.u16(encoding)?, self.u16(encoding)?);
        // Items and delimiters have no representation in any encoding.
        if !encoding.explicit || tag.0 == 0xfffe {
            return Ok(Header { tag, unknown: false, length: self.u32(encoding)? });
        }
        let representation = self.take(2)?;
        if !representation.iter().all(u8::is_ascii_uppercase) {
            return Err(corrupt(format!("element {tag} has no value representation")));
        }
        let length = if LONG.iter().any(|long| long.as_slice() == representation) {
            self.take(2)?;
            self.u32(encoding)?
        } else {
            u32::from(self.u16(encoding)?)
        };
        Ok(Header { tag, unknown: representation == b"UN", length })
    }

    /// The file meta group, which is explicit little endian always; returns the transfer syntax.
    fn meta(&mut self) -> Result<String, ImageError> {
        let mut transfer_syntax = None;
        while self.bytes.get(self.at..self.at + 2) == Some(&[2, 0]) {
            let header = self.header(Encoding::EXPLICIT)?;
            let value = self.value(header.tag, header.length)?;
            if header.tag == tags::TRANSFER_SYNTAX_UID {
                let text = String::from_utf8_lossy(value);
                transfer_syntax = Some(text.trim_matches([' ', '\0']).to_owned());
            }
        }
        transfer_syntax.ok_or_else(|| corrupt("it has no transfer syntax"))
    }

    /// Passes over the inside of an element of undefined length, however deeply it nests.
    fn skip_undefined(&mut self, encoding: Encoding) -> Result<(), ImageError> {
        let mut open = vec![encoding];
        while let Some(&encoding) = open.last() {
            let header = self.header(encoding)?;
            match (header.tag, header.length) {
                (ITEM_END | SEQUENCE_END, _) => {
                    open.pop();
                }
                (_, UNDEFINED) => open.push(header.inside(encoding)),
                (tag, length) => {
                    self.value(tag, length)?;
                }
            }
        }
        Ok(())
    }

    fn fragments(&mut self) -> Result<Vec<&'a [u8]>, ImageError> {
        let mut fragments = Vec::new();
        loop {
            let header = self.header(Encoding::EXPLICIT)?;
            match header.tag {
                SEQUENCE_END => break,
                ITEM => fragments.push(self.value(ITEM, header.length)?),
                tag => return Err(corrupt(format!("element {tag} stands among the fragments of its pixel data"))),
            }
        }
        if !fragments.is_empty() {
            // The offset table.
            fragments.remove(0);
        }
        Ok(fragments)
    }
}
