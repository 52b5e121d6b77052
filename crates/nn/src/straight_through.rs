//! The straight-through estimator of vector quantisation (van den Oord et al., 2017).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::kernel::host;
use crate::reference;

/// The value of `quantised`, bit for bit, with the gradient handed to `latent` unchanged. Both have the same shape.
///
/// `quantised` gets no gradient from here.
///
/// # Errors
/// If the shapes differ.
pub fn straight_through(latent: &Tensor, quantised: &Tensor) -> Result<Tensor> {
    if latent.shape() != quantised.shape() {
        bail!(
            "straight_through: the latent has shape {:?}, the quantised one {:?}; they must be equal",
            latent.shape(),
            quantised.shape()
        )
    }
    if !host::is_fused(&[latent, quantised]) {
        return reference::straight_through(latent, quantised);
    }
    let quantised = quantised.detach().contiguous()?;
    latent.contiguous()?.apply_op2(&quantised, StraightThrough)
}

struct StraightThrough;

impl CustomOp2 for StraightThrough {
    fn name(&self) -> &'static str {
        "straight-through"
    }

    fn cpu_fwd(
        &self,
        _latent: &CpuStorage,
        _latent_layout: &Layout,
        quantised: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let values = host::slice(quantised, layout)?.to_vec();
        Ok(host::output(values, layout.shape()))
    }

    fn bwd(
        &self,
        _latent: &Tensor,
        _quantised: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.clone()), None))
    }
}
