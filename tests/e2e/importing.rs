//! Other people's checkpoints: imported by the real `raygen-trainer`, served by the real server, and what comes over the wire
//! is what the published code made of them.

use std::{fs, path::Path};

use raygen_e2e::{Server, TestResult, impression, repository, trainer};
use raygen_proto::v1::{GenerateRequest, Sampler, SamplingParams};
use safetensors::{Dtype, SafeTensors};

use crate::pictures::decode;

/// Random weights in the layouts that people have, and what PyTorch computes with them.
const GOLDEN: &str = "crates/model/tests/golden/end_to_end";

fn golden(name: &str) -> String {
    repository(GOLDEN).join(name).to_string_lossy().into_owned()
}

fn import(here: &Path, out: &str) -> TestResult<raygen_e2e::Ran> {
    trainer(
        here,
        [
            "import",
            "--transformer",
            &golden("raygen.ckpt"),
            "--vqgan",
            &golden("vqgan.ckpt"),
            "--vqgan-config",
            &golden("vqgan_project.yaml"),
            "--text-encoder",
            &golden("cxr_bert"),
            "--heads",
            "4",
            "--out",
            out,
        ],
    )
}

/// The elements of a golden tensor.
fn tensor(bytes: &[u8], name: &str) -> TestResult<Vec<f64>> {
    let file = SafeTensors::deserialize(bytes)?;
    let view = file.tensor(name)?;
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        Dtype::I64 => data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as f64).collect(),
        other => return Err(format!("{name} is of {other:?}").into()),
    })
}

#[tokio::test]
async fn imported_checkpoints_make_the_published_tokens_and_pictures() -> TestResult {
    let folder = tempfile::tempdir()?;
    let ran = import(folder.path(), "bundle")?;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    for said in ["4 (--heads)", "weights are those inside raygen.ckpt", "2 layers, 4 heads", "passed over"] {
        assert!(ran.out.contains(said), "{said:?} is not in: {}", ran.out);
    }

    let bundle = folder.path().join("bundle").to_string_lossy().into_owned();
    let server = Server::start(["--device", "cpu", "--models", &bundle])?;
    let wire = server.wire().await?;
    let request: serde_json::Value = serde_json::from_slice(&fs::read(golden("request.json"))?)?;
    let expected = fs::read(golden("expected.safetensors"))?;
    let (tokens, pictures) = (tensor(&expected, "tokens")?, tensor(&expected, "image")?);
    let prompts = request["prompts"].as_array().ok_or("no prompts")?;
    let (positions, pixels) = (tokens.len() / prompts.len(), pictures.len() / prompts.len() / 3);
    for (row, prompt) in prompts.iter().enumerate() {
        // The bundle's own defaults are the published ones, but for the temperature: greedy, so without noise.
        let sampling = SamplingParams { temperature: Some(0.0), seed: Some(1), ..SamplingParams::default() };
        let text = prompt.as_str().ok_or("a prompt that is no text")?;
        let generated = wire.generate(GenerateRequest { sampling: Some(sampling), ..impression(text) }).await?;
        let sample = generated.samples.first().ok_or("no sample")?;
        let ids: Vec<f64> = sample.grid.iter().flat_map(|grid| &grid.token_ids).map(|id| f64::from(*id)).collect();
        assert_eq!(ids, tokens[row * positions..][..positions], "tokens of {text:?}");

        let picture = decode(&sample.image.as_ref().ok_or("no picture")?.data)?;
        let expected = &pictures[row * 3 * pixels..][..3 * pixels];
        assert_eq!(picture.pixels.len(), pixels);
        for (place, found) in picture.pixels.iter().enumerate() {
            // Films are gray: the server gives the mean of the three channels.
            let mean = (0..3).map(|channel| expected[channel * pixels + place]).sum::<f64>() / 3.0;
            let difference = (f64::from(*found) * 255.0 - mean * 255.0).abs();
            assert!(difference <= 1.0, "{text:?}, pixel {place}: {found} instead of {mean}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_imported_model_samples_as_published_unless_asked_otherwise() -> TestResult {
    let folder = tempfile::tempdir()?;
    assert_eq!(import(folder.path(), "bundle")?.code, 0);
    let bundle = folder.path().join("bundle").to_string_lossy().into_owned();
    let server = Server::start(["--device", "cpu", "--models", &bundle])?;
    let model = server.wire().await?.model().await?;
    let sampling = model.default_sampling.ok_or("no defaults")?;
    assert_eq!((sampling.sampler(), sampling.step_count), (Sampler::Published, Some(3)));
    assert_eq!((sampling.temperature, sampling.top_k_filter), (Some(1.3), Some(0.5)));
    assert_eq!((model.max_text_tokens, model.codebook_size, model.image_size), (256, 1024, 128));
    Ok(())
}

#[test]
fn an_import_that_fails_names_the_file_and_leaves_nothing_behind() -> TestResult {
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    let whole = fs::read(golden("raygen.ckpt"))?;
    fs::write(here.join("torn.ckpt"), &whole[..whole.len() / 2])?;
    let refused = |words: &[&str], said: &[&str]| -> TestResult {
        let ran = trainer(here, [&["import", "--out", "bundle"], words].concat())?;
        assert_ne!(ran.code, 0, "{}", ran.out);
        assert!(
            said.iter().all(|said| ran.err.contains(said)) && !ran.err.contains("panicked"),
            "{said:?}: {}",
            ran.err
        );
        Ok(())
    };
    let (vqgan, yaml) = (golden("vqgan.ckpt"), golden("vqgan_project.yaml"));
    refused(&["--transformer", "torn.ckpt"], &["torn.ckpt"])?;
    refused(&["--transformer", "absent.ckpt"], &["absent.ckpt", "No such file"])?;
    refused(&["--transformer", &vqgan], &["holds a taming VQ-GAN", "give it with --vqgan"])?;
    refused(&["--transformer", &golden("raygen.ckpt"), "--heads", "7"], &["raygen.ckpt", "heads", "64"])?;
    refused(
        &["--vqgan", &golden("raygen.ckpt"), "--vqgan-config", &yaml],
        &["raygen.ckpt", "give it with --transformer"],
    )?;
    refused(&["--vqgan", &vqgan, "--vqgan-config", &vqgan], &["vqgan.ckpt", "YAML"])?;
    refused(&["--vqgan", &vqgan], &["--vqgan-config"])?;
    refused(&["--text-encoder", &vqgan], &["vqgan.ckpt", "is a file"])?;
    refused(&[], &["--transformer", "--vqgan", "--text-encoder"])?;
    let left: Vec<_> = fs::read_dir(here)?.collect::<Result<_, _>>()?;
    assert_eq!(left.len(), 1, "besides torn.ckpt: {left:?}");
    Ok(())
}
