//! Multi-scale structure: the absolute difference of image gradients at halving scales. Sharpness without a perceptual network.

use candle_core::{Result, Tensor};

/// Mean absolute difference of horizontal and vertical gradients of `ours` and `target` [batch, channels, height, width],
/// averaged over `scales` scales, each half the size of the one before.
///
/// # Errors
/// Where a side cannot be halved, or a tensor operation fails.
pub fn structure_loss(ours: &Tensor, target: &Tensor, scales: usize) -> Result<Tensor> {
    // The gradient is linear: the difference's gradients are the gradients' differences.
    let mut difference = (ours - target)?;
    let mut total = edges(&difference)?;
    for _ in 1..scales {
        difference = halve(&difference)?;
        total = (total + edges(&difference)?)?;
    }
    total / scales as f64
}

fn edges(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let horizontal = (x.narrow(3, 1, w - 1)? - x.narrow(3, 0, w - 1)?)?.abs()?.mean_all()?;
    let vertical = (x.narrow(2, 1, h - 1)? - x.narrow(2, 0, h - 1)?)?.abs()?.mean_all()?;
    horizontal + vertical
}

/// 2x2 means, by reshape and mean: candle's pooling is not needed, and its gradient not trusted.
fn halve(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    x.contiguous()?.reshape((b, c, h / 2, 2, w / 2, 2))?.mean(5)?.mean(3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{Device, Var};

    use super::*;

    fn ramp(seed: f32) -> Vec<f32> {
        (0..64).map(|i| ((i as f32 + seed) * 0.37).sin()).collect()
    }

    #[test]
    fn equal_pictures_lose_nothing_and_a_constant_offset_neither() {
        let x = Tensor::from_vec(ramp(0.0), (1, 1, 8, 8), &Device::Cpu).unwrap();
        let y = (&x + 0.5).unwrap();
        assert!(structure_loss(&x, &y, 3).unwrap().to_scalar::<f32>().unwrap() < 1e-6);
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let target = Tensor::from_vec(ramp(3.0), (1, 1, 8, 8), &Device::Cpu).unwrap();
        let x = Var::from_vec(ramp(0.0), (1, 1, 8, 8), &Device::Cpu).unwrap();
        let gradients = structure_loss(x.as_tensor(), &target, 3).unwrap().backward().unwrap();
        let gradient = gradients.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let at = |i: usize, d: f32| {
            let mut v = ramp(0.0);
            v[i] += d;
            let x = Tensor::from_vec(v, (1, 1, 8, 8), &Device::Cpu).unwrap();
            structure_loss(&x, &target, 3).unwrap().to_scalar::<f32>().unwrap()
        };
        for i in [0, 9, 27, 63] {
            let numeric = (at(i, 1e-3) - at(i, -1e-3)) / 2e-3;
            assert!((numeric - gradient[i]).abs() < 2e-3, "{i}: {numeric} {}", gradient[i]);
        }
    }
}
