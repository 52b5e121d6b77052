//! One scored item: its film as a grid, its masks, and its likelihood under a text.

use std::sync::Arc;

use raygen_model::image::Picture;
use raygen_model::random::{Purpose, Randomness, shuffle};
use raygen_model::text::TextTokens;
use raygen_model::transformer::View;
use raygen_proto::v1::score_request::ScoreItem;
use raygen_proto::v1::score_request::score_item::Target;

use super::Text;
use super::config::Config;
use crate::api::encode::grid_of;
use crate::api::errors::{ApiError, Reason, Violation};
use crate::api::validate::{self, Violations};
use crate::api::{Api, Deadline, decode, picture};
use crate::engine::{LoadedModel, RowScore, ScoreRow, Work, score_rows};

/// Longest name of an item, in bytes.
const MAX_ID_BYTES: usize = 256;
/// A reconstruction without any error would be infinitely good; decibels are counted up to here.
const MOST_DECIBELS: f64 = 100.0;

/// An item that is in order.
pub(super) struct Prepared {
    pub(super) id: String,
    pub(super) text: Text,
    key: u64,
    film: Source,
}

enum Source {
    Picture(Picture),
    Grid(Vec<u32>),
}

/// A film as a grid, with its masks.
pub(super) struct Film {
    pub(super) id: String,
    view: Option<View>,
    ids: Vec<u32>,
    /// Masked positions for each ratio.
    masks: Vec<Vec<usize>>,
    pub(super) psnr: Option<f64>,
}

/// A film and its likelihood under its own impression, for each ratio.
pub(super) struct Matched {
    pub(super) film: Film,
    pub(super) right: Vec<RowScore>,
}

/// Checks an item; reads its picture off the runtime.
pub(super) async fn prepare(api: &Api, config: &Config, index: u64, item: ScoreItem) -> Result<Prepared, ApiError> {
    let (model, limits) = (Arc::clone(&config.model), api.limits);
    let holds_picture = matches!(item.target, Some(Target::Image(_)));
    api.checking(holds_picture, move || check(index, item, &model, &limits))
        .await
        .map_err(|error| in_item(index, error))
}

fn check(
    index: u64,
    item: ScoreItem,
    model: &LoadedModel,
    limits: &raygen_model::image::DecodeLimits,
) -> Result<Prepared, ApiError> {
    let info = model.info();
    let mut violations = Violations::default();
    if item.id.len() > MAX_ID_BYTES {
        let description = format!("has {} bytes; at most {MAX_ID_BYTES} are allowed", item.id.len());
        violations.add("item.id", Reason::FieldInvalid, description);
    }
    let tokens = violations.keep(validate::impression("item.impression", &item.impression, model));
    let view = violations.keep(validate::view_of_film("item.view", item.view, model)).flatten();
    let film = match &item.target {
        None => {
            violations.add("item.target", Reason::FieldInvalid, "is missing; send an image or a grid");
            None
        }
        Some(Target::Grid(grid)) => violations.keep(validate::grid("item.grid", grid, info, false)).map(Source::Grid),
        Some(Target::Image(image)) => {
            violations.keep(validate::has(info.has_vqgan, "VQ-GAN", model));
            violations.keep(picture::read_prepared("item.image", image, info.image_size, limits)).map(Source::Picture)
        }
    };
    violations.finish()?;
    match (tokens, film) {
        (Some(tokens), Some(film)) => {
            let key = key_of(&item.id, index);
            Ok(Prepared { id: item.id, text: Text { text: item.impression, tokens, view }, key, film })
        }
        _ => Err(ApiError::Internal("a wrong field was not refused".to_owned())),
    }
}

/// Says which item is wrong, after which field.
fn in_item(index: u64, error: ApiError) -> ApiError {
    match error {
        ApiError::Invalid(violations) => {
            let named = |v: Violation| Violation::new(v.field, v.reason, format!("{} (item {index})", v.description));
            ApiError::Invalid(violations.into_iter().map(named).collect())
        }
        other => other,
    }
}

/// Encodes the film where it is a picture, and scores it under its own impression.
pub(super) async fn matched(
    api: &Api,
    config: &Config,
    deadline: Deadline,
    prepared: Prepared,
) -> Result<Matched, ApiError> {
    let Prepared { id, text, key, film } = prepared;
    let (ids, psnr) = match film {
        Source::Grid(ids) => (ids, None),
        Source::Picture(picture) => {
            let original = picture.clone();
            let ids = grid_of(api, api.engine.enter(Work::ONE).await?, &config.model, deadline, picture).await?;
            let ticket = api.engine.enter(Work::ONE).await?;
            let decoded = decode::one(api, ticket, &config.model, deadline, ids.clone()).await?;
            (ids, psnr(&original, &decoded))
        }
    };
    let masks = config.mask_ratios.iter().map(|ratio| mask(ids.len(), *ratio, config.seed, key)).collect();
    let film = Film { id, view: text.view, ids, masks, psnr };
    let right = under(api, config, deadline, &film, text.tokens).await?;
    Ok(Matched { film, right })
}

/// The likelihood of a film under a text, for each ratio, in one forward pass.
pub(super) async fn under(
    api: &Api,
    config: &Config,
    deadline: Deadline,
    film: &Film,
    tokens: TextTokens,
) -> Result<Vec<RowScore>, ApiError> {
    let rows: Vec<ScoreRow> =
        film.masks.iter().map(|masked| ScoreRow { ids: film.ids.clone(), masked: masked.clone(), text: 0 }).collect();
    let ticket = api.engine.enter(Work::ONE).await?;
    let view = film.view;
    let work = move |model: &LoadedModel| score_rows(model, &[tokens], view, &rows);
    Ok(api.engine.call(ticket, Arc::clone(&config.model), deadline.instant(), work).await?)
}

/// Positions to mask: the same for the same seed and item, whatever the model, and those of a small ratio are among
/// those of a larger one.
fn mask(positions: usize, ratio: f32, seed: u64, key: u64) -> Vec<usize> {
    let count = (f64::from(ratio) * positions as f64).round().max(1.0) as usize;
    let mut order: Vec<usize> = (0..positions).collect();
    shuffle(&mut Randomness::new(seed, Purpose::ScoreMask).stream(key, 0), &mut order);
    order.truncate(count);
    order
}

/// What keys an item's randomness: its name, or its place where it has none.
pub(super) fn key_of(id: &str, index: u64) -> u64 {
    if id.is_empty() {
        return index;
    }
    // FNV-1a: fixed for ever, which the standard library's hashers are not.
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Peak signal-to-noise ratio in dB of pictures in [0, 1].
fn psnr(original: &Picture, decoded: &Picture) -> Option<f64> {
    if original.pixels.len() != decoded.pixels.len() || original.pixels.is_empty() {
        return None;
    }
    let squares = original.pixels.iter().zip(&decoded.pixels).map(|(a, b)| f64::from(a - b).powi(2));
    let error = squares.sum::<f64>() / original.pixels.len() as f64;
    Some((-10.0 * error.log10()).min(MOST_DECIBELS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_depend_on_the_seed_and_the_item_only_and_grow_with_the_ratio() {
        let key = key_of("film-1", 0);
        assert_eq!(key, key_of("film-1", 9), "a name counts, not its place");
        let half = mask(16, 0.5, 1, key);
        assert_eq!(half.len(), 8);
        assert_eq!(half, mask(16, 0.5, 1, key));
        assert_ne!(half, mask(16, 0.5, 2, key));
        assert_ne!(half, mask(16, 0.5, 1, key_of("film-2", 0)));
        assert!(mask(16, 0.25, 1, key).iter().all(|position| half.contains(position)));
        assert_eq!(mask(16, 1e-9, 1, key).len(), 1, "at least one");
    }

    #[test]
    fn decibels_of_a_known_error() {
        let of = |value: f32| Picture { width: 2, height: 1, pixels: vec![value; 2] };
        let decibels = psnr(&of(0.5), &of(0.6)).expect("defined");
        assert!((decibels - 20.0).abs() < 1e-4, "{decibels}");
        assert_eq!(psnr(&of(0.5), &of(0.5)), Some(MOST_DECIBELS));
    }
}
