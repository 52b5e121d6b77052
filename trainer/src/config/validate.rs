//! What can be wrong with a run is said before anything is computed, not after the hours of an earlier stage.

mod classifier;

use raygen_model::lpips::SMALLEST_SIDE;

use super::{
    AdversarialConfig, Cadence, DecoderConfig, OptimiserConfig, PerceptualConfig, RunConfig, Safety, Variant,
    is_default,
};
use crate::loss::Discriminator;
use crate::stages::tokenizer::network_config;
use crate::stages::transformer::{Freeze, Shapes};

/// A key, dotted, and what is wrong with it.
type Problem = (String, String);

/// Stands for the vocabulary, which is known only when the impressions were read.
const SOME_WORDS: usize = 100;

/// The most codes: tokens are kept in 16 bits, and the mask is one more.
const CODES: usize = u16::MAX as usize;

/// Checks every value, and that the networks can be built.
pub(super) fn validate(config: &RunConfig) -> Result<(), Problem> {
    best(config)?;
    classifier::validate(config)?;
    if !config.makes_pictures() {
        return without_pictures(config);
    }
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
        ("transformer.accumulate", config.transformer.accumulate),
        ("transformer.model.token_merge", config.transformer.model.token_merge),
    ] {
        require(value, 1, 1 << 20, key, "")?;
    }
    require(config.transformer.text.max_tokens, 3, 8192, "transformer.text.max_tokens", "tokens")?;
    cadence("tokenizer", &config.tokenizer.cadence)?;
    cadence("transformer", &config.transformer.cadence)?;
    safety("tokenizer", config.tokenizer.safety())?;
    safety("transformer", config.transformer.safety())?;
    share("transformer.condition_dropout", config.transformer.condition_dropout)?;
    proportion("transformer.class_balance", config.transformer.class_balance)?;
    proportion("transformer.region_masks", config.transformer.region_masks)?;
    share("transformer.attention_dropout", config.transformer.attention_dropout)?;
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
    if ![1, 3].contains(&config.tokenizer.model.image_channels) {
        let problem = format!("must be 1 or 3, is {}", config.tokenizer.model.image_channels);
        return Err(("tokenizer.model.image_channels".to_owned(), problem));
    }
    if config.tokenizer.model.codebook_size > CODES {
        let found = config.tokenizer.model.codebook_size;
        let problem = format!("must be at most {CODES}, so that a token and the mask fit 16 bits; is {found}");
        return Err(("tokenizer.model.codebook_size".to_owned(), problem));
    }
    share("tokenizer.codebook_decay", config.tokenizer.codebook_decay)?;
    // A restarted code counts as used once: a threshold above that would restart it again at every step.
    share("tokenizer.restart_below", config.tokenizer.restart_below)?;
    weight("tokenizer.commitment", config.tokenizer.commitment)?;
    weight("tokenizer.structure", config.tokenizer.structure)?;
    picture_losses(
        "tokenizer",
        config.tokenizer.perceptual.as_ref(),
        config.tokenizer.adversarial.as_ref(),
        config.data.image_size,
    )?;
    optimiser("tokenizer", &config.tokenizer.optimiser)?;
    optimiser("transformer", &config.transformer.optimiser)?;
    no_plateau("tokenizer", &config.tokenizer.optimiser)?;
    plateau(&config.transformer.optimiser)?;
    if let Some(decoder) = &config.decoder {
        self::decoder(decoder, config.data.image_size)?;
    }
    variant(config)?;
    networks(config)?;
    sampling(config)?;
    let sampling = &config.export.sampling;
    if sampling.guidance_scale != 1.0 && config.transformer.condition_dropout == 0.0 {
        let problem = "must be 1 without transformer.condition_dropout: the model would not know the empty text";
        return Err(("export.sampling.guidance_scale".to_owned(), problem.to_owned()));
    }
    Ok(())
}

/// Which of the stages' checkpoints are exported.
fn best(config: &RunConfig) -> Result<(), Problem> {
    let kept = config.tokenizer.keep_best
        || config.transformer.keep_best
        || config.decoder.as_ref().is_some_and(|decoder| decoder.keep_best)
        || config.classifier.as_ref().is_some_and(|classifier| classifier.keep_best);
    if config.export.best && !kept {
        let problem = "needs keep_best = true in a stage: without, no best checkpoint is kept";
        return Err(("export.best".to_owned(), problem.to_owned()));
    }
    Ok(())
}

/// Stage `decoder`.
fn decoder(config: &DecoderConfig, image_size: usize) -> Result<(), Problem> {
    require(config.batch, 1, 1 << 20, "decoder.batch", "")?;
    require(config.grids as usize, 1, 1024, "decoder.grids", "")?;
    require(config.sampling_steps as usize, 1, 256, "decoder.sampling_steps", "")?;
    if !(config.masked > 0.0 && config.masked <= 1.0) {
        return Err(("decoder.masked".to_owned(), format!("must be above 0 and at most 1, is {}", config.masked)));
    }
    weight("decoder.structure", config.structure)?;
    cadence("decoder", &config.cadence)?;
    safety("decoder", config.safety())?;
    optimiser("decoder", &config.optimiser)?;
    no_plateau("decoder", &config.optimiser)?;
    picture_losses("decoder", config.perceptual.as_ref(), config.adversarial.as_ref(), image_size)
}

/// The losses of decoded pictures that `stage` may have.
fn picture_losses(
    stage: &str,
    perceptual: Option<&PerceptualConfig>,
    adversarial: Option<&AdversarialConfig>,
    image_size: usize,
) -> Result<(), Problem> {
    if let Some(perceptual) = perceptual {
        weight(&format!("{stage}.perceptual.weight"), perceptual.weight)?;
        if image_size < SMALLEST_SIDE {
            let problem = format!("must be {SMALLEST_SIDE} or more for {stage}.perceptual, is {image_size}");
            return Err(("data.image_size".to_owned(), problem));
        }
    }
    let Some(config) = adversarial else { return Ok(()) };
    let within = |name: &str| format!("{stage}.adversarial.{name}");
    weight(&within("weight"), config.weight)?;
    if !(config.rate > 0.0 && config.rate.is_finite()) {
        return Err((within("rate"), format!("must be above 0, is {}", config.rate)));
    }
    require(config.channels, 1, 4096, &within("channels"), "")?;
    require(config.layers, 1, 6, &within("layers"), "")?;
    let least = Discriminator::smallest_side(config.layers);
    if image_size < least {
        let problem =
            format!("of {} need pictures of {least} px or more, data.image_size is {image_size}", config.layers);
        return Err((within("layers"), problem));
    }
    Ok(())
}

fn cadence(stage: &str, cadence: &Cadence) -> Result<(), Problem> {
    if cadence.validate_every == 0 || cadence.checkpoint_every == 0 {
        return Err((format!("{stage}.cadence"), "needs at least 1 step between two events".to_owned()));
    }
    Ok(())
}

fn no_plateau(stage: &str, optimiser: &OptimiserConfig) -> Result<(), Problem> {
    if optimiser.plateau.is_some() {
        let problem = "is for the stage `transformer`; here the learning rate follows a cosine";
        return Err((format!("{stage}.optimiser.plateau"), problem.to_owned()));
    }
    Ok(())
}

/// A run of a classifier alone has neither of the sections that pictures need.
fn without_pictures(config: &RunConfig) -> Result<(), Problem> {
    let missing = |key: &str, problem: &str| Err((key.to_owned(), problem.to_owned()));
    match (is_default(&config.tokenizer), is_default(&config.transformer)) {
        (true, false) => missing("tokenizer", "is missing; [transformer] learns the tokens that it makes"),
        (false, _) => missing("transformer", "is missing; a run with [tokenizer] needs it"),
        (true, true) if config.classifier.is_none() => {
            missing("tokenizer", "is missing, and [transformer]; or a run has [classifier] alone")
        }
        (true, true) => sampling(config),
    }
}

fn sampling(config: &RunConfig) -> Result<(), Problem> {
    config
        .export
        .sampling
        .validate()
        .map_err(|error| (format!("export.{}", error.field), format!("must be {}, is {}", error.allowed, error.found)))
}

fn safety(stage: &str, safety: Safety) -> Result<(), Problem> {
    require(safety.keep, 1, 1 << 20, &format!("{stage}.keep"), "checkpoints")?;
    match safety.explode_factor {
        Some(factor) if !(factor > 1.0 && factor.is_finite()) => {
            Err((format!("{stage}.explode_factor"), format!("must be above 1, is {factor}")))
        }
        _ => Ok(()),
    }
}

/// Keys of one variant have no meaning in the other: they are refused and not passed over.
fn variant(config: &RunConfig) -> Result<(), Problem> {
    let (model, text) = (&config.transformer.model, &config.transformer.text);
    let refuse = |key: &str, problem: &str| Err((format!("transformer.{key}"), problem.to_owned()));
    match model.variant {
        Variant::Published if model.token_merge != 1 => {
            refuse("model.token_merge", "must be 1 with variant = \"published\", which merges no tokens")
        }
        Variant::Published if model.local_blocks != 0 => {
            refuse("model.local_blocks", "must be 0 with variant = \"published\", which has no convolutions")
        }
        Variant::Published if model.views => {
            refuse("model.views", "must be false with variant = \"published\", which knows no views")
        }
        Variant::Raygen if model.quirks.is_some() => {
            refuse("model.quirks", "is for variant = \"published\"; remove it, or set that variant")
        }
        _ if text.frozen && config.text_start().is_none() => refuse(
            "text.frozen",
            "needs text.start_from or start_from: a fresh text encoder that never learns says nothing",
        ),
        _ => Ok(()),
    }
}

/// The plateau rule, and that nothing else moves the learning rate beside it.
fn plateau(optimiser: &OptimiserConfig) -> Result<(), Problem> {
    let Some(plateau) = &optimiser.plateau else { return Ok(()) };
    let key = |name: &str| format!("transformer.optimiser.{name}");
    if !(plateau.factor > 0.0 && plateau.factor < 1.0) {
        return Err((key("plateau.factor"), format!("must be between 0 and 1, is {}", plateau.factor)));
    }
    for (name, value) in [
        ("plateau.min_learning_rate", plateau.min_learning_rate),
        ("plateau.threshold", plateau.threshold),
        ("plateau.smallest_change", plateau.smallest_change),
    ] {
        weight(&key(name), value)?;
    }
    if optimiser.warm_up_steps != 0 {
        let problem = format!("must be 0 with the plateau rule, is {}", optimiser.warm_up_steps);
        return Err((key("warm_up_steps"), problem));
    }
    if optimiser.final_ratio != 1.0 {
        let problem = format!("must be 1 with the plateau rule, which has no cosine; is {}", optimiser.final_ratio);
        return Err((key("final_ratio"), problem));
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
    shapes.text_encoder.validate().map_err(within("transformer.text"))?;
    Freeze::of(&config.transformer)
        .and_then(|freeze| freeze.check(config, &shapes))
        .map_err(|problem| ("transformer.freeze".to_owned(), problem))
}

fn optimiser(stage: &str, optimiser: &OptimiserConfig) -> Result<(), Problem> {
    let key = |name: &str| format!("{stage}.optimiser.{name}");
    let (rate, clip) = (optimiser.learning_rate, optimiser.clip_norm);
    if !(rate > 0.0 && rate.is_finite()) {
        return Err((key("learning_rate"), format!("must be above 0, is {rate}")));
    }
    if clip.is_nan() || clip <= 0.0 {
        return Err((key("clip_norm"), format!("must be above 0, or inf for none, is {clip}")));
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

fn proportion(key: &str, value: f64) -> Result<(), Problem> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err((key.to_owned(), format!("must be between 0 and 1, is {value}")))
    }
}

fn weight(key: &str, value: f64) -> Result<(), Problem> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err((key.to_owned(), format!("must be 0 or more, is {value}")))
    }
}
