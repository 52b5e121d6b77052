//! Gradients by tensor name: what several batches, or several processes, add up before the weights move.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::reduce::{RankError, Reduce};

/// The gradient of each tensor that has one.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Those of `variables` out of a backward pass, free of the graph that they were computed in.
    #[must_use]
    pub fn of(variables: &[(String, Var)], store: &GradStore) -> Self {
        let gradient = |(name, var): &(String, Var)| Some((name.clone(), store.get(var.as_tensor())?.detach()));
        Self { by_name: variables.iter().filter_map(gradient).collect() }
    }

    /// Those of the mean over all ranks, each of which gives its own `loss` with as many films.
    ///
    /// # Errors
    /// Where a tensor operation fails, or another rank is gone.
    pub fn of_mean(variables: &[(String, Var)], loss: &Tensor, reduce: &dyn Reduce) -> Result<Self, RankError> {
        let own = |error| RankError::Tensor { rank: reduce.rank(), error };
        let store = match reduce.ranks() {
            1 => loss.backward(),
            ranks => (loss / ranks as f64).and_then(|share| share.backward()),
        };
        reduce.sum_gradients(Self::of(variables, &store.map_err(own)?))
    }

    /// Each name with its gradient, in the order of names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.by_name.iter()
    }

    /// The gradient of a tensor.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name)
    }

    /// The sum of both.
    ///
    /// # Errors
    /// Where shapes disagree.
    pub fn plus(mut self, other: Self) -> candle_core::Result<Self> {
        for (name, gradient) in other.by_name {
            let sum = match self.by_name.get(&name) {
                Some(before) => (before + gradient)?,
                None => gradient,
            };
            self.by_name.insert(name, sum);
        }
        Ok(self)
    }
}

impl FromIterator<(String, Tensor)> for Gradients {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(gradients: I) -> Self {
        Self { by_name: gradients.into_iter().collect() }
    }
}

impl IntoIterator for Gradients {
    type Item = (String, Tensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.by_name.into_iter()
    }
}
