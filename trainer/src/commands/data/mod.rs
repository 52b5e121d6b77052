//! `raygen-trainer data prepare`: a manifest of an archive as its publisher lays it out.

mod common;
mod dicom;
mod mimic;
mod sources;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};

use common::Output;

/// Films and their texts.
#[derive(Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a manifest of an archive, and says what was kept and what was not.
    Prepare {
        #[command(subcommand)]
        source: Source,
    },
}

#[derive(Subcommand)]
enum Source {
    /// MIMIC-CXR-JPG: its tables, images and reports.
    Mimic(mimic::Mimic),
    /// Indiana University's films (Open-i), as tables or as XML.
    Openi(sources::Openi),
    /// NIH ChestX-ray14; impressions are templates made of its labels.
    Nih(sources::Nih),
    /// Any CSV table with a row for each film.
    Csv(sources::Csv),
    /// A folder of DICOM files: they are written as PNG, and patients are hashed.
    Dicom(dicom::Dicom),
}

impl Data {
    /// Prepares, and prints the report.
    pub(crate) fn run(self) -> Result<()> {
        let Command::Prepare { source } = self.command;
        let (report, output): (_, Output) = match source {
            Source::Mimic(mimic) => mimic.run(),
            Source::Openi(openi) => openi.run(),
            Source::Nih(nih) => nih.run(),
            Source::Csv(csv) => csv.run(),
            Source::Dicom(dicom) => dicom.run(),
        };
        // Its text tells its causes already.
        let report = report.map_err(|error| anyhow!("{error}"))?;
        if output.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{report}");
            println!("wrote {}", report.manifest.display());
        }
        Ok(())
    }
}
