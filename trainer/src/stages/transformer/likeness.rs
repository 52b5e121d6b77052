//! Which codes may pass for one another: soft targets over a codebook, after RQ-Transformer (Lee et al. 2022, section 3.2.3).

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

/// The target distribution of each code, [codes, codes] f32: `1 - share - uniform` on the code itself, `share` over all codes by
/// exp(-d^2 / (2 s^2)), where d is the distance in the codebook [codes, width] and s^2 the mean squared distance of a code to its
/// nearest neighbour, and `uniform` over all alike.
///
/// # Errors
/// Where the codebook is no matrix.
pub(super) fn code_likeness(codebook: &Tensor, share: f64, uniform: f64) -> Result<Tensor> {
    let codes = codebook.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let count = codes.len();
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let squared: Vec<Vec<f64>> = codes.iter().map(|a| codes.iter().map(|b| distance(a, b)).collect()).collect();
    let nearest = |(own, row): (usize, &Vec<f64>)| {
        row.iter().enumerate().filter(|(other, _)| *other != own).map(|(_, d)| *d).fold(f64::INFINITY, f64::min)
    };
    let scale = 2.0 * squared.iter().enumerate().map(nearest).sum::<f64>() / count as f64;
    let mut table = Vec::with_capacity(count * count);
    for (own, row) in squared.iter().enumerate() {
        let kernel: Vec<f64> = row.iter().map(|d| (-d / scale.max(f64::MIN_POSITIVE)).exp()).collect();
        let total: f64 = kernel.iter().sum();
        table.extend(kernel.iter().enumerate().map(|(other, weight)| {
            let itself = if other == own { 1.0 - share - uniform } else { 0.0 };
            (itself + share * weight / total + uniform / count as f64) as f32
        }));
    }
    Ok(Tensor::from_vec(table, (count, count), codebook.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_distributions_that_favour_near_codes() -> Result<()> {
        let codebook = Tensor::new(&[[0f32, 0.0], [1.0, 0.0], [0.0, 1.2], [9.0, 9.0], [9.0, 10.0]], &Device::Cpu)?;
        let table = code_likeness(&codebook, 0.4, 0.1)?.to_vec2::<f32>()?;
        for row in &table {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
        }
        assert!(table[0][0] > 0.5 && table[0][1] > table[0][2] && table[0][2] > 2.0 * table[0][3], "{:?}", table[0]);
        // Nothing but the uniform share goes to a code that is far away.
        assert!((table[0][3] - 0.1 / 5.0).abs() < 1e-6, "{:?}", table[0]);
        Ok(())
    }
}
