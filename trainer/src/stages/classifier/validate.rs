//! What the classifier says of films that it was not trained on.

use anyhow::Result;
use candle_core::DType;
use raygen_eval::classification::auroc;
use raygen_model::densenet::DenseNet;
use raygen_nn::binary_cross_entropy;

use super::answers::Answer;
use super::batch::Films;

/// Films seen at once.
const BATCH: usize = 16;

/// How well findings of the validation films are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Binary cross-entropy of an answer, in nats: of all answers that count by the stage's policies, each once.
    pub cross_entropy: f64,
    /// Of each class, in the network's order.
    pub classes: Vec<ClassReport>,
}

/// How well a class is told.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassReport {
    /// Its name.
    pub name: String,
    /// Films that the manifest says show it,
    pub positives: usize,
    /// and that it says don't. Uncertain and unlabelled ones are neither, whatever the policies.
    pub negatives: usize,
    /// Area under the ROC curve over these films; none where there are not both kinds.
    pub auroc: Option<f64>,
}

impl Report {
    /// The mean AUROC of the classes that have one; none where no class has.
    #[must_use]
    pub fn macro_auroc(&self) -> Option<f64> {
        let defined: Vec<f64> = self.classes.iter().filter_map(|class| class.auroc).collect();
        (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
    }

    /// Names of the classes without an AUROC.
    #[must_use]
    pub fn undefined(&self) -> Vec<&str> {
        self.classes.iter().filter(|class| class.auroc.is_none()).map(|class| class.name.as_str()).collect()
    }
}

/// Looks at all validation films, in evaluation: each film by itself, by the running statistics.
pub(super) fn validate(network: &DenseNet, films: &Films<'_>) -> Result<Report> {
    let val = &films.answers.val;
    let mut logits: Vec<Vec<f32>> = Vec::with_capacity(val.len());
    let (mut loss, mut answers) = (0f64, 0f64);
    for batch in val.chunks(BATCH) {
        let batch = films.to_validate(batch)?;
        let seen = network.logits(&batch.images)?.to_dtype(DType::F32)?;
        let count = f64::from(batch.weights.sum_all()?.to_scalar::<f32>()?);
        let mean = binary_cross_entropy(&seen, &batch.targets, &batch.weights)?;
        loss += count * f64::from(mean.to_scalar::<f32>()?);
        answers += count;
        logits.extend(seen.to_vec2::<f32>()?);
    }
    let classes = network.config().classes.iter().enumerate();
    Ok(Report {
        cross_entropy: loss / answers,
        classes: classes.map(|(class, name)| report(name, class, &logits, films)).collect(),
    })
}

fn report(name: &str, class: usize, logits: &[Vec<f32>], films: &Films<'_>) -> ClassReport {
    let (mut scores, mut positives) = (Vec::new(), Vec::new());
    for (film, logits) in films.answers.val.iter().zip(logits) {
        let said = films.answers.said(*film, class);
        if said != Answer::Unknown {
            // The order of logits is that of probabilities, and large ones are not yet rounded to the same 1.
            scores.push(logits[class]);
            positives.push(said == Answer::Yes);
        }
    }
    let count = positives.iter().filter(|positive| **positive).count();
    ClassReport {
        name: name.to_owned(),
        positives: count,
        negatives: positives.len() - count,
        // Of logits that are no numbers there is none; the loss, which is watched, is none either.
        auroc: auroc(&scores, &positives).ok().flatten(),
    }
}
