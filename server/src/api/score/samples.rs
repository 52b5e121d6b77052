//! Pictures generated for a scored item's impression.

use std::sync::Arc;

use raygen_model::image::{ImageFormat, Provenance};
use raygen_model::random::{Purpose, Randomness, below};
use raygen_model::sampler::SamplingParams;
use raygen_proto::v1::score_response::{Event, GeneratedSample};

use super::config::Config;
use super::{Replying, Stop, Text, item, send as send_event};
use crate::api::encode::token_grid;
use crate::api::errors::ApiError;
use crate::api::{Api, Deadline, blocking, picture};
use crate::engine::{self, Generation, Preview};

/// Seeds are drawn below this.
const SEEDS: usize = 1 << 53;

/// Generates and sends the samples of one item.
pub(super) async fn send(
    api: &Api,
    config: &Config,
    deadline: Deadline,
    (index, id, text): (u64, &str, &Text),
    reply: &Replying,
) -> Result<(), Stop> {
    let model = &config.model;
    let info = model.info();
    let seed = seed_of(config.sampling.seed, item::key_of(id, index));
    let generation = Generation {
        model: Arc::clone(model),
        text: text.tokens.clone(),
        negative: None,
        view: text.view,
        params: SamplingParams { seed, ..config.sampling.clone() },
        starts: vec![vec![info.codebook_size; info.positions()]; config.samples_per_item as usize],
        preview: Preview::None,
        preview_interval: 1,
        include_confidence: false,
        deadline: deadline.instant(),
    };
    let ticket = api.engine.enter(generation.work()).await?;
    let (mut inbox, _) = api.engine.generate_admitted(generation, ticket)?;
    while let Some(envelope) = inbox.next().await {
        let envelope = envelope?;
        let engine::Event::Sample(sample) = envelope.event else {
            continue;
        };
        let sample_index = envelope.sample_index;
        let provenance = Provenance::generated(&model.name, &text.text, seed, sample_index);
        let image = blocking(move || {
            picture::write(&sample.picture, ImageFormat::Png, &provenance).map(|image| (image, sample.ids))
        })
        .await;
        let (image, ids) = image?;
        let grid = Some(token_grid(ids, info));
        let sample = GeneratedSample { id: id.to_owned(), sample_index, grid, image: Some(image) };
        send_event(reply, Event::Sample(sample)).await?;
    }
    Ok::<(), ApiError>(()).map_err(Stop::from)
}

/// A seed of its own for each item, whatever its neighbours.
fn seed_of(seed: u64, key: u64) -> u64 {
    below(&mut Randomness::new(seed, Purpose::ScoreSample).stream(key, 0), SEEDS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_of_pictures_depend_on_seed_and_item_and_have_nothing_of_the_masks() {
        assert_eq!(seed_of(7, 1), seed_of(7, 1));
        assert_ne!(seed_of(7, 1), seed_of(8, 1));
        assert_ne!(seed_of(7, 1), seed_of(7, 2));
        for place in 0..4 {
            let of_masks = below(&mut Randomness::new(7, Purpose::ScoreMask).stream(1, place), SEEDS) as u64;
            assert_ne!(seed_of(7, 1), of_masks);
        }
    }
}
