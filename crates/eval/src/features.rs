//! Features of a set of pictures: a checked matrix that knows what made it.

use serde::{Deserialize, Serialize};

/// What turned pictures into features; sets compare only where all of it is equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extractor {
    /// The network and its weights, such as `densenet121-res224-chex`.
    pub name: String,
    /// What is done to a picture before and to the output after, such as `centre crop, 224, [-1024, 1024]; ReLU, mean`.
    pub preprocessing: String,
}

impl std::fmt::Display for Extractor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.preprocessing)
    }
}

/// One row of numbers a picture, all finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    extractor: Extractor,
    width: usize,
    /// Row-major, count x width.
    values: Vec<f32>,
}

/// Why features cannot be used, or not together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// The numbers do not fill rows.
    #[error("{found} numbers do not fill rows of {width}")]
    Ragged {
        /// Numbers in a row.
        width: usize,
        /// Numbers given.
        found: usize,
    },
    /// A number is NaN or infinite.
    #[error("number {column} of row {row} is not finite")]
    NotFinite {
        /// The row.
        row: usize,
        /// The place within it.
        column: usize,
    },
    /// A row that is asked for does not exist.
    #[error("there is no row {row} among {count}")]
    NoSuchRow {
        /// The row.
        row: usize,
        /// Rows.
        count: usize,
    },
    /// Sets of different extractors say nothing about each other.
    #[error("features of different extractors cannot be compared: {first} and {second}")]
    ExtractorsDiffer {
        /// Of the first.
        first: Extractor,
        /// Of the second.
        second: Extractor,
    },
    /// The same extractor, but rows of different widths.
    #[error("rows of {first} and {second} numbers cannot be compared")]
    WidthsDiffer {
        /// Of the first.
        first: usize,
        /// Of the second.
        second: usize,
    },
    /// A set is too small for the metric.
    #[error("{metric} needs at least {needed} samples in each set, got {found}")]
    TooFew {
        /// The metric.
        metric: &'static str,
        /// Samples needed.
        needed: usize,
        /// Samples given.
        found: usize,
    },
    /// A decomposition did not end, as with numbers near the limits of their type.
    #[error("the singular values of the features cannot be computed: the iteration does not converge")]
    NotConverged,
}

// === impl Features ===

impl Features {
    /// Rows of `width` numbers, one after another.
    ///
    /// # Errors
    /// [`FeatureError::Ragged`] and [`FeatureError::NotFinite`].
    pub fn new(extractor: Extractor, width: usize, values: Vec<f32>) -> Result<Self, FeatureError> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(FeatureError::Ragged { width, found: values.len() });
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(place) => Err(FeatureError::NotFinite { row: place / width, column: place % width }),
            None => Ok(Self { extractor, width, values }),
        }
    }

    /// Rows: pictures.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len() / self.width
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// What made them.
    #[must_use]
    pub fn extractor(&self) -> &Extractor {
        &self.extractor
    }

    /// All numbers, row-major.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    /// These rows, in this order; a row may be taken more than once.
    ///
    /// # Errors
    /// [`FeatureError::NoSuchRow`].
    pub fn select(&self, rows: &[usize]) -> Result<Self, FeatureError> {
        let count = self.count();
        let mut values = Vec::with_capacity(rows.len() * self.width);
        for &row in rows {
            let found = self.values.chunks_exact(self.width).nth(row);
            values.extend_from_slice(found.ok_or(FeatureError::NoSuchRow { row, count })?);
        }
        Ok(Self { extractor: self.extractor.clone(), width: self.width, values })
    }

    /// Refuses a set of another extractor or width.
    ///
    /// # Errors
    /// [`FeatureError::ExtractorsDiffer`] and [`FeatureError::WidthsDiffer`].
    pub fn check_comparable(&self, other: &Self) -> Result<(), FeatureError> {
        if self.extractor != other.extractor {
            let (first, second) = (self.extractor.clone(), other.extractor.clone());
            return Err(FeatureError::ExtractorsDiffer { first, second });
        }
        if self.width != other.width {
            return Err(FeatureError::WidthsDiffer { first: self.width, second: other.width });
        }
        Ok(())
    }

    /// Refuses sets that are not comparable, or of fewer samples than `metric` needs.
    pub(crate) fn check_pair(&self, other: &Self, metric: &'static str, needed: usize) -> Result<(), FeatureError> {
        self.check_comparable(other)?;
        let found = self.count().min(other.count());
        if found < needed { Err(FeatureError::TooFew { metric, needed, found }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extractor(name: &str) -> Extractor {
        Extractor { name: name.to_owned(), preprocessing: "none".to_owned() }
    }

    #[test]
    fn sets_of_different_extractors_or_preprocessings_are_refused() -> Result<(), FeatureError> {
        let chex = Features::new(extractor("chex"), 2, vec![0.0; 8])?;
        let all = Features::new(extractor("all"), 2, vec![0.0; 8])?;
        let message = chex.check_comparable(&all).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("chex (none)") && message.contains("all (none)"), "{message}");
        let resized = Extractor { preprocessing: "224".to_owned(), ..extractor("chex") };
        let resized = Features::new(resized, 2, vec![0.0; 8])?;
        assert!(matches!(chex.check_comparable(&resized), Err(FeatureError::ExtractorsDiffer { .. })));
        let wide = Features::new(extractor("chex"), 4, vec![0.0; 8])?;
        assert_eq!(chex.check_comparable(&wide), Err(FeatureError::WidthsDiffer { first: 2, second: 4 }));
        assert!(matches!(chex.check_pair(&chex, "x", 5), Err(FeatureError::TooFew { needed: 5, found: 4, .. })));
        Ok(())
    }

    #[test]
    fn what_is_no_matrix_of_numbers_is_refused() -> Result<(), FeatureError> {
        assert_eq!(Features::new(extractor("a"), 3, vec![0.0; 8]), Err(FeatureError::Ragged { width: 3, found: 8 }));
        assert!(matches!(Features::new(extractor("a"), 0, vec![]), Err(FeatureError::Ragged { .. })));
        let nan = Features::new(extractor("a"), 2, vec![0.0, 0.0, 0.0, f32::NAN]);
        assert_eq!(nan, Err(FeatureError::NotFinite { row: 1, column: 1 }));
        let rows = Features::new(extractor("a"), 2, vec![1.0, 2.0, 3.0, 4.0])?;
        assert_eq!(rows.select(&[1, 0, 1])?.values(), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(rows.select(&[2]), Err(FeatureError::NoSuchRow { row: 2, count: 2 }));
        Ok(())
    }
}
