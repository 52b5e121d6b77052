//! `evaluate`: models and pictures against real films.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::Args;
use raygen_manifest::Split;
use raygen_trainer::evaluate::{self, Request};
use raygen_trainer::run::StopSignal;
use raygen_trainer::sheet::Changes;

use super::sampling::Sampling;

/// Judges models, or pictures from anywhere, against real films; writes index.html, report.json and measurements.csv.
/// Generates what it must, and goes on where it stopped.
#[derive(Args)]
pub(crate) struct Evaluate {
    /// Bundles to generate from and to judge.
    bundles: Vec<PathBuf>,
    /// Judge the pictures of this folder: those of its manifest.csv, or all in it. Give it again for more.
    #[arg(long)]
    images: Vec<PathBuf>,
    /// The manifest of the real films.
    #[arg(long)]
    data: PathBuf,
    /// The folder of the report.
    #[arg(long)]
    out: PathBuf,
    /// The films that are compared with; those of `train` tell memorised pictures.
    #[arg(long, default_value = "val")]
    split: Split,
    /// Pictures of each impression; 2 and 4 are what the two protocols of likeness need.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Only the first so many impressions.
    #[arg(long)]
    limit: Option<usize>,
    /// The bundle whose classifier gives features and findings [default: that of a judged bundle].
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// Side of the pictures where no bundle says it.
    #[arg(long, default_value_t = 512)]
    image_size: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    #[command(flatten)]
    sampling: Sampling,
}

impl Evaluate {
    pub(crate) fn run(self, device_named: impl Fn(&str) -> Result<Device>) -> Result<ExitCode> {
        let stop = StopSignal::install().context("signal handler")?;
        let changes = Changes::from(self.sampling);
        let request = Request {
            bundles: self.bundles,
            images: self.images,
            manifest: self.data,
            split: self.split,
            samples: self.samples,
            limit: self.limit,
            classifier: self.classifier,
            image_size: self.image_size,
            seed: changes.seed,
        };
        let device = device_named(&self.device)?;
        if !evaluate::evaluate(&request, |defaults| changes.apply(defaults), &device, &stop, &self.out)? {
            eprintln!("stopped; the same command goes on");
            return Ok(ExitCode::from(130));
        }
        println!("{}", self.out.join("index.html").display());
        Ok(ExitCode::SUCCESS)
    }
}
