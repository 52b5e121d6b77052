//! What can be wrong with the stage `classifier`.

use raygen_manifest::CLASSES;
use raygen_model::densenet::PixelScale;

use super::{Problem, cadence, no_plateau, optimiser, require, safety, share};
use crate::config::{RunConfig, StorageType};

pub(super) fn validate(run: &RunConfig) -> Result<(), Problem> {
    let Some(config) = &run.classifier else { return Ok(()) };
    let refuse = |key: &str, problem: String| Err((format!("classifier.{key}"), problem));
    require(config.batch, 2, 1 << 20, "classifier.batch", "films, which normalise each other")?;
    cadence("classifier", &config.cadence)?;
    safety("classifier", config.safety())?;
    share("classifier.label_smoothing", config.label_smoothing)?;
    optimiser("classifier", &config.optimiser)?;
    no_plateau("classifier", &config.optimiser)?;
    if !(config.norm_momentum > 0.0 && config.norm_momentum <= 1.0) {
        return refuse("norm_momentum", format!("must be above 0 and at most 1, is {}", config.norm_momentum));
    }
    if let Some(cap) = config.positive_weight_cap.filter(|cap| !(*cap >= 1.0 && cap.is_finite())) {
        return refuse("positive_weight_cap", format!("must be 1 or more, is {cap}"));
    }
    if config.steps == 0 && config.start_from.is_none() {
        let problem = "must be 1 or more, unless classifier.start_from names a bundle to take the classifier from";
        return refuse("steps", problem.to_owned());
    }
    if let Some(other) = config.classes.iter().flatten().find(|class| !CLASSES.contains(&class.as_str())) {
        return refuse("classes", format!("name \"{other}\"; the classes of a manifest are {}", CLASSES.join(", ")));
    }
    let side = run.data.image_size;
    if let Some(larger) = config.image_size.filter(|size| *size > side) {
        return refuse("image_size", format!("must be at most data.image_size, which is {side}, is {larger}"));
    }
    if config.model.scale == PixelScale::TorchXRayVision && run.export.dtype == StorageType::F16 {
        let problem = "must be f32 or bf16 with classifier.model.scale = \"torchxrayvision\": variances of numbers up to 1024 are \
             larger than f16 can hold";
        return Err(("export.dtype".to_owned(), problem.to_owned()));
    }
    config.network(side).validate().map_err(|error| {
        let section = if ["image_size", "classes"].contains(&error.field.as_str()) { "" } else { "model." };
        (format!("classifier.{section}{}", error.field), error.problem)
    })
}
