//! Weighted cross-entropy from logits, with label smoothing or a table of classes that are alike.

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
    if !(0.0..=1.0).contains(&label_smoothing) {
        bail!("cross_entropy: the label smoothing is {label_smoothing}; it must be in [0, 1]")
    }
    let target_ids = checked("cross_entropy", logits, targets, weights)?;
    if !host::is_fused(&[logits, weights]) {
        return reference::cross_entropy(logits, targets, weights, label_smoothing);
    }
    let aim = Aim::OneHot { smoothing: label_smoothing as f32 };
    logits.contiguous()?.apply_op1(CrossEntropy { targets: target_ids, shares: shares(weights)?, aim })
}

/// As [`cross_entropy`], for classes that may pass for one another: the target distribution of a row is row `target` of
/// `likeness` [classes, classes] f32, whose rows are distributions. The table gets no gradient.
///
/// # Errors
/// If the shapes do not fit or a target is not below `classes`.
pub fn cross_entropy_of_likeness(
    logits: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    likeness: &Tensor,
) -> Result<Tensor> {
    let target_ids = checked("cross_entropy_of_likeness", logits, targets, weights)?;
    let classes = logits.dim(1)?;
    if likeness.dims() != [classes, classes] {
        bail!("cross_entropy_of_likeness: the table is {:?}; it must be [{classes}, {classes}]", likeness.shape())
    }
    if !host::is_fused(&[logits, weights, likeness]) {
        return reference::cross_entropy_of_likeness(logits, targets, weights, likeness);
    }
    let aim = Aim::Likeness(likeness.flatten_all()?.to_vec1()?);
    logits.contiguous()?.apply_op1(CrossEntropy { targets: target_ids, shares: shares(weights)?, aim })
}

/// The targets of arguments that fit each other.
fn checked(name: &str, logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Vec<u32>> {
    let (rows, classes) = logits.dims2()?;
    if targets.dims() != [rows] || weights.dims() != [rows] {
        bail!("{name}: targets have shape {:?}, weights {:?}; both must be [{rows}]", targets.shape(), weights.shape())
    }
    if targets.dtype() != DType::U32 {
        bail!("{name}: the targets are {:?}; they must be u32", targets.dtype())
    }
    let target_ids = targets.to_vec1::<u32>()?;
    if let Some(row) = target_ids.iter().position(|id| *id as usize >= classes) {
        bail!("{name}: the target of row {row} is {}; there are {classes} classes", target_ids[row])
    }
    Ok(target_ids)
}

/// Each row's share of the mean; no row has one where there is nothing to average.
fn shares(weights: &Tensor) -> Result<Vec<f32>> {
    let weights: Vec<f32> = weights.to_vec1()?;
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    Ok(weights.iter().map(|weight| if *weight == 0.0 { 0.0 } else { (f64::from(*weight) / total) as f32 }).collect())
}

/// Invariant: targets and shares have one entry for each row of the logits, every target below the classes.
struct CrossEntropy {
    targets: Vec<u32>,
    shares: Vec<f32>,
    aim: Aim,
}

/// The target distributions.
enum Aim {
    /// The target, and a little of everything.
    OneHot { smoothing: f32 },
    /// Row `target` of a table [classes, classes].
    Likeness(Vec<f32>),
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
                let target = *target as usize;
                let expected = match &self.aim {
                    Aim::OneHot { smoothing } => (1.0 - smoothing) * row[target] + smoothing * sum / classes as f32,
                    Aim::Likeness(table) => {
                        table[target * classes..][..classes].iter().zip(row).map(|(q, x)| q * x).sum()
                    }
                };
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
                let target = *target as usize;
                let (log_sum, _) = log_sum_exp(row);
                match &self.aim {
                    Aim::OneHot { smoothing } => {
                        backward_row(d_row, row, log_sum, factor, smoothing / classes as f32);
                        d_row[target] -= factor * (1.0 - smoothing);
                    }
                    Aim::Likeness(table) => {
                        backward_row(d_row, row, log_sum, factor, 0.0);
                        for (d, q) in d_row.iter_mut().zip(&table[target * classes..][..classes]) {
                            *d -= factor * q;
                        }
                    }
                }
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
