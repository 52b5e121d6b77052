//! `SHA256SUMS`: the format of `sha256sum`, one file a line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::BundleError;

/// The lower-case hexadecimal SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// The same of everything a reader has, a piece at a time.
pub(super) fn sha256_of(mut reader: impl Read) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a name is that of a file in the bundle's own directory.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0', '\n'])
}

/// File name to digest.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, BundleError> {
    let mut sums = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |problem: &str| BundleError::ChecksumFile { line: index + 1, problem: problem.to_owned() };
        if line.trim().is_empty() {
            continue;
        }
        let (digest, name) = line.split_once("  ").ok_or_else(|| wrong("is not a digest, two spaces and a name"))?;
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong("does not start with a SHA-256 of 64 hexadecimal digits"));
        }
        if !is_plain_name(name) {
            return Err(wrong("names a file outside the bundle"));
        }
        if sums.insert(name.to_owned(), digest.to_ascii_lowercase()).is_some() {
            return Err(wrong("names a file for the second time"));
        }
    }
    Ok(sums)
}

/// The text of a `SHA256SUMS`, files in alphabetical order.
pub(super) fn format(sums: &BTreeMap<String, String>) -> String {
    sums.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let sums = BTreeMap::from([("a.json".to_owned(), sha256(b"a")), ("b".to_owned(), sha256(b""))]);
        assert_eq!(parse(&format(&sums)).unwrap(), sums);
        assert!(format(&sums).contains("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"));
    }

    #[test]
    fn lines_that_are_none_are_refused_by_number() {
        let good = format!("{}  a\n", sha256(b""));
        for bad in
            ["nonsense", "abc  a", &format!("{}  ../a", sha256(b"")), &format!("{}  /etc/a", sha256(b"")), good.trim()]
        {
            let error = parse(&format!("{good}{bad}\n")).unwrap_err();
            assert!(matches!(error, BundleError::ChecksumFile { line: 2, .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn a_stream_has_the_digest_of_its_bytes() {
        let bytes = vec![7u8; 200_000];
        assert_eq!(sha256_of(bytes.as_slice()).unwrap(), sha256(&bytes));
    }
}
