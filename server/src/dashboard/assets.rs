//! The page's files, built from `client/web` and compiled in: nothing is read from disk, nothing loaded from elsewhere.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// One file of the page.
#[derive(Debug)]
pub(super) struct Asset {
    path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) plain: &'static [u8],
    /// The same, compressed once, the first time that anybody asks for any file.
    pub(super) gzip: Vec<u8>,
    /// Strong entity tag of `plain`, quotes included; that of `gzip` ends in `-gzip`.
    tag: String,
}

static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    [
        Asset::new("/", "text/html; charset=utf-8", include_bytes!("../../dashboard/index.html")),
        Asset::new("/app.js", "text/javascript; charset=utf-8", include_bytes!("../../dashboard/app.js")),
        Asset::new("/app.css", "text/css; charset=utf-8", include_bytes!("../../dashboard/app.css")),
        Asset::new("/favicon.svg", "image/svg+xml", include_bytes!("../../dashboard/favicon.svg")),
    ]
});

/// The file at a path, if there is one.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

// === impl Asset ===

impl Asset {
    fn new(path: &'static str, content_type: &'static str, plain: &'static [u8]) -> Self {
        Self { path, content_type, plain, gzip: compress(plain), tag: digest(plain) }
    }

    /// The entity tag of one of its two forms.
    pub(super) fn tag(&self, gzip: bool) -> String {
        format!("\"{}{}\"", self.tag, if gzip { "-gzip" } else { "" })
    }
}

fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail; were it to, the plain form is sent.
    encoder.write_all(plain).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// Half of the SHA-256, in hexadecimal digits.
fn digest(plain: &[u8]) -> String {
    Sha256::digest(plain).iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_its_own_files_and_nothing_elsewhere() {
        let page = std::str::from_utf8(find("/").expect("the page").plain).expect("text");
        for link in page.split(['"', '\'']).filter(|part| part.starts_with("./")) {
            assert!(find(link.trim_start_matches('.')).is_some(), "{link} is not served");
        }
        assert!(!page.contains("http://") && !page.contains("https://"), "something comes from elsewhere");
    }

    #[test]
    fn the_whole_page_is_under_300_kb_compressed() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(bytes > 1000 && bytes < 300_000, "{bytes} bytes");
    }
}
