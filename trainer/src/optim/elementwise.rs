//! In-place element-wise updates of f32 tensors on CPU; other devices and dtypes compute the same with candle's operations.

use candle_core::{CpuStorage, DType, Error, InplaceOp2, InplaceOp3, Layout, Result, Tensor};
use rayon::prelude::*;

/// Elements a thread takes at once; a fixed split, and no result depends on it.
const CHUNK: usize = 1 << 15;

/// `update(destination element, source element)` for each element.
struct Zip<F>(&'static str, F);

impl<F: Fn(&mut f32, f32) + Sync> InplaceOp2 for Zip<F> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(&self, dst: &mut CpuStorage, dst_l: &Layout, src: &CpuStorage, src_l: &Layout) -> Result<()> {
        let source = slice(src, src_l)?;
        slice_mut(dst, dst_l)?
            .par_chunks_mut(CHUNK)
            .zip(source.par_chunks(CHUNK))
            .for_each(|(d, s)| d.iter_mut().zip(s).for_each(|(d, s)| (self.1)(d, *s)));
        Ok(())
    }
}

/// `update(destination element, first source, second source)` for each element.
struct Zip2<F>(&'static str, F);

impl<F: Fn(&mut f32, f32, f32) + Sync> InplaceOp3 for Zip2<F> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_l: &Layout,
        a: &CpuStorage,
        a_l: &Layout,
        b: &CpuStorage,
        b_l: &Layout,
    ) -> Result<()> {
        let (a, b) = (slice(a, a_l)?, slice(b, b_l)?);
        slice_mut(dst, dst_l)?
            .par_chunks_mut(CHUNK)
            .zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)))
            .for_each(|(d, (a, b))| d.iter_mut().zip(a.iter().zip(b)).for_each(|(d, (a, b))| (self.1)(d, *a, *b)));
        Ok(())
    }
}

/// Whether the in-place path serves `tensor`.
pub(super) fn in_place(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// `destination <- decay * destination + (1 - decay) * source`.
pub(super) fn blend(destination: &Tensor, source: &Tensor, decay: f64) -> Result<()> {
    let (keep, take) = (decay as f32, (1.0 - decay) as f32);
    destination.inplace_op2(&source.contiguous()?, &Zip("blend", move |d: &mut f32, s: f32| *d = keep * *d + take * s))
}

/// `destination <- decay * destination + (1 - decay) * source^2`.
pub(super) fn blend_squares(destination: &Tensor, source: &Tensor, decay: f64) -> Result<()> {
    let (keep, take) = (decay as f32, (1.0 - decay) as f32);
    destination.inplace_op2(
        &source.contiguous()?,
        &Zip("blend-squares", move |d: &mut f32, s: f32| *d = keep * *d + take * s * s),
    )
}

/// Constants of one AdamW update.
#[derive(Clone, Copy)]
pub(super) struct AdamUpdate {
    /// Learning rate over the first moment's bias correction.
    pub(super) rate: f64,
    /// One over the second moment's bias correction.
    pub(super) second_correction: f64,
    /// Epsilon, added to the root.
    pub(super) epsilon: f64,
    /// `1 - learning rate * weight decay`.
    pub(super) keep: f64,
}

/// `weight <- keep * weight - rate * first / (sqrt(second * correction) + epsilon)`.
pub(super) fn adam(weight: &Tensor, first: &Tensor, second: &Tensor, update: AdamUpdate) -> Result<()> {
    let (rate, correction) = (update.rate as f32, update.second_correction as f32);
    let (epsilon, keep) = (update.epsilon as f32, update.keep as f32);
    weight.inplace_op3(
        first,
        second,
        &Zip2("adam", move |w: &mut f32, m: f32, v: f32| {
            *w = keep * *w - rate * m / ((v * correction).sqrt() + epsilon)
        }),
    )
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| Error::Msg("optimiser: not contiguous".into()))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| Error::Msg("optimiser: not contiguous".into()))?;
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        _ => Err(Error::Msg("optimiser: not f32".into())),
    }
}
