//! A film on its way into a manifest.

use std::path::PathBuf;

use raygen_manifest::{Labels, Split, View};

/// One film as a source hands it over.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The picture's file, as this process finds it.
    pub image: PathBuf,
    /// Whose film it is; splits never share one. Empty where nobody knows: the film is then its own patient.
    pub patient: String,
    /// What the source uses it for; by the [`super::SplitRule`] where it does not say.
    pub split: Option<Split>,
    /// How it was taken.
    pub view: Option<View>,
    /// The impression; empty where there is none.
    pub impression: String,
    /// The findings; empty where there are none.
    pub findings: String,
    /// What it shows.
    pub labels: Labels,
    /// Classes of which the source says that nobody can tell; for these `labels` does not hold.
    pub uncertain: Vec<String>,
    /// Where the texts come from; empty where there are none.
    pub text_origin: String,
    /// The collection.
    pub source: String,
    /// Its licence.
    pub licence: String,
}
