//! Bytes of one part of a file, read forward, and never more of them than there are.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

use super::error::PickleError;

/// Longest pickle: the weights themselves lie outside of it.
const MAX_BYTES: u64 = 256 << 20;
/// Longest line of the opcodes that are text.
const MAX_LINE: usize = 64 << 10;

/// A part of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) length: u64,
}

pub(super) struct Input<'a> {
    reader: BufReader<&'a File>,
    region: Region,
    /// Bytes of the region that were read.
    read: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(mut file: &'a File, region: Region) -> Result<Self, PickleError> {
        file.seek(SeekFrom::Start(region.start))?;
        Ok(Self { reader: BufReader::new(file), region, read: 0 })
    }

    /// Bytes that were read so far.
    pub(super) fn position(&self) -> u64 {
        self.read
    }

    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        self.advance(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, PickleError> {
        self.advance(count)?;
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(count).read_to_end(&mut bytes)?;
        if read as u64 == count { Ok(bytes) } else { Err(PickleError::Truncated) }
    }

    pub(super) fn skip(&mut self, count: u64) -> Result<(), PickleError> {
        self.advance(count)?;
        let skipped = std::io::copy(&mut (&mut self.reader).take(count), &mut std::io::sink())?;
        if skipped == count { Ok(()) } else { Err(PickleError::Truncated) }
    }

    /// A line without its end.
    pub(super) fn line(&mut self) -> Result<String, PickleError> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if line.len() == MAX_LINE => {
                    return Err(PickleError::Limit { what: "bytes in a line", limit: MAX_LINE as u64 });
                }
                byte => line.push(byte),
            }
        }
        String::from_utf8(line).map_err(|_| PickleError::damaged("a line is not UTF-8"))
    }

    /// Counts bytes before they are read, so that a length that the file invents takes no memory.
    fn advance(&mut self, count: u64) -> Result<(), PickleError> {
        if count > self.region.length.saturating_sub(self.read) {
            return Err(PickleError::Truncated);
        }
        self.read += count;
        if self.read > MAX_BYTES {
            return Err(PickleError::Limit { what: "bytes in its pickle", limit: MAX_BYTES });
        }
        Ok(())
    }
}
