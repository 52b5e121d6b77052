//! Generate on a canvas: only what is masked changes.

use raygen_e2e::{Server, TestResult, impression};
use raygen_proto::v1::{
    Canvas, EncodeRequest, GenerateRequest, Image, ImageFormat, SamplingParams, TokenGrid, canvas, encode_request,
};

use crate::pictures::{as_image, films};

fn on(canvas: Canvas) -> GenerateRequest {
    let sampling = SamplingParams { seed: Some(5), ..SamplingParams::default() };
    GenerateRequest { canvas: Some(canvas), sampling: Some(sampling), ..impression("Pleural effusion.") }
}

/// Positions that differ.
fn changed(a: &TokenGrid, b: &TokenGrid) -> Vec<usize> {
    (0..a.token_ids.len()).filter(|place| a.token_ids.get(*place) != b.token_ids.get(*place)).collect()
}

#[tokio::test]
async fn only_the_masked_half_of_a_film_is_made_anew() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let (film, _) = films(1)?.remove(0);
    let input = Some(encode_request::Input::Image(as_image(&film)?));
    let (original, _) = wire.encode(EncodeRequest { input, ..EncodeRequest::default() }).await?;

    // White on the lower half.
    let mask = Image { format: ImageFormat::Raw.into(), data: vec![0, 0, 255, 255], width: 2, height: 2, bit_depth: 8 };
    let source = Some(canvas::Source::Image(as_image(&film)?));
    let edited = wire.generate(on(Canvas { source, mask: Some(mask), strength: None })).await?;
    let edited = edited.samples[0].grid.clone().ok_or("no grid")?;
    let changed = changed(&original, &edited);
    let half = original.token_ids.len() / 2;
    assert!(!changed.is_empty(), "nothing changed");
    assert!(changed.iter().all(|place| *place >= half), "a position of the upper half changed");
    Ok(())
}

#[tokio::test]
async fn undecided_positions_of_a_grid_are_filled_and_strength_bounds_the_change() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let base = wire.generate(impression("Pneumonia.")).await?.samples.remove(0).grid.ok_or("no grid")?;

    let mut holed = base.clone();
    holed.token_ids[3] = holed.mask_token_id;
    let source = Some(canvas::Source::Grid(holed));
    let filled = wire.generate(on(Canvas { source, ..Canvas::default() })).await?;
    let filled = filled.samples[0].grid.clone().ok_or("no grid")?;
    assert!(filled.token_ids[3] < base.mask_token_id);
    assert!(changed(&base, &filled).iter().all(|place| *place == 3));

    let source = Some(canvas::Source::Grid(base.clone()));
    let varied = wire.generate(on(Canvas { source, mask: None, strength: Some(0.25) })).await?;
    let varied = varied.samples[0].grid.clone().ok_or("no grid")?;
    let count = changed(&base, &varied).len();
    assert!((1..=base.token_ids.len() / 4).contains(&count), "{count} positions changed");
    Ok(())
}
