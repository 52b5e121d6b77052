//! Predictions of a multi-label classifier beside the truth.

use crate::statistics::StatisticsError;

/// Scores and labels of items for named classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    classes: Vec<String>,
    /// Row-major, items x classes.
    scores: Vec<f32>,
    /// Row-major; `None` where it is not known, as for findings that a report leaves uncertain.
    labels: Vec<Option<bool>>,
}

/// Why predictions cannot be scored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClassificationError {
    /// The numbers do not fill rows.
    #[error("{found} scores do not fill rows of {classes} classes")]
    Ragged {
        /// Classes.
        classes: usize,
        /// Scores given.
        found: usize,
    },
    /// As many labels as scores are needed.
    #[error("{scores} scores but {labels} labels")]
    LengthsDiffer {
        /// Scores.
        scores: usize,
        /// Labels.
        labels: usize,
    },
    /// A score is NaN or infinite.
    #[error("score {index} is not a number")]
    NotFinite {
        /// Its place, row-major.
        index: usize,
    },
    /// One threshold a class is needed.
    #[error("{thresholds} thresholds for {classes} classes")]
    Thresholds {
        /// Classes.
        classes: usize,
        /// Thresholds.
        thresholds: usize,
    },
    /// Of the groups, or the bootstrap.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
}

impl Predictions {
    /// Rows of one score and one label a class. Scores may be probabilities or logits.
    ///
    /// # Errors
    /// [`ClassificationError::Ragged`], [`ClassificationError::LengthsDiffer`] and [`ClassificationError::NotFinite`].
    pub fn new(classes: Vec<String>, scores: Vec<f32>, labels: Vec<Option<bool>>) -> Result<Self, ClassificationError> {
        if classes.is_empty() || !scores.len().is_multiple_of(classes.len()) {
            return Err(ClassificationError::Ragged { classes: classes.len(), found: scores.len() });
        }
        if scores.len() != labels.len() {
            return Err(ClassificationError::LengthsDiffer { scores: scores.len(), labels: labels.len() });
        }
        match scores.iter().position(|score| !score.is_finite()) {
            Some(index) => Err(ClassificationError::NotFinite { index }),
            None => Ok(Self { classes, scores, labels }),
        }
    }

    /// The classes' names.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Items.
    #[must_use]
    pub fn count(&self) -> usize {
        self.scores.len() / self.classes.len()
    }

    /// The items whose label of a class is known: their places, scores and labels.
    #[must_use]
    pub fn of_class(&self, class: usize) -> (Vec<usize>, Vec<f32>, Vec<bool>) {
        let width = self.classes.len();
        let (mut items, mut scores, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        if class >= width {
            return (items, scores, labels);
        }
        for (item, place) in (class..self.scores.len()).step_by(width).enumerate() {
            if let Some(label) = self.labels[place] {
                items.push(item);
                scores.push(self.scores[place]);
                labels.push(label);
            }
        }
        (items, scores, labels)
    }
}
