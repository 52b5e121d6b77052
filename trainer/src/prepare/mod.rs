//! Manifests of other people's archives: each source is read as its publisher lays it out, and ends as a contract
//! manifest with a report of what was kept and what was not.
//!
//! A source decides what it keeps; [`Target`] says where the manifest goes, how many films it may have and how patients
//! are dealt to splits where the source does not say. Nothing is changed in the archive.

pub mod any_csv;
pub mod dicom;
mod dicom_texts;
mod entry;
mod error;
mod files;
mod labels;
pub mod mimic;
pub mod nih;
pub mod openi;
mod output;
mod report;
mod section;
mod split;
mod table;
mod text;
mod view;

pub use entry::Entry;
pub use error::PrepareError;
pub use output::Target;
pub use report::{Dropped, Reason, Report};
pub use split::SplitRule;
pub use text::{Extraction, TextOptions};
pub use view::{ViewKind, Views};
