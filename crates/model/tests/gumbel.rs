//! taming-transformers' Gumbel VQ-GAN: which id a latent has, and its files.

mod golden_support;

use std::{error::Error, fs, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use golden_support::{TestResult, floats, golden, ids};
use raygen_model::{
    import::{self, Architecture, Tensors},
    vqgan::{QuantiserKind, VqGan, VqGanConfig},
};
use raygen_nn::Parameters;

/// As small as the importer's 32 groups allow.
fn config() -> VqGanConfig {
    VqGanConfig {
        channels: 32,
        channel_multipliers: vec![1, 1],
        residual_blocks: 1,
        attention_resolutions: Vec::new(),
        resolution: 8,
        in_channels: 1,
        out_channels: 1,
        z_channels: 2,
        embed_dim: 2,
        codebook_size: 3,
        norm_groups: 32,
        quantiser: QuantiserKind::Gumbel,
    }
}

const PROJECT: &str = "model:
  base_learning_rate: 4.5e-06
  target: taming.models.vqgan.GumbelVQ
  params:
    kl_weight: 1.0e-08
    embed_dim: 2
    n_embed: 3
    monitor: val/rec_loss
    temperature_scheduler_config:
      target: taming.lr_scheduler.LambdaWarmUpCosineScheduler
      params: { warm_up_steps: 0, max_decay_steps: 1000001 }
    ddconfig:
      double_z: false
      z_channels: 2
      resolution: 8
      in_channels: 1
      out_ch: 1
      ch: 32
      ch_mult: [1, 1]
      num_res_blocks: 1
      attn_resolutions: [7, 24]
      dropout: 0.0
    lossconfig:
      target: taming.modules.losses.vqperceptual.DummyLoss
data: { target: main.DataModuleFromConfig }
lightning: { trainer: { benchmark: true } }
";

/// Random but for the quantiser: the score of code 0 is -2x, of code 1 it is y + 1/2, of code 2 it is x - y.
fn tensors() -> Result<Tensors, Box<dyn Error>> {
    let parameters = Parameters::initialised(3, &Device::Cpu);
    VqGan::new(&config(), parameters.builder(DType::F32))?;
    let named = parameters.named().into_iter().map(|(name, variable)| Ok((name, variable.as_tensor().copy()?)));
    let mut tensors = named.collect::<candle_core::Result<Tensors>>()?;
    let mut set = |name: &str, values: &[f32], shape: &[usize]| -> TestResult {
        tensors.insert(name.to_owned(), Tensor::from_slice(values, shape, &Device::Cpu)?);
        Ok(())
    };
    set("quantize.proj.weight", &[-2.0, 0.0, 0.0, 1.0, 1.0, -1.0], &[3, 2, 1, 1])?;
    set("quantize.proj.bias", &[0.0, 0.5, 0.0], &[3])?;
    set("quantize.embed.weight", &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0], &[3, 2])?;
    Ok(tensors)
}

/// The two files in a folder of their own.
fn files(tensors: Tensors, project: &str) -> Result<(tempfile::TempDir, PathBuf, PathBuf), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (checkpoint, yaml) = (folder.path().join("gumbel.safetensors"), folder.path().join("project.yaml"));
    candle_core::safetensors::save(&tensors.into_iter().collect(), &checkpoint)?;
    fs::write(&yaml, project)?;
    Ok((folder, checkpoint, yaml))
}

#[test]
fn the_id_is_that_of_the_highest_score_and_its_code_a_row_of_the_table() -> TestResult {
    let vqgan =
        VqGan::new(&config(), VarBuilder::from_tensors(tensors()?.into_iter().collect(), DType::F32, &Device::Cpu))?;
    // Three places, (x, y) = (-1, 0), (0, 1), (2, 0): scores (2, 0.5, -1), (0, 1.5, -1), (-4, 0.5, 2).
    let latent = Tensor::new(&[[[[-1f32, 0.0, 2.0]], [[0.0, 1.0, 0.0]]]], &Device::Cpu)?;
    let grid = vqgan.nearest(&latent)?;
    assert_eq!((grid.dims(), ids(&grid)?), ([1, 1, 3].as_slice(), vec![0, 1, 2]));
    let codes = vqgan.codes(&grid)?;
    assert_eq!((codes.dims(), floats(&codes)?), ([1, 2, 1, 3].as_slice(), vec![10.0, 30.0, 50.0, 20.0, 40.0, 60.0]));
    Ok(())
}

#[test]
fn a_gumbel_project_imports_whatever_else_it_says() -> TestResult {
    let (_folder, checkpoint, yaml) = files(tensors()?, PROJECT)?;
    let imported = import::vqgan(&checkpoint, &yaml)?;
    let expected = VqGanConfig { attention_resolutions: vec![7, 24], ..config() };
    assert_eq!(imported.config, expected);
    assert!(imported.passed_over.is_empty(), "{:?}", imported.passed_over);
    let names = import::list_tensors(&checkpoint)?;
    assert_eq!(Architecture::of(names.iter().map(|tensor| tensor.name.as_str())), Some(Architecture::GumbelVqGan));
    Ok(())
}

#[test]
fn a_project_of_the_other_kind_is_refused_by_its_field() -> TestResult {
    let (_folder, checkpoint, yaml) = files(tensors()?, &PROJECT.replace("GumbelVQ", "VQModel"))?;
    let message = import::vqgan(&checkpoint, &yaml).err().ok_or("imported")?.to_string();
    assert!(message.contains("model.target") && message.contains("`quantize.embed.weight`"), "{message}");

    let yaml = fs::read_to_string(golden("vqgan_project.yaml"))?.replace("VQModel", "GumbelVQ");
    let (_folder, _, yaml) = files(Tensors::new(), &yaml)?;
    let message = import::vqgan(&golden("vqgan.ckpt"), &yaml).err().ok_or("imported")?.to_string();
    assert!(message.contains("GumbelVQ") && message.contains("`quantize.embedding.weight`"), "{message}");
    Ok(())
}

#[test]
fn widths_that_taming_cannot_score_are_refused() -> TestResult {
    let (_folder, checkpoint, yaml) = files(tensors()?, &PROJECT.replace("embed_dim: 2", "embed_dim: 3"))?;
    let message = import::vqgan(&checkpoint, &yaml).err().ok_or("imported")?.to_string();
    assert!(
        message.contains("project.yaml") && message.contains("embed_dim") && message.contains("z_channels 2"),
        "{message}"
    );
    Ok(())
}

#[test]
fn bundles_of_nearest_codes_say_nothing_of_the_kind() -> TestResult {
    let nearest = VqGanConfig { quantiser: QuantiserKind::Nearest, ..config() };
    let written = serde_json::to_value(&nearest)?;
    assert!(written.get("quantiser").is_none(), "{written}");
    assert_eq!(serde_json::from_value::<VqGanConfig>(written)?, nearest);
    let written = serde_json::to_value(config())?;
    assert_eq!(written["quantiser"], "gumbel");
    assert_eq!(serde_json::from_value::<VqGanConfig>(written)?, config());
    Ok(())
}
