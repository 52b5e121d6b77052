//! What `proofs/gpu/*.sh` run on a GPU, and anybody on a CPU: `device_proof determinism|speed|ranks ...`. Each prints a line of JSON for each
//! figure and fails if one is not what is promised; `passed` is null of a figure that is information.

mod determinism;
mod ranks;
mod speed;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};

// The trainer's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: device_proof determinism BUNDLE DEVICE DTYPE [SEEDS]
       device_proof speed CONFIG DEVICE [BATCH ...]
       device_proof ranks DEVICE,DEVICE,...";

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} figures are not what is promised");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["determinism", bundle, name, dtype, seeds @ ..] => {
            let seeds = seeds.first().map_or(Ok(4), |count| count.parse()).context("a number of seeds")?;
            determinism::prove(bundle, &device(name)?, self::dtype(dtype)?, seeds)
        }
        ["speed", config, name, batches @ ..] => {
            let batches = batches.iter().map(|batch| batch.parse()).collect::<Result<Vec<usize>, _>>();
            speed::measure(config.as_ref(), &device(name)?, &batches.context("numbers of films")?).map(|()| 0)
        }
        ["ranks", names] => ranks::prove(&names.split(',').map(device).collect::<Result<Vec<_>>>()?),
        _ => bail!(USAGE),
    }
}

fn device(name: &str) -> Result<Device> {
    match name.split_once(':') {
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => Ok(Device::new_cuda(0)?),
        Some(("cuda", number)) => Ok(Device::new_cuda(number.parse().context("the number of a GPU")?)?),
        _ => bail!("device {name}: give cpu, cuda or cuda:N"),
    }
}

fn dtype(name: &str) -> Result<DType> {
    match name {
        "f32" => Ok(DType::F32),
        "bf16" => Ok(DType::BF16),
        "f16" => Ok(DType::F16),
        other => bail!("dtype {other}: give f32, bf16 or f16"),
    }
}
