//! GELU, SiLU, ReLU and the gated GELU.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::kernel::dispatch::vectorised;
use crate::kernel::{host, math};
use crate::reference;

/// Values per parallel task: large enough to hide the cost of a task, small enough for a first-level cache.
const CHUNK: usize = 8192;

/// `x * Phi(x)` with the exact normal distribution function (not the tanh approximation). Any shape.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !host::is_fused(&[x]) {
        return reference::gelu(x);
    }
    x.contiguous()?.apply_op1(Activation::Gelu)
}

/// `x * sigmoid(x)`. Any shape.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    if !host::is_fused(&[x]) {
        return reference::silu(x);
    }
    x.contiguous()?.apply_op1(Activation::Silu)
}

/// `max(x, 0)`, with the gradient 0 at 0. Any shape.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if !host::is_fused(&[x]) {
        return reference::relu(x);
    }
    x.contiguous()?.apply_op1(Activation::Relu)
}

/// `gelu(first half) * second half` along the last dimension: [.., 2 h] gives [.., h].
///
/// # Errors
/// If the last dimension is odd or missing.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if !width.is_multiple_of(2) {
        bail!("geglu: the last dimension is {width}; it must be even to be cut into two halves")
    }
    if !host::is_fused(&[x]) {
        return reference::geglu(x);
    }
    x.contiguous()?.apply_op1(GeGlu)
}

enum Activation {
    Gelu,
    Silu,
    Relu,
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Relu => "relu",
        }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(storage, layout)?;
        let kernel = match self {
            Self::Gelu => gelu_forward,
            Self::Silu => silu_forward,
            Self::Relu => relu_forward,
        };
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| kernel(out, x));
        Ok(host::output(out, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let kernel = match self {
            Self::Gelu => gelu_backward,
            Self::Silu => silu_backward,
            Self::Relu => relu_backward,
        };
        let gradient = gradient.contiguous()?;
        let (x_reader, gradient) = (host::Reader::new(x), host::Reader::new(&gradient));
        let (x_values, gradient) = (x_reader.values()?, gradient.values()?);
        let mut dx = vec![0.0; x_values.len()];
        dx.par_chunks_mut(CHUNK)
            .zip(x_values.par_chunks(CHUNK))
            .zip(gradient.par_chunks(CHUNK))
            .for_each(|((dx, x), gradient)| kernel(dx, x, gradient));
        host::tensor(dx, x.shape()).map(Some)
    }
}

struct GeGlu;

impl CustomOp1 for GeGlu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(storage, layout)?;
        let mut dims = layout.dims().to_vec();
        let half = dims.last().map_or(0, |width| width / 2);
        if let Some(width) = dims.last_mut() {
            *width = half;
        }
        let mut out = vec![0.0; x.len() / 2];
        if half > 0 {
            out.par_chunks_mut(half)
                .zip(x.par_chunks(2 * half))
                .with_min_len(rows_per_task(half))
                .for_each(|(out, x)| geglu_forward(out, x));
        }
        Ok(host::output(out, dims))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let half = x.dim(D::Minus1)? / 2;
        let gradient = gradient.contiguous()?;
        let (x_reader, gradient) = (host::Reader::new(x), host::Reader::new(&gradient));
        let (x_values, gradient) = (x_reader.values()?, gradient.values()?);
        let mut dx = vec![0.0; x_values.len()];
        if half > 0 {
            dx.par_chunks_mut(2 * half)
                .zip(x_values.par_chunks(2 * half))
                .zip(gradient.par_chunks(half))
                .with_min_len(rows_per_task(half))
                .for_each(|((dx, x), gradient)| geglu_backward(dx, x, gradient));
        }
        host::tensor(dx, x.shape()).map(Some)
    }
}

fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

vectorised! {
    fn gelu_forward(out: &mut [f32], x: &[f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = math::gelu(*x);
        }
    }

    fn gelu_backward(dx: &mut [f32], x: &[f32], gradient: &[f32]) {
        for ((dx, x), gradient) in dx.iter_mut().zip(x).zip(gradient) {
            *dx = gradient * math::gelu_derivative(*x);
        }
    }

    fn silu_forward(out: &mut [f32], x: &[f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = math::silu(*x);
        }
    }

    fn silu_backward(dx: &mut [f32], x: &[f32], gradient: &[f32]) {
        for ((dx, x), gradient) in dx.iter_mut().zip(x).zip(gradient) {
            *dx = gradient * math::silu_derivative(*x);
        }
    }

    /// NaN stays NaN.
    fn relu_forward(out: &mut [f32], x: &[f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = if *x < 0.0 { 0.0 } else { *x };
        }
    }

    fn relu_backward(dx: &mut [f32], x: &[f32], gradient: &[f32]) {
        for ((dx, x), gradient) in dx.iter_mut().zip(x).zip(gradient) {
            *dx = if *x > 0.0 { *gradient } else { 0.0 };
        }
    }

    /// One row: `x` is [2 h], `out` is [h].
    fn geglu_forward(out: &mut [f32], x: &[f32]) {
        let (gate, value) = x.split_at(out.len());
        for ((out, gate), value) in out.iter_mut().zip(gate).zip(value) {
            *out = math::gelu(*gate) * value;
        }
    }

    /// One row: `dx` and `x` are [2 h], `gradient` is [h].
    fn geglu_backward(dx: &mut [f32], x: &[f32], gradient: &[f32]) {
        let half = gradient.len();
        let (gate, value) = x.split_at(half);
        let (d_gate, d_value) = dx.split_at_mut(half);
        for ((d, gate), (value, gradient)) in d_gate.iter_mut().zip(gate).zip(value.iter().zip(gradient)) {
            *d = gradient * value * math::gelu_derivative(*gate);
        }
        for ((d, gate), gradient) in d_value.iter_mut().zip(gate).zip(gradient) {
            *d = gradient * math::gelu(*gate);
        }
    }
}
