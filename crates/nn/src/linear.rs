//! The affine map of the last dimension.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::kernel::matmul::{Matrix, MatrixMut, Threads, Write, multiply};
use crate::kernel::{host, sums};
use crate::reference;

/// Rows in one product when every row is an item of its own; the last product is filled up with zero rows. One fixed
/// size gives a row the same bits whatever its neighbours are.
const TILE: usize = 32;

/// `x weight^T + bias`: [.., in] gives [.., out]; `weight` is [out, in], `bias` is [out].
///
/// With three or more dimensions the result for an item of dimension 0 does not depend on the others; with two,
/// the result for a row does not.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out_width, in_width) = weight.dims2()?;
    if x.dim(D::Minus1)? != in_width {
        bail!(
            "linear: the input has shape {:?}, the weight {:?}; the last dimensions must be equal",
            x.shape(),
            weight.shape()
        )
    }
    if let Some(bias) = bias
        && bias.dims() != [out_width]
    {
        bail!("linear: the bias has shape {:?}; [{out_width}] was expected", bias.shape())
    }
    match bias {
        Some(bias) if host::is_fused(&[x, weight, bias]) => {
            x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)
        }
        None if host::is_fused(&[x, weight]) => x.contiguous()?.apply_op2(&weight.contiguous()?, Linear),
        _ => reference::linear(x, weight, bias),
    }
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = host::slice(weight, weight_layout)?;
        forward(host::slice(x, x_layout)?, x_layout, weight, weight_layout, None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        Ok((input_gradient(x, weight, &gradient)?, weight_gradient(x, weight, &gradient)?))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = host::slice(weight, weight_layout)?;
        let bias = host::slice(bias, bias_layout)?;
        forward(host::slice(x, x_layout)?, x_layout, weight, weight_layout, Some(bias))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let bias_gradient = if bias.track_op() {
            let values = host::Reader::new(&gradient);
            let total = sums::columns(values.values()?, bias.elem_count());
            Some(host::tensor(total, bias.shape())?)
        } else {
            None
        };
        Ok((input_gradient(x, weight, &gradient)?, weight_gradient(x, weight, &gradient)?, bias_gradient))
    }
}

fn forward(
    x: &[f32],
    x_layout: &Layout,
    weight: &[f32],
    weight_layout: &Layout,
    bias: Option<&[f32]>,
) -> Result<(CpuStorage, Shape)> {
    let (out_width, in_width) = weight_layout.shape().dims2()?;
    let mut dims = x_layout.dims().to_vec();
    let rows: usize = dims.iter().rev().skip(1).product();
    // Rows that one product covers: an item of dimension 0, or a tile where each row is an item.
    let item_rows = match dims.len() {
        0..=2 => TILE,
        _ => rows / dims[0].max(1),
    };
    if let Some(width) = dims.last_mut() {
        *width = out_width;
    }
    let mut out = vec![0.0; rows * out_width];
    if out.is_empty() {
        return Ok(host::output(out, dims));
    }
    let weight = Matrix::new(weight, out_width, in_width).transposed();
    let write = match bias {
        Some(bias) => {
            for row in out.chunks_exact_mut(out_width) {
                row.copy_from_slice(bias);
            }
            Write::Add
        }
        None => Write::Overwrite,
    };
    let item = |threads: Threads, index: usize, out: &mut [f32]| {
        let filled = out.len() / out_width;
        let x = &x[index * item_rows * in_width..][..filled * in_width];
        if filled == item_rows {
            let x = Matrix::new(x, item_rows, in_width);
            multiply(MatrixMut::new(out, item_rows, out_width), write, x, weight, threads);
            return;
        }
        let mut padded_x = vec![0.0; item_rows * in_width];
        padded_x[..x.len()].copy_from_slice(x);
        let mut padded_out = vec![0.0; item_rows * out_width];
        padded_out[..out.len()].copy_from_slice(out);
        let into = MatrixMut::new(&mut padded_out, item_rows, out_width);
        multiply(into, write, Matrix::new(&padded_x, item_rows, in_width), weight, threads);
        out.copy_from_slice(&padded_out[..out.len()]);
    };
    let item_length = item_rows * out_width;
    if rows.div_ceil(item_rows) >= rayon::current_num_threads() {
        out.par_chunks_mut(item_length).enumerate().for_each(|(index, out)| item(Threads::One, index, out));
    } else {
        for (index, out) in out.chunks_mut(item_length).enumerate() {
            item(Threads::All, index, out);
        }
    }
    Ok(host::output(out, dims))
}

/// `gradient weight`.
fn input_gradient(x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
    if !x.track_op() {
        return Ok(None);
    }
    let (out_width, in_width) = weight.dims2()?;
    let (weight, gradient) = (host::Reader::new(weight), host::Reader::new(gradient));
    let mut dx = vec![0.0; x.elem_count()];
    let rows = dx.len() / in_width.max(1);
    multiply(
        MatrixMut::new(&mut dx, rows, in_width),
        Write::Overwrite,
        Matrix::new(gradient.values()?, rows, out_width),
        Matrix::new(weight.values()?, out_width, in_width),
        Threads::All,
    );
    host::tensor(dx, x.shape()).map(Some)
}

/// `gradient^T x`.
fn weight_gradient(x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
    if !weight.track_op() {
        return Ok(None);
    }
    let (out_width, in_width) = weight.dims2()?;
    let rows = x.elem_count() / in_width.max(1);
    let (x, gradient) = (host::Reader::new(x), host::Reader::new(gradient));
    let mut d_weight = vec![0.0; out_width * in_width];
    multiply(
        MatrixMut::new(&mut d_weight, out_width, in_width),
        Write::Overwrite,
        Matrix::new(gradient.values()?, rows, out_width).transposed(),
        Matrix::new(x.values()?, rows, in_width),
        Threads::All,
    );
    host::tensor(d_weight, weight.shape()).map(Some)
}
