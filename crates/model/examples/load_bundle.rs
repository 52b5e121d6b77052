//! Loads a bundle as a server does, but for the warm-up: `load_bundle BUNDLE` prints seconds and memory as JSON.

use std::{error::Error, time::Instant};

use candle_core::{DType, Device};
use raygen_model::{bundle::Bundle, model::Model};
use serde_json::json;

// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: load_bundle BUNDLE")?;
    let began = Instant::now();
    let bundle = Bundle::open(path)?;
    let verified = began.elapsed();
    let model = Model::load(&bundle, &Device::Cpu, DType::F32)?;
    println!(
        "{}",
        json!({
            "parameters": model.info().parameter_count,
            "verify_seconds": verified.as_secs_f64(),
            "load_seconds": began.elapsed().as_secs_f64(),
        })
    );
    Ok(())
}
