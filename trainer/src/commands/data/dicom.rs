//! `data prepare dicom`.

use std::path::PathBuf;

use clap::Args;
use raygen_trainer::prepare::dicom::{self, Bits, DicomOptions, Ids};
use raygen_trainer::prepare::{PrepareError, Report, TextOptions, ViewKind, Views};

use super::common::{Output, Text};

/// Where the salt is looked for in the environment.
const SALT: &str = "RAYGEN_SALT";

/// A folder of DICOM files.
#[derive(Args)]
pub(super) struct Dicom {
    /// The folder; those below it are looked into.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where the PNG files go.
    #[arg(long, value_name = "DIR")]
    images_out: PathBuf,
    /// Pixels of the shorter side of larger films [default: all stay].
    #[arg(long, value_name = "PX")]
    size: Option<usize>,
    /// Bits of the PNG files.
    #[arg(long, default_value = "8", value_parser = ["8", "16"])]
    bits: String,
    /// A secret that identifiers are hashed with [default: the environment's RAYGEN_SALT, where it stays out of the list of
    /// processes and the shell's history]. The same salt gives the same names.
    #[arg(long, value_name = "SECRET", conflicts_with = "keep_ids")]
    salt: Option<String>,
    /// Write Patient IDs into the manifest as they are, also where RAYGEN_SALT is set.
    #[arg(long)]
    keep_ids: bool,
    /// A table of texts: SOPInstanceUID or path, impression, and where known findings and labels.
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Views to keep, of AP, PA, FRONTAL and LATERAL; a film whose view is not known is kept [default: all].
    #[arg(long, value_delimiter = ',')]
    views: Vec<ViewKind>,
    /// Keep films whose files say that words are burned into the picture: look at them before anybody else does.
    #[arg(long)]
    keep_burned_in: bool,
    /// What the column source says.
    #[arg(long, default_value = "")]
    source: String,
    /// What the column licence says.
    #[arg(long, default_value = "")]
    licence: String,
    #[command(flatten)]
    text: Text,
    #[command(flatten)]
    output: Output,
}

impl Dicom {
    pub(super) fn run(self) -> (Result<Report, PrepareError>, Output) {
        // The command line counts before the environment, which may be set for other archives.
        let ids = match self.salt.or_else(|| std::env::var(SALT).ok()) {
            _ if self.keep_ids => Ids::Kept,
            Some(salt) => Ids::Hashed(salt),
            None => return (Err(PrepareError::no_salt()), self.output),
        };
        let options = DicomOptions {
            root: self.root,
            images_out: self.images_out,
            size: self.size,
            bits: if self.bits == "16" { Bits::Sixteen } else { Bits::Eight },
            ids,
            texts: self.texts,
            views: (!self.views.is_empty()).then_some(Views(self.views)),
            keep_burned_in: self.keep_burned_in,
            text: self.text.over(TextOptions::default()),
            source: self.source,
            licence: self.licence,
        };
        (dicom::prepare(&options, &self.output.target()), self.output)
    }
}
