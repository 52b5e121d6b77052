//! `generate`: a synthetic film for each impression of a manifest.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::Args;
use raygen_manifest::Split;
use raygen_trainer::run::StopSignal;
use raygen_trainer::sheet::Changes;
use raygen_trainer::synthesis::{self, Request};

use super::sampling::Sampling;

/// Generates pictures from a manifest's impressions, with their grids and a manifest of their own. Goes on where it stopped.
#[derive(Args)]
pub(crate) struct Generate {
    /// The bundle.
    bundle: PathBuf,
    /// The manifest whose impressions are generated from.
    #[arg(long)]
    data: PathBuf,
    /// The folder for pictures, grids and their manifest.
    #[arg(long)]
    out: PathBuf,
    /// Only films of this split: train, val or test.
    #[arg(long)]
    split: Option<Split>,
    /// Pictures of each impression.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Only the first so many films.
    #[arg(long)]
    limit: Option<usize>,
    /// Pictures generated at once; changes no picture on the CPU.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    #[command(flatten)]
    sampling: Sampling,
}

impl Generate {
    pub(crate) fn run(self, device_named: impl Fn(&str) -> Result<Device>) -> Result<ExitCode> {
        let stop = StopSignal::install().context("signal handler")?;
        let request = Request {
            bundle: self.bundle,
            manifest: self.data,
            split: self.split,
            samples: self.samples,
            limit: self.limit,
            batch: self.batch,
        };
        let changes = Changes::from(self.sampling);
        let device = device_named(&self.device)?;
        let outcome = synthesis::generate(&request, |defaults| changes.apply(defaults), &device, &stop, &self.out)?;
        if outcome.left_out > 0 {
            eprintln!("{} films have no impression or are lateral: nothing is generated for them", outcome.left_out);
        }
        if !outcome.done {
            eprintln!("{} pictures are there; the same command goes on", outcome.pictures);
            return Ok(ExitCode::from(130));
        }
        println!("{} pictures, {} of them there before: {}", outcome.pictures, outcome.kept, self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}
