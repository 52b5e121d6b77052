//! The default bundle as bytes, and nothing else.

#![forbid(unsafe_code)]

/// Name and bytes of each file of `models/default`; empty when the program was built without that directory.
pub fn files() -> &'static [(&'static str, &'static [u8])] {
    include!(concat!(env!("OUT_DIR"), "/files.rs"))
}
