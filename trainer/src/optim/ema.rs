//! An exponential moving average of the weights: what is validated, sampled from and exported.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

use super::elementwise;

/// Averages by tensor name.
#[derive(Clone)]
pub struct MovingAverage {
    decay: f64,
    averages: BTreeMap<String, Tensor>,
}

impl MovingAverage {
    /// Starts at the present weights.
    ///
    /// # Errors
    /// Where a tensor cannot be copied.
    pub fn new(decay: f64, variables: &[(String, Var)]) -> Result<Self> {
        let averages = variables
            .iter()
            .map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?)))
            .collect::<Result<_>>()?;
        Ok(Self { decay, averages })
    }

    /// Takes the weights after step `step` (from 0) in. Early on the decay is smaller, so that the start is soon forgotten.
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub fn update(&mut self, variables: &[(String, Var)], step: u64) -> Result<()> {
        let decay = self.decay.min((1.0 + step as f64) / (10.0 + step as f64));
        for (name, var) in variables {
            let Some(average) = self.averages.get_mut(name) else { continue };
            if elementwise::in_place(average) {
                elementwise::blend(average, var.as_tensor(), decay)?;
            } else {
                *average = ((&*average * decay)? + (var.as_detached_tensor() * (1.0 - decay))?)?;
            }
        }
        Ok(())
    }

    /// The averages by tensor name.
    #[must_use]
    pub fn averages(&self) -> &BTreeMap<String, Tensor> {
        &self.averages
    }

    /// Replaces the averages by those of a checkpoint.
    ///
    /// # Errors
    /// Names a tensor that the checkpoint lacks.
    pub fn restore(&mut self, averages: BTreeMap<String, Tensor>) -> Result<()> {
        super::adamw::same_names(&self.averages, &averages)?;
        self.averages = averages;
        Ok(())
    }
}
