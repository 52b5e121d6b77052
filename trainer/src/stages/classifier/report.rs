//! The classifier's figures: for the journal, for `metrics.json` and for the model card.

use std::fmt;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Classifier, Report};

/// What the figures mean.
const PROTOCOL: &str = "validation films of the run's manifest, each by itself (running statistics); films that the manifest calls \
     uncertain or leaves unlabelled count for no AUROC; auroc/macro is the mean over the classes that have one";

impl Report {
    /// Names and values for the journal: an undefined AUROC is no number.
    pub(super) fn metrics(&self) -> Vec<(String, f64)> {
        let number = |auroc: Option<f64>| auroc.unwrap_or(f64::NAN);
        let of_all =
            [("cross_entropy".to_owned(), self.cross_entropy), ("auroc/macro".to_owned(), number(self.macro_auroc()))];
        let of_classes = self.classes.iter().map(|class| (format!("auroc/{}", class.name), number(class.auroc)));
        of_all.into_iter().chain(of_classes).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "val cross-entropy {:.4}, ", self.cross_entropy)?;
        let undefined = self.undefined();
        match self.macro_auroc() {
            Some(auroc) => {
                write!(f, "mean AUROC {auroc:.3} of {} classes", self.classes.len() - undefined.len())?;
            }
            None => write!(f, "no AUROC")?,
        }
        match undefined.is_empty() {
            true => Ok(()),
            false => write!(f, " (undefined for want of films with or without: {})", undefined.join(", ")),
        }
    }
}

impl Classifier {
    /// For `metrics.json`: `auroc/{class}` and `auroc/macro`, null where undefined.
    pub(in crate::stages) fn metrics(&self) -> Map<String, Value> {
        let report = &self.validation;
        let mut metrics = Map::new();
        metrics.insert("classifier_protocol".to_owned(), json!(PROTOCOL));
        metrics.insert("classifier_cross_entropy".to_owned(), json!(report.cross_entropy));
        for class in &report.classes {
            metrics.insert(format!("auroc/{}", class.name), json!(class.auroc));
        }
        metrics.insert("auroc/macro".to_owned(), json!(report.macro_auroc()));
        metrics.insert("auroc_undefined".to_owned(), json!(report.undefined()));
        metrics
    }

    /// For the model card, in Markdown.
    pub(in crate::stages) fn card(&self) -> String {
        let report = &self.validation;
        let number = |auroc: Option<f64>| auroc.map_or_else(|| "undefined".to_owned(), |auroc| format!("{auroc:.3}"));
        let mut card = format!(
            "## The classifier\n\nA DenseNet that says of each finding whether a film shows it, trained for {} steps at {} px. \
             **Not for diagnosis.** Measured on {PROTOCOL}.\n\n\
             | finding | films that show it: to learn from | to validate on | that don't | AUROC |\n|---|---|---|---|---|\n",
            self.steps, self.config.image_size
        );
        for (class, learnt) in report.classes.iter().zip(&self.train_positives) {
            let (name, shown, not) = (&class.name, class.positives, class.negatives);
            // Writing into a string cannot fail.
            let _ = writeln!(card, "| {name} | {learnt} | {shown} | {not} | {} |", number(class.auroc));
        }
        let _ = writeln!(card, "| mean | | | | {} |", number(report.macro_auroc()));
        card
    }
}
