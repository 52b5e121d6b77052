//! The command line of the trainer.
#![forbid(unsafe_code)]

mod commands;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::{Parser, Subcommand};
use raygen_model::transformer::View;
use raygen_trainer::config::RunConfig;
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};
use raygen_trainer::{sheet, status};

// glibc maps every block over 32 MiB afresh, which costs training more than all its arithmetic.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains RayGen models: films and impressions in, bundles out.
#[derive(Parser)]
#[command(name = "raygen-trainer", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs all stages of a configuration; goes on where an earlier run stopped. The bundle is DIR/bundle.
    Run {
        /// The run's TOML file.
        config: PathBuf,
        /// The run directory [default: runs/NAME, NAME from the configuration].
        #[arg(long)]
        out: Option<PathBuf>,
        /// Where to compute: auto, cpu, cuda or cuda:N.
        #[arg(long, default_value = "auto")]
        device: String,
        /// Several devices, a rank each, that train together: cuda:0,cuda:1 (a build with the feature `nccl`) or cpu,cpu. Each
        /// takes `batch` films of a step, so two do what one does with twice the batch.
        #[arg(long, value_delimiter = ',', conflicts_with = "device")]
        devices: Vec<String>,
    },
    /// Says what a run will take, before it takes anything: parameters, memory, disk, steps, time. Estimates, all of them.
    Plan(commands::plan::Plan),
    /// Says how far a run is.
    Status {
        /// The run directory.
        directory: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes manifests of archives.
    Data(commands::data::Data),
    /// Makes a bundle of checkpoints that other programs wrote, without running anything in them.
    Import(commands::import::Import),
    /// Says what a bundle or a checkpoint holds.
    Inspect(commands::inspect::Inspect),
    /// Judges models, or pictures from anywhere, against real films.
    Evaluate(commands::evaluate::Evaluate),
    /// Makes a synthetic film for each impression of a manifest.
    Generate(commands::generate::Generate),
    /// Draws samples of a bundle, a row for each impression, the same seeds in each row.
    Sheet {
        /// The bundle.
        bundle: PathBuf,
        /// An impression; give it again for more rows.
        #[arg(long = "impression", required = true)]
        impressions: Vec<String>,
        /// Pictures of each impression.
        #[arg(long, default_value_t = 8)]
        samples: u32,
        /// Pictures a row of the sheet [default: all samples of an impression].
        #[arg(long)]
        columns: Option<usize>,
        #[command(flatten)]
        sampling: commands::sampling::Sampling,
        /// View [default: the model's, if it knows views]: AP, PA, lateral or frontal.
        #[arg(long)]
        view: Option<View>,
        /// The PNG to write.
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run { config, out, device, devices } => {
            let stop = StopSignal::install().context("signal handler")?;
            let config = RunConfig::read(&config)?;
            let out = out.unwrap_or_else(|| Path::new("runs").join(&config.name));
            let devices = if devices.is_empty() { vec![device] } else { devices };
            let devices = devices.iter().map(|name| device_named(name)).collect::<Result<Vec<_>>>()?;
            let outcome = stages::run_on(&config, &out, &devices, &stop)?;
            // 130 is what a shell expects of a program that was interrupted.
            Ok(if outcome == Outcome::Done { ExitCode::SUCCESS } else { ExitCode::from(130) })
        }
        Command::Plan(plan) => plan.run(device_named).map(|()| ExitCode::SUCCESS),
        Command::Status { directory, json } => {
            let report = status::read(&directory)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print!("{report}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Data(data) => data.run().map(|()| ExitCode::SUCCESS),
        Command::Import(import) => import.run(),
        Command::Inspect(inspect) => inspect.run().map(|()| ExitCode::SUCCESS),
        Command::Evaluate(evaluate) => evaluate.run(device_named),
        Command::Generate(generate) => generate.run(device_named),
        Command::Sheet { bundle, impressions, samples, columns, sampling, view, out } => {
            sheet::draw(&bundle, &impressions, samples, columns, view, &sampling.into(), &out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `auto` is CUDA where this build and machine have it, else the CPU.
fn device_named(name: &str) -> Result<Device> {
    let cuda = |index: usize| {
        Device::new_cuda(index).with_context(|| {
            format!("device cuda:{index}: is this a build with the feature `cuda`, and is there a GPU?")
        })
    };
    match name {
        "auto" => Ok(Device::cuda_if_available(0)?),
        "cpu" => Ok(Device::Cpu),
        "cuda" => cuda(0),
        other => match other.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
            Some(index) => cuda(index),
            None => bail!("--device {other}: give auto, cpu, cuda or cuda:N"),
        },
    }
}
