//! `raygen-trainer plan`: what a run will take, before it takes anything.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use clap::Args;
use raygen_trainer::config::RunConfig;
use raygen_trainer::plan;

/// The run to plan.
#[derive(Args)]
pub(crate) struct Plan {
    /// The run's TOML file.
    config: PathBuf,
    /// The run directory [default: runs/NAME, NAME from the configuration].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to time: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Time no steps: nothing is computed, and no time is told.
    #[arg(long)]
    no_measure: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Prints the plan. Nothing is written.
    pub(crate) fn run(self, device_named: impl FnOnce(&str) -> Result<Device>) -> Result<()> {
        let config = RunConfig::read(&self.config)?;
        let out = self.out.unwrap_or_else(|| Path::new("runs").join(&config.name));
        let device = if self.no_measure { None } else { Some(device_named(&self.device)?) };
        let plan = plan::Plan::make(&config, &out, device.as_ref())?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&plan)?);
        } else {
            print!("{plan}");
        }
        Ok(())
    }
}
