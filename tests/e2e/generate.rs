//! Generate: what comes back, and that the same seed gives the same tokens whoever else is there.

use raygen_e2e::{Server, TestResult, impression};
use raygen_proto::v1::{GenerateRequest, ImageFormat, OutputOptions, PreviewMode, Sampler, SamplingParams};

use crate::pictures::{decode, holds, png_texts};

/// In so few steps that a test of many pictures is soon done.
fn quick(text: &str, seed: u64) -> GenerateRequest {
    let sampling = SamplingParams { seed: Some(seed), step_count: Some(5), ..SamplingParams::default() };
    GenerateRequest { sampling: Some(sampling), ..impression(text) }
}

/// In as many steps as the model asks for.
fn seeded(text: &str, seed: u64) -> GenerateRequest {
    GenerateRequest {
        sampling: Some(SamplingParams { seed: Some(seed), ..SamplingParams::default() }),
        ..impression(text)
    }
}

#[tokio::test]
async fn the_grid_fills_step_by_step_into_a_picture_that_says_it_is_synthetic() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let model = wire.model().await?;
    let generated = wire.generate(seeded("Pneumonia with pleural effusion.", 7)).await?;
    assert_eq!((generated.admitted.model.as_str(), generated.admitted.seed), (model.name.as_str(), 7));

    let positions = (model.grid_height * model.grid_width) as usize;
    let refinement = model.default_sampling.and_then(|sampling| sampling.refinement).unwrap_or(0.0);
    let mut undecided = positions;
    for (_, progress) in &generated.progress {
        let grid = progress.grid.as_ref().ok_or("a step without its grid")?;
        assert_eq!((grid.height, grid.width, grid.token_ids.len()), (model.grid_height, model.grid_width, positions));
        let now = grid.token_ids.iter().filter(|id| **id == model.codebook_size).count();
        // While the grid is filled nothing is taken back; refinement hides at most a part of it again.
        let filling = f64::from(progress.step) < f64::from(progress.step_count) * (1.0 - f64::from(refinement));
        assert!(
            now <= if filling { undecided } else { positions * 3 / 4 },
            "step {}: {now} of {undecided}",
            progress.step
        );
        undecided = now;
    }
    let last = generated.progress.last().map(|(_, progress)| (progress.step, progress.step_count));
    assert!(last.is_some_and(|(step, count)| step == count), "the last step was {last:?}");
    assert_eq!(undecided, 0);

    assert_eq!(generated.samples.len(), 1);
    let sample = &generated.samples[0];
    let grid = sample.grid.as_ref().ok_or("no grid")?;
    assert!(grid.token_ids.iter().all(|id| *id < model.codebook_size));
    let image = sample.image.as_ref().ok_or("no picture")?;
    let picture = decode(&image.data)?;
    let side = model.image_size as usize;
    assert_eq!((picture.width, picture.height, image.format()), (side, side, ImageFormat::Png));
    let texts = png_texts(&image.data)?;
    assert!(texts.iter().any(|(_, text)| text.contains("Synthetic")), "{texts:?}");
    assert!(texts.iter().any(|(keyword, text)| keyword == "Seed" && text == "7"), "{texts:?}");
    assert!(
        texts.iter().all(|(_, text)| !text.to_lowercase().contains("pneumonia")),
        "the impression is in the picture"
    );
    Ok(())
}

#[tokio::test]
async fn without_refinement_a_token_that_was_decided_stays() -> TestResult {
    let wire = Server::shared()?.wire().await?;
    let mut request = seeded("Pulmonary edema.", 7);
    request.sampling = request.sampling.map(|sampling| SamplingParams { refinement: Some(0.0), ..sampling });
    let generated = wire.generate(request).await?;
    let mask_id = wire.model().await?.codebook_size;
    let mut before: Option<Vec<u32>> = None;
    for (_, progress) in &generated.progress {
        let ids = progress.grid.as_ref().ok_or("a step without its grid")?.token_ids.clone();
        if let Some(before) = before {
            assert!(before.iter().zip(&ids).all(|(then, now)| *then == mask_id || then == now));
        }
        before = Some(ids);
    }
    assert!(before.is_some_and(|ids| !ids.contains(&mask_id)));
    Ok(())
}

#[tokio::test]
async fn the_same_seed_gives_the_same_tokens_alone_and_amid_others() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let request = seeded("Pulmonary edema.", 1234);
    let alone = wire.generate(request.clone()).await?;

    let long = "Pulmonary edema, pleural effusion, infiltrates, pleural thickening and pneumonia.";
    let mut neighbours = Vec::new();
    for (text, seed, steps, count, sampler) in [
        (long, 1, 5, 2, Sampler::Maskgit),
        ("Pneumonia.", 2, 9, 1, Sampler::Halton),
        ("Atelectasis.", 3, 3, 3, Sampler::Published),
        ("Pulmonary edema.", 4, 16, 1, Sampler::Unspecified),
    ] {
        let sampling = SamplingParams {
            seed: Some(seed),
            step_count: Some(steps),
            sampler: sampler.into(),
            ..SamplingParams::default()
        };
        let request = GenerateRequest { sampling: Some(sampling), sample_count: count, ..impression(text) };
        let wire = server.wire().await?;
        neighbours.push(tokio::spawn(async move { wire.generate(request).await.map(|_| ()) }));
    }
    let amid = wire.generate(request).await?;
    for neighbour in neighbours {
        neighbour.await??;
    }
    assert_eq!(alone.samples[0].grid, amid.samples[0].grid);
    assert_eq!(alone.samples[0].image.as_ref().map(|i| &i.data), amid.samples[0].image.as_ref().map(|i| &i.data));
    Ok(())
}

#[tokio::test]
async fn a_sample_is_the_same_whatever_the_number_of_samples_and_the_previews() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let one = wire.generate(quick("Cardiomegaly.", 55)).await?;
    let output = OutputOptions {
        preview_mode: PreviewMode::Decoded.into(),
        include_confidence: true,
        ..OutputOptions::default()
    };
    let three =
        wire.generate(GenerateRequest { sample_count: 3, output: Some(output), ..quick("Cardiomegaly.", 55) }).await?;
    assert_eq!(three.samples.len(), 3);
    assert_eq!(one.samples[0].grid, three.samples[0].grid);
    assert_ne!(three.samples[0].grid, three.samples[1].grid);
    assert_ne!(three.samples[1].grid, three.samples[2].grid);
    let previews = three.progress.iter().filter(|(_, progress)| progress.preview.is_some()).count();
    assert!(previews > 0, "no preview came of {} steps", three.progress.len());
    let confident = three.progress.iter().all(|(_, progress)| {
        let positions = progress.grid.as_ref().map_or(0, |grid| grid.token_ids.len());
        progress.confidence.len() == positions && progress.confidence.iter().all(|c| (0.0..=1.0).contains(c))
    });
    assert!(confident, "confidence is missing, or outside [0, 1]");
    Ok(())
}

#[tokio::test]
async fn different_seeds_and_different_impressions_give_different_pictures() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let first = wire.generate(quick("Pulmonary edema, pleural effusion and pneumonia.", 1)).await?;
    let seed = wire.generate(quick("Pulmonary edema, pleural effusion and pneumonia.", 2)).await?;
    let text = wire.generate(quick("No acute cardiopulmonary abnormality.", 1)).await?;
    assert_ne!(first.samples[0].grid, seed.samples[0].grid);
    assert_ne!(first.samples[0].grid, text.samples[0].grid);
    // Without a seed the server draws one, and another the next time.
    let drawn = wire.generate(impression("Pulmonary edema.")).await?;
    let again = wire.generate(impression("Pulmonary edema.")).await?;
    assert_ne!(drawn.admitted.seed, again.admitted.seed);
    let repeated = wire.generate(seeded("Pulmonary edema.", drawn.admitted.seed)).await?;
    assert_eq!(drawn.samples[0].grid, repeated.samples[0].grid);
    Ok(())
}

#[tokio::test]
async fn every_format_says_that_the_picture_is_synthetic() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let side = wire.model().await?.image_size;
    let formatted = |format: ImageFormat| GenerateRequest {
        output: Some(OutputOptions { image_format: format.into(), ..OutputOptions::default() }),
        ..quick("Pneumonia.", 3)
    };
    let jpeg = wire.generate(formatted(ImageFormat::Jpeg)).await?.samples.remove(0).image.ok_or("no picture")?;
    assert_eq!(jpeg.format(), ImageFormat::Jpeg);
    assert!(holds(&jpeg.data, b"Synthetic chest X-ray"), "no comment in the JPEG");
    assert_eq!(decode(&jpeg.data)?.width, side as usize);
    let dicom = wire.generate(formatted(ImageFormat::Dicom)).await?.samples.remove(0).image.ok_or("no picture")?;
    assert_eq!(dicom.format(), ImageFormat::Dicom);
    assert_eq!(dicom.data.get(128..132), Some(b"DICM".as_slice()));
    // Synthetic Data (0008,001C), CS, "YES ".
    assert!(holds(&dicom.data, b"\x08\x00\x1c\x00CS\x04\x00YES"), "Synthetic Data is not YES");
    let raw = wire.generate(formatted(ImageFormat::Raw)).await?.samples.remove(0).image.ok_or("no picture")?;
    assert_eq!((raw.format(), raw.data.len()), (ImageFormat::Raw, (side * side) as usize));
    Ok(())
}

#[tokio::test]
async fn words_that_the_model_was_not_trained_on_come_back() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let generated = wire.generate(impression("Pneumonia and a zebra on the left.")).await?;
    let unsupported = generated.admitted.unsupported_terms;
    assert!(unsupported.iter().any(|term| term == "zebra"), "{unsupported:?}");
    assert!(!unsupported.iter().any(|term| term.eq_ignore_ascii_case("pneumonia")), "{unsupported:?}");
    let known = wire.generate(impression("Pneumonia.")).await?;
    assert!(known.admitted.unsupported_terms.is_empty(), "{:?}", known.admitted.unsupported_terms);
    Ok(())
}
