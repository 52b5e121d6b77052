//! How long it takes, with random weights: a forward step of the transformer, a decode, a whole picture, a training step.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use raygen_model::sampler::{self, SampleState, SamplingParams};
use raygen_model::transformer::{Context, Transformer};
use raygen_model::vqgan::VqGan;
use raygen_nn::Parameters;
use raygen_trainer::config::{ComputeType, RunConfig};
use raygen_trainer::stages::tokenizer::network_config;
use raygen_trainer::stages::transformer::{Shapes, trial::Trial};
use serde_json::json;

/// Rows of a forward step.
const ROWS: [usize; 3] = [1, 4, 16];
/// Steps of a picture.
const PICTURE_STEPS: u32 = 8;
/// Word pieces of the vocabulary.
const WORDS: usize = 30_522;
/// Runs before those that count, and those.
const RUNS: (usize, usize) = (3, 10);

/// Networks of one type of numbers.
struct Networks<'a> {
    transformer: Transformer,
    vqgan: VqGan,
    text: usize,
    device: &'a Device,
    dtype: DType,
}

/// Measures the networks of `config`; training at each of `batches` films a step, or as many as the configuration says.
pub(super) fn measure(config: &Path, device: &Device, batches: &[usize]) -> Result<()> {
    let config = RunConfig::read(config)?;
    for dtype in [DType::F32, DType::BF16] {
        let networks = Networks::new(&config, device, dtype)?;
        for rows in ROWS {
            let context = networks.context(rows)?;
            networks.time("transformer_forward", rows, || networks.logits(rows, &context).map(drop))?;
        }
        networks.time("decode", 1, || networks.decode().map(drop))?;
        networks.time("picture", 1, || networks.picture())?;
    }
    let own = [config.transformer.batch];
    for (dtype, compute) in [(DType::F32, ComputeType::F32), (DType::BF16, ComputeType::Bf16)] {
        for films in if batches.is_empty() { &own } else { batches } {
            let mut run = config.clone();
            run.transformer.dtype = compute;
            let mut trial = Trial::new(&run, *films, (run.transformer.text.max_tokens, WORDS), device)?;
            timed("training_step", dtype, *films, device, || trial.step())?;
        }
    }
    Ok(())
}

impl<'a> Networks<'a> {
    fn new(config: &RunConfig, device: &'a Device, dtype: DType) -> Result<Self> {
        let vqgan = network_config(config);
        let shapes = Shapes::new(config, &vqgan, WORDS);
        let builder = || Parameters::initialised(0, device).builder(dtype);
        Ok(Self {
            transformer: Transformer::new(&shapes.transformer, builder())?,
            vqgan: VqGan::new(&vqgan, builder())?,
            text: config.transformer.text.max_tokens,
            device,
            dtype,
        })
    }

    fn context(&self, rows: usize) -> Result<Context> {
        let width = self.transformer.config().text_width();
        let features = Tensor::randn(0f32, 1f32, (rows, self.text, width), self.device)?.to_dtype(self.dtype)?;
        let mask = Tensor::ones((rows, self.text), DType::F32, self.device)?;
        Ok(self.transformer.context(&features, &mask)?)
    }

    fn grid(&self, rows: usize) -> Result<Tensor> {
        Ok(Tensor::zeros((rows, self.vqgan.config().positions()), DType::U32, self.device)?)
    }

    fn logits(&self, rows: usize, context: &Context) -> Result<Tensor> {
        Ok(self.transformer.logits(&self.grid(rows)?, context)?)
    }

    fn decode(&self) -> Result<Tensor> {
        let side = self.vqgan.config().grid_side();
        Ok(self.vqgan.decode(&self.grid(1)?.reshape((1, side, side))?)?)
    }

    /// From the states of a text to pixels on the host.
    fn picture(&self) -> Result<()> {
        let params = SamplingParams { step_count: PICTURE_STEPS, refinement: 0.0, ..SamplingParams::default() };
        let (positions, side) = (self.vqgan.config().positions(), self.vqgan.config().grid_side());
        let mask = u32::try_from(self.vqgan.config().codebook_size)?;
        let mut state = SampleState::new(positions, mask, 0).with_width(side);
        let context = self.context(1)?;
        for _ in 0..PICTURE_STEPS {
            let ids = Tensor::from_slice(&state.ids, (1, positions), self.device)?;
            let logits = self.transformer.logits(&ids, &context)?.to_dtype(DType::F32)?;
            sampler::advance(&mut state, &params, &logits.flatten_all()?.to_vec1::<f32>()?)?;
        }
        let ids = Tensor::from_slice(&state.ids, (1, side, side), self.device)?;
        let pixels = self.vqgan.decode(&ids)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        anyhow::ensure!(pixels.iter().all(|pixel| pixel.is_finite()), "a pixel is no number");
        Ok(())
    }

    fn time(&self, figure: &str, rows: usize, work: impl FnMut() -> Result<()>) -> Result<()> {
        timed(figure, self.dtype, rows, self.device, work)
    }
}

/// Runs `work` some times, each until the device is done, and tells the median.
fn timed(figure: &str, dtype: DType, rows: usize, device: &Device, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let mut once = || -> Result<f64> {
        let begun = Instant::now();
        work()?;
        device.synchronize()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    for _ in 0..RUNS.0 {
        once()?;
    }
    let mut seconds = (0..RUNS.1).map(|_| once()).collect::<Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    let (median, least, most) = (seconds[RUNS.1 / 2], seconds[0], seconds[RUNS.1 - 1]);
    let dtype = format!("{dtype:?}").to_lowercase();
    println!(
        "{}",
        json!({
            "figure": figure, "dtype": dtype, "rows": rows, "seconds": median, "least": least, "most": most,
            "rows_per_second": rows as f64 / median,
        })
    );
    Ok(())
}
