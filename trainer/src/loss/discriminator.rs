//! The discriminator of patches (PatchGAN, Isola et al. 2017) and the hinge losses around it (Lim and Ye 2017).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use raygen_nn::layers::{Conv2d, GroupNorm};
use raygen_nn::{ConvGeometry, Padding};

/// Side of every kernel.
const KERNEL: usize = 4;
/// Slope of the activation below zero.
const SLOPE: f64 = 0.2;
/// The widest layer, in units of the first.
const WIDEST: usize = 8;
/// Groups of a norm at most.
const GROUPS: usize = 8;
const NORM_EPS: f64 = 1e-5;

/// Convolutions that halve the picture, and a score for every patch that the last of them sees.
///
/// Where the published code normalises over the batch, this one does over groups of channels: what it says of a picture
/// depends on that picture alone, and there are no running statistics that a resume could lose.
#[derive(Debug, Clone)]
pub struct Discriminator {
    first: Conv2d,
    layers: Vec<(Conv2d, GroupNorm)>,
    score: Conv2d,
}

// === impl Discriminator ===

impl Discriminator {
    /// `halvings` layers of stride 2 from `channels` on, one more of stride 1, then the scores.
    ///
    /// # Errors
    /// A tensor that `vb` lacks or has in another shape.
    #[expect(clippy::needless_pass_by_value, reason = "as every candle network takes its builder")]
    pub fn new(image_channels: usize, channels: usize, halvings: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let geometry = |stride| ConvGeometry { stride, padding: Padding::all(1) };
        let conv = |inputs, outputs, stride, name: &str| {
            Conv2d::new(inputs, outputs, KERNEL, geometry(stride), vb.pp("main").pp(name))
        };
        let width = |layer: usize| channels * WIDEST.min(1 << layer.min(WIDEST));
        let layers = (1..=halvings)
            .map(|layer| {
                let stride = if layer < halvings { 2 } else { 1 };
                let (inputs, outputs) = (width(layer - 1), width(layer));
                let groups = (1..=GROUPS).rev().find(|groups| outputs.is_multiple_of(*groups)).unwrap_or(1);
                let norm = GroupNorm::new(groups, outputs, NORM_EPS, vb.pp("main").pp(format!("norm{layer}")))?;
                Ok((conv(inputs, outputs, stride, &format!("conv{layer}"))?, norm))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            first: conv(image_channels, channels, 2, "conv0")?,
            layers,
            score: conv(width(halvings), 1, 1, "score")?,
        })
    }

    /// The least side of a picture that has a patch.
    #[must_use]
    pub fn smallest_side(halvings: usize) -> usize {
        // The two layers of stride 1 take a pixel each of what the others leave.
        3 << halvings
    }

    /// Images [batch, channels, height, width] in [-1, 1] to a score for each patch, [batch, 1, h, w]: high for films.
    ///
    /// # Errors
    /// Images of other channels, or too small for a patch.
    pub fn scores(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = leaky(&self.first.forward(images)?)?;
        for (conv, norm) in &self.layers {
            x = leaky(&norm.forward(&conv.forward(&x)?)?)?;
        }
        self.score.forward(&x)
    }
}

/// `x` above zero, a fifth of it below.
fn leaky(x: &Tensor) -> Result<Tensor> {
    (x.relu()? * (1.0 - SLOPE))? + (x * SLOPE)?
}

/// What the discriminator loses by its scores of films and of pictures: those that are not on the right side of the margin.
///
/// # Errors
/// Where a tensor operation fails.
pub fn hinge_loss(films: &Tensor, pictures: &Tensor) -> Result<Tensor> {
    let films = films.affine(-1.0, 1.0)?.relu()?.mean_all()?;
    let pictures = pictures.affine(1.0, 1.0)?.relu()?.mean_all()?;
    (films + pictures)? * 0.5
}

/// What pictures lose by the scores that they get.
///
/// # Errors
/// Where a tensor operation fails.
pub fn adversarial_loss(pictures: &Tensor) -> Result<Tensor> {
    pictures.mean_all()?.neg()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{DType, Device, Var};
    use raygen_nn::Parameters;

    use super::*;

    fn network() -> (Parameters, Discriminator) {
        let parameters = Parameters::initialised(3, &Device::Cpu);
        let network = Discriminator::new(1, 4, 2, parameters.builder(DType::F32)).unwrap();
        (parameters, network)
    }

    fn images(seed: f32) -> Tensor {
        let pixels: Vec<f32> = (0..2 * 16 * 16).map(|i| ((i as f32 + seed) * 0.37).sin()).collect();
        Tensor::from_vec(pixels, (2, 1, 16, 16), &Device::Cpu).unwrap()
    }

    fn value(tensor: &Tensor) -> f64 {
        f64::from(tensor.to_scalar::<f32>().unwrap())
    }

    #[test]
    fn every_tensor_has_the_gradient_that_finite_differences_give() {
        let (parameters, network) = network();
        let loss = |network: &Discriminator| {
            hinge_loss(&network.scores(&images(0.0)).unwrap(), &network.scores(&images(5.0)).unwrap()).unwrap()
        };
        let gradients = loss(&network).backward().unwrap();
        for (name, var) in parameters.named() {
            let gradient = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{name} has no gradient"));
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let before = var.as_detached_tensor().copy().unwrap();
            let values = before.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let place = values.len() / 2;
            let at = |difference: f32| {
                let mut values = values.clone();
                values[place] += difference;
                var.set(&Tensor::from_vec(values, before.shape(), &Device::Cpu).unwrap()).unwrap();
                value(&loss(&network))
            };
            let numeric = (at(2e-3) - at(-2e-3)) / 4e-3;
            var.set(&before).unwrap();
            let ours = f64::from(gradient[place]);
            assert!((numeric - ours).abs() < 2e-3 + 0.02 * numeric.abs(), "{name}: {numeric} {ours}");
        }
    }

    #[test]
    fn scores_beyond_the_margin_lose_nothing_and_wrong_ones_in_proportion() {
        let scores = |value: f32| Tensor::full(value, (1, 1, 2, 2), &Device::Cpu).unwrap();
        assert_eq!(value(&hinge_loss(&scores(2.0), &scores(-2.0)).unwrap()), 0.0);
        assert_eq!(value(&hinge_loss(&scores(0.0), &scores(0.0)).unwrap()), 1.0);
        assert_eq!(value(&hinge_loss(&scores(-1.0), &scores(3.0)).unwrap()), 3.0);
        assert_eq!(value(&adversarial_loss(&scores(0.5)).unwrap()), -0.5);
    }

    #[test]
    fn what_it_says_of_a_picture_does_not_depend_on_the_others() {
        let (_, network) = network();
        let both = network.scores(&images(0.0)).unwrap();
        let first = network.scores(&images(0.0).narrow(0, 0, 1).unwrap()).unwrap();
        let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(&both.narrow(0, 0, 1).unwrap()), bits(&first));
    }

    #[test]
    fn the_smallest_side_has_a_patch_and_a_smaller_one_has_none() {
        for halvings in [1, 2, 3] {
            let parameters = Parameters::initialised(0, &Device::Cpu);
            let network = Discriminator::new(1, 2, halvings, parameters.builder(DType::F32)).unwrap();
            let scores = |side: usize| {
                network
                    .scores(&Tensor::zeros((1, 1, side, side), DType::F32, &Device::Cpu).unwrap())
                    .map(|s| s.dims().to_vec())
            };
            let side = Discriminator::smallest_side(halvings);
            assert!(scores(side).is_ok_and(|dims| dims[2] > 0), "{halvings}: {:?}", scores(side));
            let image = Var::zeros((1, 1, side, side), DType::F32, &Device::Cpu).unwrap();
            assert!(network.scores(image.as_tensor()).unwrap().mean_all().unwrap().backward().is_ok());
        }
    }
}
