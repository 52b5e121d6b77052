//! Gradients by tensor name: what several batches, or several processes, add up before the weights move.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

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

    /// The gradient of a tensor.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name)
    }

    /// The sum of both.
    ///
    /// # Errors
    /// Where shapes disagree.
    pub fn plus(mut self, other: Self) -> Result<Self> {
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
