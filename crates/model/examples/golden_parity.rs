//! Compares the published model on a device and in a type with the golden values: `golden_parity GOLDEN DEVICE DTYPE`.
//!
//! GOLDEN is `crates/model/tests/golden`, DEVICE `cpu` or `cuda`, DTYPE `f32`, `bf16` or `f16`. Prints a line of JSON for each figure and
//! exits with 1 if one is out of its tolerance; `passed` is null of a figure that is information. This is what `proofs/gpu/parity.sh` runs where there is a GPU.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use raygen_model::import::{self, Tensors, TransformerOptions};
use raygen_model::sampler::{SampleState, Sampler, SamplingParams, advance};
use raygen_model::text_encoder::TextEncoder;
use raygen_model::transformer::Transformer;
use raygen_model::vqgan::VqGan;
use raygen_nn::Parameters;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Golden = HashMap<String, Tensor>;

/// Heads and text tokens of the golden transformer (`raygen_config.json`).
const OPTIONS: TransformerOptions = TransformerOptions { heads: 4, max_text_tokens: 16 };

struct Proof {
    golden: PathBuf,
    device: Device,
    dtype: DType,
    failed: usize,
}

/// Largest value of a figure in f32 and in half precision; none where nothing is promised, and the figure is information.
type Tolerance = (f64, Option<f64>);

/// Largest |ours - expected| as a share of the largest |expected|.
///
/// A CUDA matrix product adds in another order than the CPU's; bf16 has 8 bits of precision, which a network of a few layers
/// widens a little.
const LOGITS: Tolerance = (1e-4, Some(5e-2));
const LOSS: Tolerance = (1e-5, Some(2e-2));
/// Training keeps its weights in f32, so gradients are computed and compared in f32 only.
const GRADIENTS: Tolerance = (1e-3, None);
const PICTURES: Tolerance = (1e-4, Some(5e-2));
const STATES: Tolerance = (1e-5, Some(5e-2));
/// Share of positions whose best id may differ.
const ARGMAX: Tolerance = (0.0, Some(0.1));
/// Share of tokens that may differ at the end of a greedy run: in half precision one flipped id changes all later ones.
const TRAJECTORY: Tolerance = (0.0, None);

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} figures are out of their tolerance");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [golden, device, dtype] = arguments.as_slice() else {
        return Err("usage: golden_parity GOLDEN cpu|cuda f32|bf16|f16".into());
    };
    let device = match device.as_str() {
        "cpu" => Device::Cpu,
        "cuda" => Device::new_cuda(0)?,
        other => return Err(format!("device {other}: give cpu or cuda").into()),
    };
    let dtype = match dtype.as_str() {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        "f16" => DType::F16,
        other => return Err(format!("dtype {other}: give f32, bf16 or f16").into()),
    };
    let mut proof = Proof { golden: PathBuf::from(golden), device, dtype, failed: 0 };
    proof.transformer()?;
    proof.gradients()?;
    proof.trajectories()?;
    proof.vqgan()?;
    proof.text_encoder()?;
    Ok(proof.failed)
}

impl Proof {
    fn transformer(&mut self) -> Result<()> {
        let golden = self.read("raygen_expected.safetensors")?;
        let transformer = self.load_transformer()?;
        let context = transformer.context_from_normalised(&self.floats(&golden, "text_features")?, None)?;
        let logits = transformer.logits(&self.ids(&golden, "masked_ids")?, &context)?;
        let every_64th = Tensor::from_vec((0u32..16).map(|index| index * 64).collect(), 16, &self.device)?;
        self.compare(
            "logits",
            &logits.index_select(&every_64th, 1)?,
            pick(&golden, "logits_every_64th_position")?,
            LOGITS,
        )?;
        let loss = self.loss(&golden, &logits)?;
        self.compare("loss", &loss.reshape(1)?, pick(&golden, "loss")?, LOSS)?;
        self.compare_ids("argmax", &logits.argmax(D::Minus1)?, pick(&golden, "logits_argmax")?, ARGMAX)?;
        // The promise of the contract, measured on this device: a row alone against the same row in a batch.
        let alone =
            transformer.context_from_normalised(&self.floats(&golden, "text_features")?.narrow(0, 0, 1)?, None)?;
        let alone = transformer.logits(&self.ids(&golden, "masked_ids")?.narrow(0, 0, 1)?, &alone)?;
        let difference = largest_difference(&alone, &logits.narrow(0, 0, 1)?)?;
        self.say("row_alone_against_in_batch", difference, None);
        Ok(())
    }

    fn gradients(&mut self) -> Result<()> {
        if self.dtype != DType::F32 {
            return Ok(());
        }
        let imported = import::transformer(&self.golden.join("raygen.ckpt"), OPTIONS)?;
        let tensors = imported
            .tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, tensor.to_device(&self.device)?)))
            .collect::<candle_core::Result<Tensors>>()?;
        let parameters = Parameters::from_tensors(tensors)?;
        let transformer = Transformer::new(&imported.config, parameters.builder(DType::F32))?;
        let golden = self.read("raygen_expected.safetensors")?;
        let context = transformer.context_from_normalised(&self.floats(&golden, "text_features")?, None)?;
        let logits = transformer.logits(&self.ids(&golden, "masked_ids")?, &context)?;
        let gradients = self.loss(&golden, &logits)?.backward()?;
        let expected = self.read("gradients_expected.safetensors")?;
        for (name, var) in parameters.named() {
            match (gradients.get(var.as_tensor()), expected.get(&name)) {
                (Some(ours), Some(expected)) => self.compare(&format!("gradient {name}"), ours, expected, GRADIENTS)?,
                (None, None) => {}
                (ours, _) => return Err(format!("{name}: has a gradient: {}", ours.is_some()).into()),
            }
        }
        Ok(())
    }

    /// The training loss, which is computed in f32 whatever the logits are in.
    fn loss(&self, golden: &Golden, logits: &Tensor) -> Result<Tensor> {
        let logits = logits.to_dtype(DType::F32)?.flatten(0, 1)?;
        let targets = self.ids(golden, "ids")?.flatten_all()?;
        let mask = pick(golden, "mask")?.to_dtype(DType::F32)?.to_device(&self.device)?.flatten_all()?;
        Ok(raygen_nn::cross_entropy(&logits, &targets, &mask, 0.0)?)
    }

    fn trajectories(&mut self) -> Result<()> {
        let golden = self.read("raygen_expected.safetensors")?;
        let transformer = self.load_transformer()?;
        let features = self.floats(&golden, "text_features")?;
        for (step_count, alpha) in [(3u32, 0.5f32), (3, 0.9), (8, 0.5), (8, 0.9)] {
            let last = pick(&golden, &format!("greedy_K{step_count}_alpha{alpha}_final"))?;
            let params = SamplingParams {
                sampler: Sampler::Published,
                step_count,
                temperature: 0.0,
                top_k_filter: alpha,
                ..SamplingParams::published()
            };
            let context = transformer.context_from_normalised(&features.narrow(0, 0, 1)?, None)?;
            let mut state = SampleState::new(last.dim(1)?, transformer.config().mask_id(), 0);
            for _ in 0..step_count {
                let grid = Tensor::new(state.ids.as_slice(), &self.device)?.unsqueeze(0)?;
                let logits = transformer.logits(&grid, &context)?.to_dtype(DType::F32)?.flatten_all()?;
                advance(&mut state, &params, &logits.to_vec1::<f32>()?)?;
            }
            let ours = Tensor::new(state.ids.as_slice(), &Device::Cpu)?;
            self.compare_ids(&format!("greedy K={step_count} alpha={alpha}"), &ours, &last.i(0)?, TRAJECTORY)?;
        }
        Ok(())
    }

    fn vqgan(&mut self) -> Result<()> {
        let imported = import::vqgan(&self.golden.join("vqgan.ckpt"), &self.golden.join("vqgan_project.yaml"))?;
        let vqgan = VqGan::new(&imported.config, self.builder(&imported.tensors)?)?;
        let golden = self.read("vqgan_expected.safetensors")?;
        self.compare("latent", &vqgan.latent(&self.floats(&golden, "image")?)?, pick(&golden, "latent")?, PICTURES)?;
        let indices = pick(&golden, "indices")?;
        let encoded = vqgan.encode(&self.floats(&golden, "image")?)?;
        self.compare_ids("indices", &encoded.flatten_all()?, &indices.flatten_all()?, ARGMAX)?;
        let grid = self.ids(&golden, "indices")?.reshape((2, 16, 16))?;
        let picture = vqgan.decode_latent(&vqgan.codes(&grid)?)?;
        self.compare("reconstruction", &picture, pick(&golden, "reconstruction")?, PICTURES)
    }

    fn text_encoder(&mut self) -> Result<()> {
        let imported = import::text_encoder(&self.golden.join("cxr_bert"))?;
        let encoder = TextEncoder::new(&imported.folder.config, self.builder(&imported.tensors)?)?;
        let golden = self.read("cxr_bert_expected.safetensors")?;
        let mask = self.floats(&golden, "attention_mask")?.to_dtype(DType::F32)?;
        let states = encoder.forward(&self.ids(&golden, "input_ids")?, &mask)?;
        self.compare("text states", &states, pick(&golden, "last_hidden_state")?, STATES)
    }

    fn load_transformer(&self) -> Result<Transformer> {
        let imported = import::transformer(&self.golden.join("raygen.ckpt"), OPTIONS)?;
        Ok(Transformer::new(&imported.config, self.builder(&imported.tensors)?)?)
    }

    fn builder(&self, tensors: &Tensors) -> Result<VarBuilder<'static>> {
        let tensors = tensors
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), tensor.to_device(&self.device)?.to_dtype(self.dtype)?)))
            .collect::<candle_core::Result<_>>()?;
        Ok(VarBuilder::from_tensors(tensors, self.dtype, &self.device))
    }

    fn read(&self, name: &str) -> Result<Golden> {
        read(&self.golden.join(name))
    }

    fn floats(&self, golden: &Golden, name: &str) -> Result<Tensor> {
        Ok(pick(golden, name)?.to_device(&self.device)?.to_dtype(self.dtype)?)
    }

    fn ids(&self, golden: &Golden, name: &str) -> Result<Tensor> {
        Ok(pick(golden, name)?.to_dtype(DType::U32)?.to_device(&self.device)?)
    }

    fn compare(&mut self, figure: &str, ours: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<()> {
        if ours.dims() != expected.dims() {
            return Err(format!("{figure}: shape {:?}, expected {:?}", ours.dims(), expected.dims()).into());
        }
        let largest = host(expected)?.iter().fold(0f64, |most, value| most.max(value.abs()));
        let relative = largest_difference(ours, expected)? / largest.max(f64::MIN_POSITIVE);
        self.say(figure, relative, self.allowed(tolerance));
        Ok(())
    }

    fn compare_ids(&mut self, figure: &str, ours: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<()> {
        let (ours, expected) = (host(&ours.flatten_all()?)?, host(&expected.flatten_all()?)?);
        if ours.len() != expected.len() {
            return Err(format!("{figure}: {} ids, expected {}", ours.len(), expected.len()).into());
        }
        let differ = ours.iter().zip(&expected).filter(|(a, b)| a != b).count();
        self.say(figure, differ as f64 / expected.len() as f64, self.allowed(tolerance));
        Ok(())
    }

    fn allowed(&self, (single, half): Tolerance) -> Option<f64> {
        if self.dtype == DType::F32 { Some(single) } else { half }
    }

    fn say(&mut self, figure: &str, value: f64, allowed: Option<f64>) {
        // A NaN is within no tolerance.
        let passed = allowed.map(|allowed| value <= allowed);
        self.failed += usize::from(passed == Some(false));
        let line = serde_json::json!({
            "figure": figure, "dtype": format!("{:?}", self.dtype), "device": format!("{:?}", self.device.location()),
            "value": value, "allowed": allowed, "passed": passed,
        });
        println!("{line}");
    }
}

fn read(path: &Path) -> Result<Golden> {
    candle_core::safetensors::load(path, &Device::Cpu).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn pick<'a>(golden: &'a Golden, name: &str) -> Result<&'a Tensor> {
    golden.get(name).ok_or_else(|| format!("the golden file has no `{name}`").into())
}

fn host(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn largest_difference(ours: &Tensor, expected: &Tensor) -> Result<f64> {
    let (ours, expected) = (host(ours)?, host(expected)?);
    // `max` would pass over a NaN.
    Ok(ours
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0f64, |most, d| if d > most || d.is_nan() { d } else { most }))
}
