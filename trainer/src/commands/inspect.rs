//! `raygen-trainer inspect`: what a bundle or a checkpoint holds.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use raygen_trainer::inspect;

/// A file or bundle to look into.
#[derive(Args)]
pub(crate) struct Inspect {
    /// A bundle, a BERT folder as Hugging Face has it, a .safetensors file, or a PyTorch file (.ckpt, .pth, .pt, .bin).
    path: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    /// Prints what is there.
    pub(crate) fn run(self) -> Result<()> {
        let inspection = inspect::inspect(&self.path)
            // Its text tells its causes already.
            .map_err(|error| anyhow!("{error}"))?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&inspection)?);
        } else {
            print!("{inspection}");
        }
        Ok(())
    }
}
