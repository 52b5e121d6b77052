//! `config.json`: what a bundle holds, and whether its parts fit each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::InvalidConfig;
use crate::densenet::DenseNetConfig;
use crate::sampler::SamplingParams;
use crate::text::TextConfig;
use crate::text_encoder::TextEncoderConfig;
use crate::transformer::TransformerConfig;
use crate::vqgan::VqGanConfig;

use super::Component;

/// The version of the layout that is written and read.
pub const FORMAT_VERSION: u32 = 1;

/// The configuration of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleConfig {
    /// Version of the layout: [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The networks, each with its architecture.
    pub components: Components,
    /// Side of the square picture in pixels.
    pub image_size: usize,
    /// Shape of the token grid.
    pub grid: Grid,
    /// Defaults of sampling.
    #[serde(default)]
    pub sampling: SamplingParams,
    /// How text is read.
    pub text: TextConfig,
    /// Where it came from: data, licence, training, authors.
    #[serde(default)]
    pub provenance: BTreeMap<String, serde_json::Value>,
}

/// The networks of a bundle; any may be absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Components {
    /// Pictures to grids and back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vqgan: Option<VqGanConfig>,
    /// Grids and text to logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformer: Option<TransformerConfig>,
    /// Text to features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<TextEncoderConfig>,
    /// Pictures to findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier: Option<DenseNetConfig>,
}

/// Shape of a token grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Components {
    /// Whether a component is there.
    pub fn has(&self, component: Component) -> bool {
        match component {
            Component::VqGan => self.vqgan.is_some(),
            Component::Transformer => self.transformer.is_some(),
            Component::TextEncoder => self.text_encoder.is_some(),
            Component::Classifier => self.classifier.is_some(),
        }
    }

    /// Those that are there.
    pub fn present(&self) -> impl Iterator<Item = Component> + '_ {
        Component::ALL.into_iter().filter(|component| self.has(*component))
    }
}

impl BundleConfig {
    /// Checks every part, and that the parts fit each other.
    ///
    /// # Errors
    /// The first field that is wrong, as a path in `config.json`.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.format_version != FORMAT_VERSION {
            let problem = format!("is {}; this program reads version {FORMAT_VERSION}", self.format_version);
            return Err(InvalidConfig::new("format_version", problem));
        }
        self.sampling.validate().map_err(|error| InvalidConfig::new(error.field, error.to_string()))?;
        let positions = positions(self.grid)?;
        if !(1..=8192).contains(&self.image_size) {
            return Err(InvalidConfig::new("image_size", format!("{} is not between 1 and 8192", self.image_size)));
        }
        if let Some(vqgan) = &self.components.vqgan {
            vqgan.validate().map_err(|error| within("vqgan", &error))?;
            equal("image_size", self.image_size, "components.vqgan.resolution", vqgan.resolution)?;
            equal("grid.height", self.grid.height, "the grid of components.vqgan", vqgan.grid_side())?;
            equal("grid.width", self.grid.width, "the grid of components.vqgan", vqgan.grid_side())?;
        }
        if let Some(transformer) = &self.components.transformer {
            transformer.validate().map_err(|error| within("transformer", &error))?;
            let field = "components.transformer.positions";
            equal(field, transformer.positions(), "grid.height * grid.width", positions)?;
            if let Some(vqgan) = &self.components.vqgan {
                let field = "components.transformer.codebook_size";
                let other = "components.vqgan.codebook_size";
                equal(field, transformer.codebook_size(), other, vqgan.codebook_size)?;
            }
            equal("text.max_tokens", self.text.max_tokens, "the transformer's", transformer.max_text_tokens())?;
            if self.sampling.guidance_scale != 1.0 && !self.text.condition_dropout {
                let found = self.sampling.guidance_scale;
                let problem =
                    format!("is {found}, but must be 1: text.condition_dropout is false, so guidance does not work");
                return Err(InvalidConfig::new("sampling.guidance_scale", problem));
            }
            if transformer.pads_text_to_maximum() && !self.text.pad_to_maximum {
                let problem = "must be true: pads take part in this transformer's result";
                return Err(InvalidConfig::new("text.pad_to_maximum", problem));
            }
        }
        if let Some(encoder) = &self.components.text_encoder {
            encoder.validate().map_err(|error| within("text_encoder", &error))?;
            if self.text.max_tokens > encoder.max_position_embeddings {
                let most = encoder.max_position_embeddings;
                let problem = format!("{} is more than the text encoder's {most} positions", self.text.max_tokens);
                return Err(InvalidConfig::new("text.max_tokens", problem));
            }
            if let Some(transformer) = &self.components.transformer {
                let field = "components.transformer.text_width";
                equal(field, transformer.text_width(), "the text encoder's hidden_size", encoder.hidden_size)?;
            }
        }
        match &self.components.classifier {
            Some(classifier) => classifier.validate().map_err(|error| within("classifier", &error)),
            None => Ok(()),
        }
    }
}

fn positions(grid: Grid) -> Result<usize, InvalidConfig> {
    for (field, value) in [("grid.height", grid.height), ("grid.width", grid.width)] {
        if !(1..=1024).contains(&value) {
            return Err(InvalidConfig::new(field, format!("{value} is not between 1 and 1024")));
        }
    }
    Ok(grid.height * grid.width)
}

fn within(component: &str, error: &InvalidConfig) -> InvalidConfig {
    InvalidConfig::new(&format!("components.{component}.{}", error.field), error.problem.clone())
}

fn equal(field: &str, value: usize, other: &str, other_value: usize) -> Result<(), InvalidConfig> {
    if value == other_value {
        Ok(())
    } else {
        Err(InvalidConfig::new(field, format!("{value} does not equal {other}, which is {other_value}")))
    }
}
