//! LPIPS (Zhang et al. 2018): how different two pictures look, by what a VGG-16 sees in them.
//!
//! Of each of five layers the features are brought to unit length at every place; the squared difference, weighted by
//! channel, is averaged over the places and summed over the layers. Differentiable in the pictures; the weights stay.

use candle_core::{DType, Device, Result, Tensor, bail};
use raygen_nn::{ConvGeometry, conv2d};

use crate::import::Tensors;

/// Numbers that torchvision's `vgg16.features` gives its convolutions, slice by slice; a pooling lies between two slices.
pub(crate) const SLICES: [&[usize]; 5] = [&[0, 2], &[5, 7], &[10, 12, 14], &[17, 19, 21], &[24, 26, 28]];
/// Mean and deviation that the pictures, in [-1, 1], are normalised by: ImageNet's, as LPIPS states them.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Keeps the length of a feature of zeros away from a division by zero, and its gradient finite.
const EPS: f64 = 1e-10;
/// Least side of a picture: four poolings halve it.
pub const SMALLEST_SIDE: usize = 16;

/// The convolutional part of a VGG-16, and a weight for each channel that is compared.
#[derive(Debug, Clone)]
pub struct Lpips {
    slices: Vec<Slice>,
    shift: Tensor,
    scale: Tensor,
}

#[derive(Debug, Clone)]
struct Slice {
    /// Weight [out, in, 3, 3] and bias [out] of each convolution.
    convolutions: Vec<(Tensor, Tensor)>,
    /// [1, channels, 1, 1]; without it every channel counts once.
    linear: Option<Tensor>,
}

impl Lpips {
    /// Builds the network of `features.N.{weight,bias}` and, where they are there, `linK.weight` [1, channels, 1, 1].
    /// Widths are those of the tensors.
    ///
    /// # Errors
    /// A tensor that is missing or does not fit the one before it.
    pub fn new(tensors: &Tensors, device: &Device) -> Result<Self> {
        let get = |name: &str| match tensors.get(name) {
            Some(tensor) => tensor.to_device(device)?.to_dtype(DType::F32)?.contiguous(),
            None => bail!("tensor {name} is missing"),
        };
        let mut inputs = 3;
        let mut slices = Vec::with_capacity(SLICES.len());
        for (index, numbers) in SLICES.iter().enumerate() {
            let mut convolutions = Vec::with_capacity(numbers.len());
            for number in *numbers {
                let name = format!("features.{number}.weight");
                let (weight, bias) = (get(&name)?, get(&format!("features.{number}.bias"))?);
                let outputs = bias.elem_count();
                if weight.dims() != [outputs, inputs, 3, 3] {
                    bail!("tensor {name} has shape {:?}; [{outputs}, {inputs}, 3, 3] was expected", weight.dims())
                }
                convolutions.push((weight, bias));
                inputs = outputs;
            }
            let name = format!("lin{index}.weight");
            let linear = if tensors.contains_key(&name) { Some(get(&name)?) } else { None };
            if let Some(linear) = &linear
                && linear.dims() != [1, inputs, 1, 1]
            {
                bail!("tensor {name} has shape {:?}; [1, {inputs}, 1, 1] was expected", linear.dims())
            }
            slices.push(Slice { convolutions, linear });
        }
        let per_channel = |values: [f32; 3]| Tensor::new(&values, device)?.reshape((1, 3, 1, 1));
        Ok(Self { slices, shift: per_channel(SHIFT)?, scale: per_channel(SCALE)? })
    }

    /// Whether channels have learnt weights.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        self.slices.iter().all(|slice| slice.linear.is_some())
    }

    /// Images [batch, 1 or 3, height, width] in [-1, 1] to the features of the five slices, each
    /// [batch, channels, h, w] and of unit length at every place.
    ///
    /// # Errors
    /// Images of other channels or smaller than [`SMALLEST_SIDE`].
    pub fn features(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let (_, channels, height, width) = images.dims4()?;
        if ![1, 3].contains(&channels) || height < SMALLEST_SIDE || width < SMALLEST_SIDE {
            bail!(
                "images have shape {:?}; [batch, 1 or 3, H, W] of {SMALLEST_SIDE} pixels and more was expected",
                images.dims()
            )
        }
        let colour = if channels == 1 { images.repeat((1, 3, 1, 1))? } else { images.clone() };
        let mut x = colour.broadcast_sub(&self.shift)?.broadcast_div(&self.scale)?;
        let mut features = Vec::with_capacity(self.slices.len());
        for (index, slice) in self.slices.iter().enumerate() {
            if index > 0 {
                x = halve(&x)?;
            }
            for (weight, bias) in &slice.convolutions {
                x = conv2d(&x, weight, Some(bias), &ConvGeometry::same(3))?.relu()?;
            }
            features.push(unit_length(&x)?);
        }
        Ok(features)
    }

    /// The distance of each picture of `ours` to its counterpart in `theirs`, both [batch, 1 or 3, height, width] in
    /// [-1, 1]: [batch].
    ///
    /// # Errors
    /// As [`features`](Self::features), and where the shapes differ.
    pub fn distance(&self, ours: &Tensor, theirs: &Tensor) -> Result<Tensor> {
        let (ours, theirs) = (self.features(ours)?, self.features(theirs)?);
        let mut total: Option<Tensor> = None;
        for ((slice, ours), theirs) in self.slices.iter().zip(&ours).zip(&theirs) {
            let squares = (ours - theirs)?.sqr()?;
            let weighted = match &slice.linear {
                Some(linear) => squares.broadcast_mul(linear)?,
                None => squares,
            };
            let distance = weighted.sum(1)?.flatten_from(1)?.mean(1)?;
            total = Some(match total {
                Some(total) => (total + distance)?,
                None => distance,
            });
        }
        total.ok_or_else(|| candle_core::Error::Msg("a VGG-16 has five slices".to_owned()))
    }
}

/// The largest of each 2x2 block; an odd last row or column is left out. Not candle's pooling, whose gradient is wrong there.
fn halve(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (height, width) = (height / 2, width / 2);
    let even = x.narrow(2, 0, 2 * height)?.narrow(3, 0, 2 * width)?.contiguous()?;
    let columns = even.reshape((batch, channels, 2 * height, width, 2))?;
    let wide = columns.narrow(4, 0, 1)?.maximum(&columns.narrow(4, 1, 1)?)?;
    let rows = wide.reshape((batch, channels, height, 2, width))?;
    rows.narrow(3, 0, 1)?.maximum(&rows.narrow(3, 1, 1)?)?.reshape((batch, channels, height, width))
}

/// Features [batch, channels, h, w] over their length at each place. Differentiable, also where they are zeros.
///
/// # Errors
/// A tensor of another rank.
pub fn unit_length(x: &Tensor) -> Result<Tensor> {
    let length = ((x.sqr()?.sum_keepdim(1)? + EPS * EPS)?.sqrt()? + EPS)?;
    x.broadcast_div(&length)
}
