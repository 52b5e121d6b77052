//! Film manifests: a CSV that says which films there are, their splits, impressions and labels.
//!
//! ```csv
//! path,split,patient,impression,labels
//! images/0001.jpg,train,p1,"Pulmonary edema.",Edema
//! images/0002.jpg,val,p2,"No acute cardiopulmonary abnormality.",No Finding
//! ```
//!
//! [`Manifest::read`] checks the whole table before it returns: whatever is wrong is said with the file, the line and
//! the column. [`Manifest::check_files`] checks that the films themselves are there. [`Manifest::split_of`] says what each
//! film is used for, also where the manifest does not.

#![forbid(unsafe_code)]

mod error;
mod film;
mod labels;
mod read;
mod split;

pub use error::ManifestError;
pub use film::{Film, Manifest, Split, View, shows};
pub use labels::{CLASSES, Labels, NO_FINDING};
