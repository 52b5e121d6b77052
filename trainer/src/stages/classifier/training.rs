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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::optim::{Alone, Meeting, Threads};

    const SIDE: usize = 16;

    fn config() -> ClassifierConfig {
        let keys = "steps = 1\nbatch = 3\nclasses = [\"Edema\"]\noptimiser = { learning_rate = 1e-3, clip_norm = inf }\n\
                    model = { growth_rate = 4, block_layers = [1, 1], initial_features = 4, bottleneck = 1, in_channels = 1, scale = \"unit\" }";
        toml::from_str(keys).unwrap()
    }

    /// Six films, or a half of them; one has no answer.
    fn films(first: usize, count: usize) -> Batch {
        let numbers = |each: usize, of: &dyn Fn(usize) -> f32| -> Vec<f32> {
            (first * each..(first + count) * each).map(of).collect()
        };
        let tensor = |values: Vec<f32>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        Batch {
            images: tensor(
                numbers(SIDE * SIDE, &|i| 5.0 + (i as f32 * 0.61).sin() * (i as f32 * 1e-3)),
                &[count, 1, SIDE, SIDE],
            ),
            targets: tensor(numbers(1, &|i| (i % 2) as f32), &[count, 1]),
            weights: tensor(numbers(1, &|i| if i == 4 { 0.0 } else { 1.0 }), &[count, 1]),
        }
    }

    /// The variables after one step, and what it saw.
    fn after_a_step(batch: &Batch, reduce: &dyn Reduce) -> (BTreeMap<String, Vec<f32>>, f64, f64) {
        let config = config();
        let mut training = Training::new(3, &config, &config.network(SIDE), None, &Device::Cpu).unwrap();
        let step = training.step(&config, batch, reduce, 0, 1e-3).unwrap();
        let values = |var: &Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (
            training.variables.iter().map(|(name, var)| (name.clone(), values(var))).collect(),
            step.loss,
            step.gradient_norm,
        )
    }

    #[test]
    fn running_statistics_follow_the_films_of_all_ranks_and_every_answer_counts_once() {
        let meeting = Arc::new(Meeting::new(2));
        let ranks: Vec<_> = thread::scope(|scope| {
            let threads = [0, 1].map(|rank| {
                let meeting = Arc::clone(&meeting);
                scope.spawn(move || after_a_step(&films(3 * rank, 3), &Threads::new(rank, meeting)))
            });
            threads.map(|thread| thread.join().unwrap()).into()
        });
        assert!(ranks[0] == ranks[1], "the ranks have come apart");
        // Before the first norm nothing depends on how films are cut into batches: its statistics are those of all six.
        let (whole, ..) = after_a_step(&films(0, 6), &Alone);
        let of_one = after_a_step(&films(0, 3), &Alone).0;
        for name in whole.keys().filter(|name| name.contains("norm0") && is_running(name)) {
            let largest = whole[name].iter().fold(0f32, |most, value| most.max(value.abs()));
            let apart =
                |a: &[f32]| a.iter().zip(&whole[name]).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest;
            assert!(apart(&ranks[0].0[name]) < 1e-5, "{name}: {:?} {:?}", ranks[0].0[name], whole[name]);
            assert!(apart(&of_one[name]) > 1e-3, "{name}: half of the films has other statistics: the test can tell");
        }
        assert!(whole.keys().any(|name| name.contains("norm0") && is_running(name)));
        // Each rank by itself has the mean of its own answers, three and two of them.
        let losses = [0, 3].map(|first| after_a_step(&films(first, 3), &Alone).1);
        assert!((ranks[0].1 - (3.0 * losses[0] + 2.0 * losses[1]) / 5.0).abs() < 1e-5, "{losses:?} {}", ranks[0].1);
    }
}
