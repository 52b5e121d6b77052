//! Batch normalisation by the running statistics of training, in one pass with the activation behind it.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;

use super::norm::{EPS, Norm, NormTensors};

/// `(x - running_mean) / sqrt(running_var + eps) * weight + bias` of each channel of [batch, channels, height, width].
///
/// The running statistics make it a scale and a shift, which are computed once. Training goes by the statistics of the
/// batch, over the same four tensors: [`BatchNorm`](super::training).
#[derive(Debug, Clone)]
pub(super) struct RunningNorm {
    /// [channels].
    scale: Tensor,
    /// [channels].
    shift: Tensor,
}

impl Norm for RunningNorm {
    type Seen = ();

    fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let tensors = NormTensors::new(channels, vb)?;
        let f32s = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.contiguous();
        let (weight, bias) = (f32s(&tensors.weight)?, f32s(&tensors.bias)?);
        let (mean, variance) = (f32s(&tensors.running_mean)?, f32s(&tensors.running_var)?);
        let least = variance.min_all()?.to_scalar::<f32>()?;
        if least < 0.0 {
            bail!("tensor {}.running_var holds {least}; a variance is not negative", vb.prefix())
        }
        let scale = (weight / (variance + EPS)?.sqrt()?)?;
        let shift = (bias - (mean * &scale)?)?;
        Ok(Self { scale: scale.to_dtype(vb.dtype())?, shift: shift.to_dtype(vb.dtype())? })
    }

    fn forward(&self, x: &Tensor, (): &mut ()) -> Result<Tensor> {
        self.apply(x, false)
    }

    fn forward_relu(&self, x: &Tensor, (): &mut ()) -> Result<Tensor> {
        self.apply(x, true)
    }
}

impl RunningNorm {
    fn apply(&self, x: &Tensor, relu: bool) -> Result<Tensor> {
        if x.device().is_cpu() && x.dtype() == DType::F32 && self.scale.dtype() == DType::F32 {
            return x.contiguous()?.apply_op3(&self.scale, &self.shift, ScaleShift { relu });
        }
        let per_channel = |values: &Tensor| values.reshape((1, values.elem_count(), 1, 1));
        let y = x.broadcast_mul(&per_channel(&self.scale)?)?.broadcast_add(&per_channel(&self.shift)?)?;
        if relu { raygen_nn::relu(&y) } else { Ok(y) }
    }
}

/// `x * scale + shift` of each channel, and max(·, 0) if wanted. NaN stays NaN.
struct ScaleShift {
    relu: bool,
}

impl CustomOp3 for ScaleShift {
    fn name(&self) -> &'static str {
        "scale_shift"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, channels, height, width) = x_layout.shape().dims4()?;
        let scale = values(scale, scale_layout)?;
        let shift = values(shift, shift_layout)?;
        if scale.len() != channels || shift.len() != channels {
            bail!("batch norm of {} channels was given {channels}", scale.len())
        }
        let x = values(x, x_layout)?;
        let mut y = Vec::with_capacity(x.len());
        let planes = x.chunks_exact((height * width).max(1));
        for (plane, (scale, shift)) in planes.zip(scale.iter().zip(shift).cycle()) {
            if self.relu {
                y.extend(plane.iter().map(|x| {
                    let y = x * scale + shift;
                    if y < 0.0 { 0.0 } else { y }
                }));
            } else {
                y.extend(plane.iter().map(|x| x * scale + shift));
            }
        }
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    /// Of `x` alone: for a loss by what the network sees. Scale and shift are of a network that does not learn.
    fn bwd(
        &self,
        _x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        if scale.track_op() || shift.track_op() {
            bail!("a DenseNet that predicts has no gradient for its weights: train with TrainingDenseNet")
        }
        let gradient = gradient.broadcast_mul(&scale.reshape((1, scale.elem_count(), 1, 1))?)?;
        let gradient = if self.relu { (gradient * y.gt(0f32)?.to_dtype(DType::F32)?)? } else { gradient };
        Ok((Some(gradient), None, None))
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = layout.contiguous_offsets().and_then(|(start, end)| storage.as_slice::<f32>().ok()?.get(start..end));
    values.ok_or_else(|| candle_core::Error::Msg(format!("batch norm was given a tensor of layout {layout:?}")))
}
