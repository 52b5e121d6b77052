//! Steps of a stage on noise, timed one by one: `train_steps CONFIG tokenizer|transformer WARM_UP STEPS` prints JSON.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use raygen_trainer::config::RunConfig;
use raygen_trainer::stages::{tokenizer, transformer};
use serde_json::json;

// The trainer's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Word pieces of a text, and of the vocabulary.
const TEXT: (usize, usize) = (16, 64);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, stage, warm_up, steps] = arguments.as_slice() else {
        bail!("usage: train_steps CONFIG tokenizer|transformer WARM_UP STEPS")
    };
    let config = RunConfig::read(config.as_ref())?;
    let device = Device::Cpu;
    let (parameters, films, mut step): (usize, usize, Box<dyn FnMut() -> Result<()>>) = match stage.as_str() {
        "tokenizer" => {
            let films = config.tokenizer.batch;
            let mut trial = tokenizer::trial::Trial::new(&config, films, &device)?;
            (trial.parameters(), films, Box::new(move || trial.step()))
        }
        "transformer" => {
            let films = config.transformer.batch;
            let mut trial = transformer::trial::Trial::new(&config, films, TEXT, &device)?;
            (trial.parameters(), films, Box::new(move || trial.step()))
        }
        other => bail!("{other} is no stage that steps"),
    };
    let mut timed = |count: &str| -> Result<Vec<f64>> {
        let count: usize = count.parse().context("a number of steps")?;
        (0..count)
            .map(|_| {
                let begun = Instant::now();
                step()?;
                Ok(begun.elapsed().as_secs_f64())
            })
            .collect()
    };
    timed(warm_up)?;
    let seconds = timed(steps)?;
    println!("{}", json!({ "stage": stage, "films": films, "parameters": parameters, "seconds": seconds }));
    Ok(())
}
