//! Access to the memory of contiguous f32 CPU tensors.

use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};

/// Whether the fused kernels apply: every tensor is f32 on the CPU.
pub(crate) fn is_fused(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32 && tensor.device().is_cpu())
}

/// The values that `layout` selects from `storage`; they must be contiguous f32.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a fused operation was given a tensor that is not contiguous: {layout:?}")
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// A contiguous f32 CPU tensor opened for reading.
pub(crate) struct Reader<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Reader<'a> {
    /// Opens `tensor`; keep it alive as long as the values are in use.
    pub(crate) fn new(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    /// The values in row-major order.
    pub(crate) fn values(&self) -> Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(storage) => slice(storage, self.layout),
            _ => bail!("a fused operation was given a tensor that is not on the CPU"),
        }
    }
}

/// A CPU tensor of the given values.
pub(crate) fn tensor(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// What a custom operation of candle returns for `values`.
pub(crate) fn output(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}
