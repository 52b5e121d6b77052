//! Encode and Decode: a film into its grid, the grid into a picture.

use raygen_e2e::{Server, TestResult};
use raygen_proto::v1::{
    DecodeRequest, EncodeRequest, ImageFormat, ScoreRequest, encode_request, encode_response,
    score_request::{Message, ScoreConfig, ScoreItem, score_item},
    score_response::Event,
};

use crate::pictures::{as_image, decode, film_at, films, png_texts, psnr};

/// In dB, for the mean over some validation films as the server reduces them.
const LEAST_MEAN_PSNR: f64 = 27.0;
/// In dB, for a single film reduced here, by another filter than the server's.
const LEAST_PSNR: f64 = 22.0;

#[tokio::test]
async fn films_that_it_never_learned_from_come_back_nearly_as_they_were() -> TestResult {
    let wire = Server::shared()?.wire().await?;
    let mut messages = vec![ScoreRequest {
        message: Some(Message::Config(ScoreConfig { mask_ratios: vec![1.0], ..ScoreConfig::default() })),
    }];
    for (path, impression) in films(8)? {
        let target = Some(score_item::Target::Image(as_image(&path)?));
        let item = ScoreItem { id: path.display().to_string(), impression, target, ..ScoreItem::default() };
        messages.push(ScoreRequest { message: Some(Message::Item(item)) });
    }
    let events = wire.score(messages).await?;
    let decibels: Vec<f64> = (events.iter())
        .filter_map(|event| match event {
            Event::Item(item) => item.reconstruction_psnr,
            _ => None,
        })
        .collect();
    let mean = decibels.iter().sum::<f64>() / 8.0;
    assert!(decibels.len() == 8 && mean >= LEAST_MEAN_PSNR, "{mean:.2} dB, the mean of {decibels:.2?}");
    Ok(())
}

#[tokio::test]
async fn a_film_is_recognised_in_what_its_grid_decodes_to() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let model = wire.model().await?;
    for (path, _) in films(3)? {
        let input = Some(encode_request::Input::Image(as_image(&path)?));
        let request = EncodeRequest { input, include_reconstruction: true, ..EncodeRequest::default() };
        let (grid, reconstruction) = wire.encode(request).await?;
        assert_eq!(
            (grid.height, grid.width, grid.mask_token_id),
            (model.grid_height, model.grid_width, model.codebook_size)
        );
        let reconstruction = reconstruction.ok_or("no reconstruction")?;
        let texts = png_texts(&reconstruction.data)?;
        assert!(texts.iter().any(|(_, text)| text.contains("Synthetic")), "{texts:?}");

        let decoded = wire.decode(DecodeRequest { grid: Some(grid), ..DecodeRequest::default() }).await?;
        let (reconstruction, decoded) = (decode(&reconstruction.data)?, decode(&decoded.data)?);
        assert_eq!(reconstruction.pixels, decoded.pixels, "Encode and Decode disagree");
        let film = film_at(&path, model.image_size)?;
        let found = psnr(&film, &decoded)?;
        assert!(found > LEAST_PSNR, "{}: {found:.1} dB", path.display());
    }
    Ok(())
}

#[tokio::test]
async fn the_same_film_has_the_same_grid_in_every_lossless_form() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let (path, _) = films(1)?.remove(0);
    let pixels = image::open(&path)?.to_luma8();
    let mut png = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut png, image::ImageFormat::Png)?;
    let as_png =
        raygen_proto::v1::Image { format: ImageFormat::Png.into(), data: png.into_inner(), ..Default::default() };
    let as_raw = raygen_proto::v1::Image {
        format: ImageFormat::Raw.into(),
        data: pixels.as_raw().clone(),
        width: pixels.width(),
        height: pixels.height(),
        bit_depth: 8,
    };
    let mut grids = Vec::new();
    for image in [as_png, as_raw] {
        let input = Some(encode_request::Input::Image(image));
        grids.push(wire.encode(EncodeRequest { input, ..EncodeRequest::default() }).await?.0);
    }
    assert_eq!(grids[0], grids[1]);
    Ok(())
}

#[tokio::test]
async fn an_impression_is_embedded_token_by_token() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let mut values = Vec::new();
    for text in ["Pulmonary edema.", "Pneumonia."] {
        let input = Some(encode_request::Input::Impression(text.to_owned()));
        let request = EncodeRequest { input, ..EncodeRequest::default() };
        let mut stream = wire.raygen.clone().encode(request).await?.into_inner();
        let message = stream.message().await?.ok_or("no event")?;
        let Some(encode_response::Event::Embedding(embedding)) = message.event else {
            return Err("no embedding".into());
        };
        assert_eq!(embedding.values.len(), (embedding.token_count * embedding.width) as usize);
        assert_eq!(embedding.tokens.len(), embedding.token_count as usize);
        assert!(embedding.values.iter().all(|value| value.is_finite()));
        values.push(embedding.values);
    }
    assert_ne!(values[0], values[1]);
    Ok(())
}
