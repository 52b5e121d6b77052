//! Everything of the classifier that changes from step to step.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use raygen_model::densenet::{DenseNetConfig, TrainingDenseNet, is_running};
use raygen_nn::{Parameters, binary_cross_entropy};

use super::batch::Batch;
use super::start::Start;
use crate::config::ClassifierConfig;
use crate::optim::{AdamW, Gradients, MovingAverage, Reduce};
use crate::run::Checkpoint;

/// Weights, running statistics, moments and averages.
pub(super) struct Training {
    network: TrainingDenseNet,
    /// All tensors, by name.
    variables: Vec<(String, Var)>,
    /// Those that follow the gradient: all but the running statistics.
    trained: Vec<(String, Var)>,
    optimiser: AdamW,
    average: MovingAverage,
}

/// What one step saw.
pub(super) struct Step {
    pub(super) loss: f64,
    pub(super) gradient_norm: f64,
}

impl Training {
    pub(super) fn new(
        seed: u64,
        config: &ClassifierConfig,
        shape: &DenseNetConfig,
        start: Option<&Start>,
        device: &Device,
    ) -> Result<Self> {
        let parameters = Parameters::initialised(seed, device);
        let network = TrainingDenseNet::new(shape, parameters.builder(DType::F32))?;
        let variables = parameters.named();
        if let Some(start) = start {
            for (name, var) in &variables {
                if let Some(tensor) = start.tensor(name)? {
                    var.set(tensor)?;
                }
            }
        }
        let trained: Vec<_> = variables.iter().filter(|(name, _)| !is_running(name)).cloned().collect();
        Ok(Self {
            network,
            optimiser: AdamW::new(config.optimiser, &trained)?,
            // With the running statistics, so that averaged weights and statistics fit each other.
            average: MovingAverage::new(config.optimiser.ema_decay, &variables)?,
            variables,
            trained,
        })
    }

    /// One update by the films of this rank and those of the others. Each normalises its own; the running statistics follow those of
    /// all of them.
    pub(super) fn step(
        &mut self,
        config: &ClassifierConfig,
        batch: &Batch,
        reduce: &dyn Reduce,
        step: u64,
        rate: f64,
    ) -> Result<Step> {
        let (logits, statistics) = self.network.logits(&batch.images)?;
        let mean = binary_cross_entropy(&logits, &batch.targets, &batch.weights)?;
        // The mean of a rank is over the answers to its own films: of those of the step it has this share.
        let loss = if reduce.ranks() == 1 { mean } else { (mean * share(batch, reduce)?)? };
        let gradients = reduce.sum_gradients(Gradients::of(&self.trained, &loss.backward()?))?;
        let report = self.optimiser.update(&self.trained, &gradients, rate)?;
        if report.without_gradient > 0 {
            bail!("{} tensors of the classifier got no gradient: it would not learn", report.without_gradient);
        }
        let statistics = match reduce.ranks() {
            1 => statistics,
            ranks => statistics.pooled(ranks, |tensors| -> Result<_> {
                Ok(reduce.sum_gradients(tensors.into_iter().collect())?.into_iter().collect())
            })?,
        };
        statistics.follow(&self.variables, config.norm_momentum)?;
        self.average.update(&self.variables, step)?;
        let loss = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        let loss = reduce.sum_numbers(vec![loss])?.first().copied().unwrap_or(loss);
        Ok(Step { loss, gradient_norm: report.gradient_norm })
    }

    /// What is validated and exported: the averages (without averaging, the weights themselves).
    pub(super) fn exported(&self) -> BTreeMap<String, Tensor> {
        self.average.averages().clone()
    }

    pub(super) fn checkpoint(&self, step: u64) -> Checkpoint {
        let (updates, first, second) = self.optimiser.state();
        let weights = self.variables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        Checkpoint {
            step,
            updates,
            groups: BTreeMap::from([
                ("weights".to_owned(), weights),
                ("first".to_owned(), first.clone()),
                ("second".to_owned(), second.clone()),
                ("average".to_owned(), self.average.averages().clone()),
            ]),
            ..Checkpoint::default()
        }
    }

    /// Takes up a checkpoint; its step.
    pub(super) fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<u64> {
        let weights = checkpoint.take("weights");
        for (name, var) in &self.variables {
            var.set(weights.get(name).with_context(|| format!("the checkpoint lacks tensor {name}"))?)?;
        }
        self.optimiser.restore(checkpoint.updates, checkpoint.take("first"), checkpoint.take("second"))?;
        self.average.restore(checkpoint.take("average"))?;
        Ok(checkpoint.step)
    }
}

/// This rank's share of the weights of all answers of a step.
fn share(batch: &Batch, reduce: &dyn Reduce) -> Result<f64> {
    let own = f64::from(batch.weights.sum_all()?.to_scalar::<f32>()?);
    let all = reduce.sum_numbers(vec![own])?.first().copied().unwrap_or(own);
    // Where no film of any rank has an answer, nothing is lost.
    Ok(if all > 0.0 { own / all } else { 0.0 })
}
