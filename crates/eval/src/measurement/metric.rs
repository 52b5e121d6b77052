//! What is measured, by the names of the contract.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is measured. Written as in the contract: `fid`, `auroc/Edema`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Metric {
    /// `nll`: negative log-likelihood of a masked token, in nats.
    Nll,
    /// `accuracy`: share of masked tokens predicted exactly.
    Accuracy,
    /// `text_gain`: what the matched impression takes off the negative log-likelihood, against a mismatched one.
    TextGain,
    /// `reconstruction_psnr`: of the tokenizer, in dB.
    ReconstructionPsnr,
    /// `fid`: Fréchet distance.
    Fid,
    /// `kid`: kernel distance.
    Kid,
    /// `precision`.
    Precision,
    /// `recall`.
    Recall,
    /// `density`.
    Density,
    /// `coverage`.
    Coverage,
    /// `ms_ssim`: likeness of the pictures of a prompt.
    MsSsim,
    /// `auroc/{class}`, and `auroc/macro` for the mean (no class may be called "macro").
    Auroc(String),
    /// `average_precision/{class}` or `/macro`.
    AveragePrecision(String),
    /// `f1/{class}` or `/macro`.
    F1(String),
    /// `inception_score`.
    InceptionScore,
    /// `near_training/{space}`: share of the samples nearer to a training film than real films usually are.
    NearTraining(String),
}

/// The class of a mean over classes.
const MACRO: &str = "macro";

/// A name that is no metric's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no metric \"{0}\"")]
pub struct UnknownMetric(pub String);

// === impl Metric ===

impl Metric {
    /// `auroc/macro`.
    #[must_use]
    pub fn auroc_macro() -> Self {
        Self::Auroc(MACRO.to_owned())
    }

    /// `average_precision/macro`.
    #[must_use]
    pub fn average_precision_macro() -> Self {
        Self::AveragePrecision(MACRO.to_owned())
    }

    /// `f1/macro`.
    #[must_use]
    pub fn f1_macro() -> Self {
        Self::F1(MACRO.to_owned())
    }

    /// Whether more is better.
    #[must_use]
    pub fn higher_is_better(&self) -> bool {
        !matches!(self, Self::Nll | Self::Fid | Self::Kid | Self::MsSsim | Self::NearTraining(_))
    }

    /// Whether its expectation depends on the number of samples, so that it compares only at equal numbers.
    #[must_use]
    pub fn depends_on_sample_count(&self) -> bool {
        matches!(
            self,
            Self::Fid | Self::Precision | Self::Recall | Self::Density | Self::Coverage | Self::InceptionScore
        )
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nll => f.write_str("nll"),
            Self::Accuracy => f.write_str("accuracy"),
            Self::TextGain => f.write_str("text_gain"),
            Self::ReconstructionPsnr => f.write_str("reconstruction_psnr"),
            Self::Fid => f.write_str("fid"),
            Self::Kid => f.write_str("kid"),
            Self::Precision => f.write_str("precision"),
            Self::Recall => f.write_str("recall"),
            Self::Density => f.write_str("density"),
            Self::Coverage => f.write_str("coverage"),
            Self::MsSsim => f.write_str("ms_ssim"),
            Self::Auroc(class) => write!(f, "auroc/{class}"),
            Self::AveragePrecision(class) => write!(f, "average_precision/{class}"),
            Self::F1(class) => write!(f, "f1/{class}"),
            Self::InceptionScore => f.write_str("inception_score"),
            Self::NearTraining(space) => write!(f, "near_training/{space}"),
        }
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        if let Some((metric, class)) = name.split_once('/').filter(|(_, class)| !class.is_empty()) {
            let class = class.to_owned();
            return match metric {
                "auroc" => Ok(Self::Auroc(class)),
                "average_precision" => Ok(Self::AveragePrecision(class)),
                "f1" => Ok(Self::F1(class)),
                "near_training" => Ok(Self::NearTraining(class)),
                _ => Err(UnknownMetric(name.to_owned())),
            };
        }
        Ok(match name {
            "nll" => Self::Nll,
            "accuracy" => Self::Accuracy,
            "text_gain" => Self::TextGain,
            "reconstruction_psnr" => Self::ReconstructionPsnr,
            "fid" => Self::Fid,
            "kid" => Self::Kid,
            "precision" => Self::Precision,
            "recall" => Self::Recall,
            "density" => Self::Density,
            "coverage" => Self::Coverage,
            "ms_ssim" => Self::MsSsim,
            "inception_score" => Self::InceptionScore,
            _ => return Err(UnknownMetric(name.to_owned())),
        })
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

impl TryFrom<String> for Metric {
    type Error = UnknownMetric;

    fn try_from(name: String) -> Result<Self, UnknownMetric> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_contract() {
        let names = "nll accuracy text_gain reconstruction_psnr fid kid precision recall density coverage ms_ssim auroc/Edema \
                     auroc/macro inception_score average_precision/Edema f1/macro near_training/pixels";
        for name in names.split_whitespace() {
            assert_eq!(name.parse::<Metric>().map(|metric| metric.to_string()), Ok(name.to_owned()));
        }
        for name in ["FID", "auroc/", "auroc", "fid/x", ""] {
            assert_eq!(name.parse::<Metric>(), Err(UnknownMetric(name.to_owned())));
        }
    }
}
