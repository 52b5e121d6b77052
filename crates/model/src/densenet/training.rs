//! The DenseNet that learns: each norm goes by the statistics of the batch, and tells them for the running ones.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor, Var, bail};
use candle_nn::VarBuilder;
use raygen_nn::{BatchStatistics, batch_norm, batch_norm_relu};

use super::DenseNetConfig;
use super::network::Network;
use super::norm::{EPS, Norm, NormTensors};

/// A [`DenseNet`](super::DenseNet) in training, over the same tensors by the same names.
///
/// What it says of a film depends on the other films of the batch. It is never asked about a film: for that the weights
/// go into a [`DenseNet`](super::DenseNet), with the running statistics that [`Statistics::follow`] keeps.
#[derive(Debug, Clone)]
pub struct TrainingDenseNet {
    network: Network<BatchNorm>,
}

impl TrainingDenseNet {
    /// Builds the network from named tensors; of those whose name [`is_running`](super::is_running) it reads only the
    /// shape.
    ///
    /// # Errors
    /// A configuration that [`DenseNetConfig::validate`] refuses; a tensor that `vb` lacks or has in another shape.
    #[expect(clippy::needless_pass_by_value, reason = "as every candle network takes its builder")]
    pub fn new(config: &DenseNetConfig, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self { network: Network::new(config, &vb)? })
    }

    /// Images as for [`DenseNet::feature_maps`](super::DenseNet::feature_maps) to logits [batch, classes], and what the
    /// norms saw on the way.
    ///
    /// # Errors
    /// Images of other channels, or smaller than [`DenseNetConfig::smallest_side`]; a batch so small that a norm has
    /// only one value of each channel.
    pub fn logits(&self, images: &Tensor) -> Result<(Tensor, Statistics)> {
        let mut seen = Vec::new();
        let features = self.network.features(images, &mut seen)?;
        Ok((self.network.classify(&features)?, Statistics(seen)))
    }
}

/// The batch statistics of every norm that a batch went through.
#[derive(Debug)]
pub struct Statistics(Vec<Seen>);

/// The batch statistics of the norm at a prefix.
#[derive(Debug)]
pub(super) struct Seen {
    prefix: String,
    statistics: BatchStatistics,
}

impl Statistics {
    /// Those of the batches of several ranks together, all of one size, in the shape of this one's. `sum` adds named tensors up over
    /// the ranks. The deviations are taken from the common mean, so that a large mean costs no accuracy.
    ///
    /// # Errors
    /// Where `sum` fails, or a tensor operation.
    pub fn pooled<E: From<candle_core::Error>>(
        self,
        ranks: usize,
        mut sum: impl FnMut(BTreeMap<String, Tensor>) -> std::result::Result<BTreeMap<String, Tensor>, E>,
    ) -> std::result::Result<Self, E> {
        let mut mean = |of: &dyn Fn(&BatchStatistics, usize) -> Result<Tensor>| {
            let own = self.0.iter().enumerate().map(|(place, seen)| Ok((key(place), of(&seen.statistics, place)?)));
            let sums = sum(own.collect::<Result<_>>()?)?;
            let means = (0..self.0.len()).map(|place| match sums.get(&key(place)) {
                Some(sum) => sum / ranks as f64,
                None => bail!("the ranks have other norms"),
            });
            means.collect::<Result<Vec<Tensor>>>().map_err(E::from)
        };
        let means = mean(&|own, _| own.mean.to_dtype(DType::F32))?;
        let variances = mean(&|own, place| {
            own.variance.to_dtype(DType::F32)? + (own.mean.to_dtype(DType::F32)? - &means[place])?.sqr()?
        })?;
        let pooled = self.0.iter().zip(means).zip(variances).map(|((seen, mean), variance)| Seen {
            prefix: seen.prefix.clone(),
            statistics: BatchStatistics { mean, variance, count: seen.statistics.count * ranks },
        });
        Ok(Self(pooled.collect()))
    }

    /// Moves the running statistics among `variables` towards those of the batch, by the share `momentum` (PyTorch: 0.1).
    /// The variance that counts is the unbiased one.
    ///
    /// # Errors
    /// A running statistic is not among the variables.
    pub fn follow(&self, variables: &[(String, Var)], momentum: f64) -> Result<()> {
        let variables: BTreeMap<&str, &Var> = variables.iter().map(|(name, var)| (name.as_str(), var)).collect();
        let find = |name: &str| match variables.get(name) {
            Some(var) => Ok(*var),
            None => bail!("there is no variable {name}; without it the classifier could not predict"),
        };
        for Seen { prefix, statistics } in &self.0 {
            let (mean, variance) = NormTensors::running_names(prefix);
            let (mean, variance) = (find(&mean)?, find(&variance)?);
            let (new_mean, new_variance) =
                statistics.blended(&mean.as_detached_tensor(), &variance.as_detached_tensor(), momentum)?;
            mean.set(&new_mean)?;
            variance.set(&new_variance)?;
        }
        Ok(())
    }
}

/// The name of a norm's tensor in a sum.
fn key(place: usize) -> String {
    format!("{place:05}")
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` by the mean and variance of the batch.
#[derive(Debug, Clone)]
struct BatchNorm {
    prefix: String,
    weight: Tensor,
    bias: Tensor,
}

impl BatchNorm {
    fn saw(&self, statistics: BatchStatistics, seen: &mut Vec<Seen>) {
        seen.push(Seen { prefix: self.prefix.clone(), statistics });
    }
}

impl Norm for BatchNorm {
    type Seen = Vec<Seen>;

    fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        // The running statistics are asked for too, so that they are among the parameters.
        let NormTensors { weight, bias, .. } = NormTensors::new(channels, vb)?;
        Ok(Self { prefix: vb.prefix(), weight, bias })
    }

    fn forward(&self, x: &Tensor, seen: &mut Vec<Seen>) -> Result<Tensor> {
        let (y, statistics) = batch_norm(x, &self.weight, &self.bias, EPS)?;
        self.saw(statistics, seen);
        Ok(y)
    }

    fn forward_relu(&self, x: &Tensor, seen: &mut Vec<Seen>) -> Result<Tensor> {
        let (y, statistics) = batch_norm_relu(x, &self.weight, &self.bias, EPS)?;
        self.saw(statistics, seen);
        Ok(y)
    }
}
