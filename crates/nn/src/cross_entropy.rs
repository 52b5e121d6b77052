//! Weighted cross-entropy with label smoothing, from logits.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::kernel::dispatch::vectorised;
use crate::kernel::{host, math};
use crate::reference;
use crate::softmax::log_sum_exp;

/// The mean of `-log softmax(logits)[target]` over the rows, each counted with its weight.
///
/// `logits` is [rows, classes], `targets` [rows] u32, `weights` [rows] f32; gives a scalar. With label smoothing s the
/// target distribution is `(1 - s) * one-hot + s / classes`, as in PyTorch. Rows of weight 0 are not looked at; if all
/// are, the loss is 0. Targets and weights get no gradient.
///
/// # Errors
/// If the shapes do not fit, a target is not below `classes` or `label_smoothing` is outside [0, 1].
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if targets.dims() != [rows] || weights.dims() != [rows] {
        bail!(
            "cross_entropy: targets have shape {:?}, weights {:?}; both must be [{rows}]",
            targets.shape(),
            weights.shape()
        )
    }
    if targets.dtype() != DType::U32 {
        bail!("cross_entropy: the targets are {:?}; they must be u32", targets.dtype())
    }
    if !(0.0..=1.0).contains(&label_smoothing) {
        bail!("cross_entropy: the label smoothing is {label_smoothing}; it must be in [0, 1]")
    }
    let target_ids = targets.to_vec1::<u32>()?;
    if let Some(row) = target_ids.iter().position(|id| *id as usize >= classes) {
        bail!("cross_entropy: the target of row {row} is {}; there are {classes} classes", target_ids[row])
    }
    if !host::is_fused(&[logits, weights]) {
        return reference::cross_entropy(logits, targets, weights, label_smoothing);
    }
    let weights: Vec<f32> = weights.to_vec1()?;
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    // Each row's share of the mean; no row has one where there is nothing to average.
    let shares =
        weights.iter().map(|weight| if *weight == 0.0 { 0.0 } else { (f64::from(*weight) / total) as f32 }).collect();
    logits.contiguous()?.apply_op1(CrossEntropy { targets: target_ids, shares, smoothing: label_smoothing as f32 })
}

/// Invariant: targets and shares have one entry for each row of the logits, every target below the classes.
struct CrossEntropy {
    targets: Vec<u32>,
    shares: Vec<f32>,
    smoothing: f32,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = host::slice(storage, layout)?;
        let (_, classes) = layout.shape().dims2()?;
        let losses: Vec<f64> = logits
            .par_chunks(classes.max(1))
            .zip(&self.targets)
            .zip(&self.shares)
            .with_min_len(16)
            .map(|((row, target), share)| {
                if *share == 0.0 {
                    return 0.0;
                }
                let (log_sum, sum) = log_sum_exp(row);
                let expected = (1.0 - self.smoothing) * row[*target as usize] + self.smoothing * sum / classes as f32;
                f64::from(*share) * f64::from(log_sum - expected)
            })
            .collect();
        let loss: f64 = losses.iter().sum();
        Ok(host::output(vec![loss as f32], ()))
    }

    fn bwd(&self, logits: &Tensor, _out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, classes) = logits.dims2()?;
        let gradient = gradient.to_scalar::<f32>()?;
        let reader = host::Reader::new(logits);
        let values = reader.values()?;
        let mut d_logits = vec![0.0; values.len()];
        d_logits
            .par_chunks_mut(classes.max(1))
            .zip(values.par_chunks(classes.max(1)))
            .zip(&self.targets)
            .zip(&self.shares)
            .with_min_len(16)
            .for_each(|(((d_row, row), target), share)| {
                if *share == 0.0 {
                    return;
                }
                let factor = gradient * share;
                let (log_sum, _) = log_sum_exp(row);
                backward_row(d_row, row, log_sum, factor, self.smoothing / classes as f32);
                d_row[*target as usize] -= factor * (1.0 - self.smoothing);
            });
        host::tensor(d_logits, logits.shape()).map(Some)
    }
}

vectorised! {
    /// `factor * (softmax(row) - floor)`.
    fn backward_row(d_row: &mut [f32], row: &[f32], log_sum: f32, factor: f32, floor: f32) {
        for (d, x) in d_row.iter_mut().zip(row) {
            *d = factor * (math::exp(x - log_sum) - floor);
        }
    }
}
