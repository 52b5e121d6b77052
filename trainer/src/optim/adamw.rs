//! AdamW (Loshchilov and Hutter 2019) whose moments can be saved, so that a run resumes exactly.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};

use super::Gradients;
use super::elementwise::{self, AdamUpdate};
use crate::config::OptimiserConfig;

/// First and second moments by tensor name, in f32.
pub struct AdamW {
    config: OptimiserConfig,
    first: BTreeMap<String, Tensor>,
    second: BTreeMap<String, Tensor>,
    /// Updates made so far, for the bias correction.
    updates: u64,
}

/// What one update saw.
#[derive(Debug, Clone, Copy)]
pub struct StepReport {
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tensors that had no gradient: a network that does not learn.
    pub without_gradient: usize,
}

impl AdamW {
    /// Moments of zero for each variable.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(config: OptimiserConfig, variables: &[(String, Var)]) -> Result<Self> {
        let zeros = || {
            variables
                .iter()
                .map(|(name, var)| Ok((name.clone(), Tensor::zeros(var.shape(), DType::F32, var.device())?)))
                .collect::<Result<BTreeMap<_, _>>>()
        };
        Ok(Self { config, first: zeros()?, second: zeros()?, updates: 0 })
    }

    /// Updates `variables` by `gradients` at `learning_rate`, clipped to the configured norm.
    /// A gradient that is not finite changes nothing and comes back as a norm that is not finite.
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub fn step(
        &mut self,
        variables: &[(String, Var)],
        gradients: &GradStore,
        learning_rate: f64,
    ) -> Result<StepReport> {
        self.update(variables, &Gradients::of(variables, gradients), learning_rate)
    }

    /// The same by gradients that were added up already.
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub fn update(
        &mut self,
        variables: &[(String, Var)],
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<StepReport> {
        let mut squares = 0.0;
        let mut without_gradient = 0;
        for (name, _) in variables {
            match gradients.get(name) {
                // Summed per tensor in f64, tensors in name order: the same for any number of threads.
                Some(gradient) => squares += sum_of_squares(gradient)?,
                None => without_gradient += 1,
            }
        }
        let gradient_norm = squares.sqrt();
        let report = StepReport { gradient_norm, without_gradient };
        if !gradient_norm.is_finite() {
            return Ok(report);
        }
        let scale = (self.config.clip_norm / (gradient_norm + 1e-6)).min(1.0);
        self.updates += 1;
        let exponent = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let rate = learning_rate / (1.0 - self.config.beta1.powi(exponent));
        let second_correction = 1.0 / (1.0 - self.config.beta2.powi(exponent));
        for (name, var) in variables {
            let (Some(gradient), Some(first), Some(second)) =
                (gradients.get(name), self.first.get_mut(name), self.second.get_mut(name))
            else {
                continue;
            };
            let gradient =
                if scale < 1.0 { (gradient.to_dtype(DType::F32)? * scale)? } else { gradient.to_dtype(DType::F32)? };
            let decay = if decays(name, var) { self.config.weight_decay } else { 0.0 };
            let update = AdamUpdate { rate, second_correction, epsilon: 1e-8, keep: 1.0 - learning_rate * decay };
            if elementwise::in_place(var.as_tensor()) {
                elementwise::blend(first, &gradient, self.config.beta1)?;
                elementwise::blend_squares(second, &gradient, self.config.beta2)?;
                elementwise::adam(var.as_tensor(), first, second, update)?;
            } else {
                *first = ((&*first * self.config.beta1)? + (&gradient * (1.0 - self.config.beta1))?)?;
                *second = ((&*second * self.config.beta2)? + (gradient.sqr()? * (1.0 - self.config.beta2))?)?;
                let root = ((&*second * update.second_correction)?.sqrt()? + update.epsilon)?;
                let weight = var.as_detached_tensor();
                let moved = ((weight * update.keep)? - ((&*first * update.rate)? / root)?.to_dtype(var.dtype())?)?;
                var.set(&moved)?;
            }
        }
        Ok(report)
    }

    /// Updates made so far, first and second moments: with the weights, all that a resume needs.
    #[must_use]
    pub fn state(&self) -> (u64, &BTreeMap<String, Tensor>, &BTreeMap<String, Tensor>) {
        (self.updates, &self.first, &self.second)
    }

    /// Takes up the state of a checkpoint.
    ///
    /// # Errors
    /// Names a tensor whose moments the checkpoint lacks: it would silently stop learning.
    pub fn restore(
        &mut self,
        updates: u64,
        first: BTreeMap<String, Tensor>,
        second: BTreeMap<String, Tensor>,
    ) -> Result<()> {
        same_names(&self.first, &first)?;
        same_names(&self.second, &second)?;
        self.updates = updates;
        self.first = first;
        self.second = second;
        Ok(())
    }
}

/// Checks that a restored group has the tensors that training needs, in their shapes.
pub(super) fn same_names(expected: &BTreeMap<String, Tensor>, found: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, tensor) in expected {
        match found.get(name) {
            Some(other) if other.dims() == tensor.dims() => {}
            Some(other) => candle_core::bail!(
                "the checkpoint's state of {name} has shape {:?}, expected {:?}",
                other.dims(),
                tensor.dims()
            ),
            None => candle_core::bail!("the checkpoint lacks the state of tensor {name}"),
        }
    }
    Ok(())
}

/// Weight decay is for matrices and kernels: not for biases and gains (rank 1), nor for embeddings, whose rare rows would fade.
fn decays(name: &str, var: &Var) -> bool {
    var.rank() >= 2 && !name.contains("embedding") && !name.contains("pos_emb")
}

fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    fn config(weight_decay: f64) -> OptimiserConfig {
        OptimiserConfig {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            weight_decay,
            warm_up_steps: 0,
            clip_norm: 1e9,
            final_ratio: 1.0,
            ema_decay: 0.0,
            plateau: None,
        }
    }

    #[test]
    fn three_steps_agree_with_the_formula_in_f64() {
        let var = Var::from_slice(&[1.0f32, -2.0, 3.0, 0.5], (2, 2), &Device::Cpu).unwrap();
        let named = vec![("matrix.weight".to_owned(), var.clone())];
        let mut optimiser = AdamW::new(config(0.01), &named).unwrap();
        let (mut w, mut m, mut v) = ([1.0f64, -2.0, 3.0, 0.5], [0.0; 4], [0.0; 4]);
        for t in 1..=3 {
            let loss = var.as_tensor().sqr().unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            let report = optimiser.step(&named, &gradients, 0.1).unwrap();
            assert_eq!(report.without_gradient, 0);
            for i in 0..4 {
                let g = 2.0 * w[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (mh, vh) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
                w[i] = w[i] * (1.0 - 0.1 * 0.01) - 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        let ours = var.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in ours.iter().zip(w) {
            assert!((f64::from(*a) - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_no_weight() {
        let var = Var::from_slice(&[1.0f32], 1, &Device::Cpu).unwrap();
        let named = vec![("w".to_owned(), var.clone())];
        let mut optimiser = AdamW::new(config(0.0), &named).unwrap();
        let loss = (var.as_tensor() * f64::NAN).unwrap().sum_all().unwrap();
        let report = optimiser.step(&named, &loss.backward().unwrap(), 0.1).unwrap();
        assert!(!report.gradient_norm.is_finite());
        assert_eq!(var.as_tensor().to_vec1::<f32>().unwrap(), [1.0]);
        assert_eq!(optimiser.state().0, 0);
    }

    #[test]
    fn a_tensor_without_a_gradient_is_counted() {
        let used = Var::from_slice(&[1.0f32], 1, &Device::Cpu).unwrap();
        let unused = Var::from_slice(&[1.0f32], 1, &Device::Cpu).unwrap();
        let named = vec![("a".to_owned(), used.clone()), ("b".to_owned(), unused)];
        let mut optimiser = AdamW::new(config(0.0), &named).unwrap();
        let gradients = used.as_tensor().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(optimiser.step(&named, &gradients, 0.1).unwrap().without_gradient, 1);
    }
}
