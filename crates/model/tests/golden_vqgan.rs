//! The VQ-GAN against what taming-transformers computes.

mod golden_support;

use std::error::Error;

use candle_core::DType;
use golden_support::{TestResult, assert_close, expected, floats, golden, ids, pick, weights};
use raygen_model::{import, vqgan::VqGan};

fn load() -> Result<VqGan, Box<dyn Error>> {
    let imported = import::vqgan(&golden("vqgan.ckpt"), &golden("vqgan_project.yaml"))?;
    Ok(VqGan::new(&imported.config, weights(&imported.tensors))?)
}

#[test]
fn the_importer_reads_the_project_file_and_passes_over_losses() -> TestResult {
    let imported = import::vqgan(&golden("vqgan.ckpt"), &golden("vqgan_project.yaml"))?;
    assert_eq!(imported.config.channel_multipliers, [1, 2, 2]);
    assert_eq!((imported.config.grid_side(), imported.config.codebook_size), (16, 64));
    assert_eq!(imported.passed_over, ["loss.discriminator.main.0.weight", "loss.perceptual_loss.lin0.model.1.weight"]);
    Ok(())
}

#[test]
fn latents_match_taming() -> TestResult {
    let golden = expected("vqgan_expected.safetensors")?;
    let latent = load()?.latent(pick(&golden, "image")?)?;
    assert_close("latent", &latent, pick(&golden, "latent")?, 1e-4)
}

#[test]
fn indices_match_taming_unless_two_codes_are_equally_near() -> TestResult {
    let golden = expected("vqgan_expected.safetensors")?;
    let ours = ids(&load()?.encode(pick(&golden, "image")?)?)?;
    let expected = ids(pick(&golden, "indices")?)?;
    let gaps = floats(pick(&golden, "nearest_gap")?)?;
    assert_eq!(ours.len(), expected.len());
    for (place, ((ours, expected), gap)) in ours.iter().zip(&expected).zip(gaps).enumerate() {
        assert!(ours == expected || gap < 1e-5, "place {place}: {ours} instead of {expected}, gap {gap:e}");
    }
    Ok(())
}

#[test]
fn reconstructions_match_taming() -> TestResult {
    let golden = expected("vqgan_expected.safetensors")?;
    let vqgan = load()?;
    // taming's own indices, so that a tie can't hide a difference of the decoder.
    let grid = pick(&golden, "indices")?.to_dtype(DType::U32)?.reshape((2, 16, 16))?;
    let reconstruction = vqgan.decode_latent(&vqgan.codes(&grid)?)?;
    assert_close("reconstruction", &reconstruction, pick(&golden, "reconstruction")?, 1e-4)
}

#[test]
fn decoded_codes_match_taming() -> TestResult {
    let golden = expected("vqgan_expected.safetensors")?;
    let vqgan = load()?;
    let grid = pick(&golden, "codes")?.to_dtype(DType::U32)?.reshape((2, 16, 16))?;
    let decoded = vqgan.decode_latent(&vqgan.codes(&grid)?)?;
    assert_close("decoded codes", &decoded, pick(&golden, "decoded_codes")?, 1e-4)
}
