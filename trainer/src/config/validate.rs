//! What can be wrong with a run is said before anything is computed, not after the hours of an earlier stage.

use super::{OptimiserConfig, RunConfig};
use crate::stages::tokenizer::network_config;
use crate::stages::transformer::Shapes;

/// A key, dotted, and what is wrong with it.
type Problem = (String, String);

/// Stands for the vocabulary, which is known only when the impressions were read.
const SOME_WORDS: usize = 100;

/// Checks every value, and that the networks can be built.
pub(super) fn validate(config: &RunConfig) -> Result<(), Problem> {
    let levels = config.tokenizer.model.channel_multipliers.len();
    require(levels, 1, 8, "tokenizer.model.channel_multipliers", "levels")?;
    let reduction = 1usize << (levels - 1);
    if config.data.image_size == 0 || !config.data.image_size.is_multiple_of(reduction) {
        let problem = format!("must be a multiple of {reduction} for {levels} levels, is {}", config.data.image_size);
        return Err(("data.image_size".to_owned(), problem));
    }
    for (key, value) in [
        ("tokenizer.batch", config.tokenizer.batch),
        ("encode.views", config.encode.views),
        ("transformer.batch", config.transformer.batch),
        ("transformer.model.token_merge", config.transformer.model.token_merge),
    ] {
        require(value, 1, 1 << 20, key, "")?;
    }
    require(config.transformer.text.max_tokens, 3, 8192, "transformer.text.max_tokens", "tokens")?;
    for (stage, cadence) in [("tokenizer", &config.tokenizer.cadence), ("transformer", &config.transformer.cadence)] {
        if cadence.validate_every == 0 || cadence.checkpoint_every == 0 {
            return Err((format!("{stage}.cadence"), "needs at least 1 step between two events".to_owned()));
        }
    }
    share("transformer.condition_dropout", config.transformer.condition_dropout)?;
    share("transformer.label_smoothing", config.transformer.label_smoothing)?;
    share("transformer.code_smoothing", config.transformer.code_smoothing)?;
    if config.transformer.label_smoothing + config.transformer.code_smoothing >= 1.0 {
        let problem = "and label_smoothing must leave something for the right code: their sum must be below 1";
        return Err(("transformer.code_smoothing".to_owned(), problem.to_owned()));
    }
    if config.tokenizer.steps == 0 && config.tokenizer.start_from.is_none() {
        let problem = "must be 1 or more, unless tokenizer.start_from names a bundle to take the tokenizer from";
        return Err(("tokenizer.steps".to_owned(), problem.to_owned()));
    }
    share("tokenizer.codebook_decay", config.tokenizer.codebook_decay)?;
    // A restarted code counts as used once: a threshold above that would restart it again at every step.
    share("tokenizer.restart_below", config.tokenizer.restart_below)?;
    weight("tokenizer.commitment", config.tokenizer.commitment)?;
    weight("tokenizer.structure", config.tokenizer.structure)?;
    optimiser("tokenizer", &config.tokenizer.optimiser)?;
    optimiser("transformer", &config.transformer.optimiser)?;
    networks(config)?;
    let sampling = &config.export.sampling;
    sampling.validate().map_err(|error| {
        (format!("export.{}", error.field), format!("must be {}, is {}", error.allowed, error.found))
    })?;
    if sampling.guidance_scale != 1.0 && config.transformer.condition_dropout == 0.0 {
        let problem = "must be 1 without transformer.condition_dropout: the model would not know the empty text";
        return Err(("export.sampling.guidance_scale".to_owned(), problem.to_owned()));
    }
    Ok(())
}

fn networks(config: &RunConfig) -> Result<(), Problem> {
    let tokenizer = network_config(config);
    let within = |section: &'static str| {
        move |error: raygen_model::config::InvalidConfig| (format!("{section}.{}", error.field), error.problem)
    };
    tokenizer.validate().map_err(within("tokenizer.model"))?;
    let shapes = Shapes::new(config, &tokenizer, SOME_WORDS);
    shapes.transformer.validate().map_err(within("transformer.model"))?;
    shapes.text_encoder.validate().map_err(within("transformer.text"))
}

fn optimiser(stage: &str, optimiser: &OptimiserConfig) -> Result<(), Problem> {
    let key = |name: &str| format!("{stage}.optimiser.{name}");
    for (name, value) in [("learning_rate", optimiser.learning_rate), ("clip_norm", optimiser.clip_norm)] {
        if !(value > 0.0 && value.is_finite()) {
            return Err((key(name), format!("must be above 0, is {value}")));
        }
    }
    for (name, value) in [("beta1", optimiser.beta1), ("beta2", optimiser.beta2), ("ema_decay", optimiser.ema_decay)] {
        share(&key(name), value)?;
    }
    for (name, value) in [("weight_decay", optimiser.weight_decay), ("final_ratio", optimiser.final_ratio)] {
        weight(&key(name), value)?;
    }
    Ok(())
}

fn require(value: usize, least: usize, most: usize, key: &str, unit: &str) -> Result<(), Problem> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    Err((key.to_owned(), format!("must be between {least} and {most}{unit}, is {value}")))
}

fn share(key: &str, value: f64) -> Result<(), Problem> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err((key.to_owned(), format!("must be in [0, 1), is {value}"))) }
}

fn weight(key: &str, value: f64) -> Result<(), Problem> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err((key.to_owned(), format!("must be 0 or more, is {value}")))
    }
}
