//! Rows of a table by their ids.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::kernel::{host, sums};
use crate::reference;

/// Rows of `table` [count, width] chosen by `ids` (u32, any shape): gives [ids' shape.., width].
///
/// # Errors
/// If an id is not below `count`, `ids` is not u32, or `table` is not a matrix.
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (count, width) = table.dims2()?;
    if ids.dtype() != DType::U32 {
        bail!("embedding: the ids are {:?}; they must be u32", ids.dtype())
    }
    let rows = ids.flatten_all()?.to_vec1::<u32>()?;
    if let Some(id) = rows.iter().find(|id| **id as usize >= count) {
        bail!("embedding: id {id} is outside the table, which has {count} rows")
    }
    if !host::is_fused(&[table]) {
        return reference::embedding(table, ids);
    }
    let mut shape = ids.dims().to_vec();
    shape.push(width);
    table.contiguous()?.apply_op1(Lookup { rows, shape })
}

/// Invariant: every row is below the table's count.
struct Lookup {
    rows: Vec<u32>,
    shape: Vec<usize>,
}

impl CustomOp1 for Lookup {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let table = host::slice(storage, layout)?;
        let (_, width) = layout.shape().dims2()?;
        let mut out = vec![0.0; self.rows.len() * width];
        if width > 0 {
            out.par_chunks_mut(width).zip(&self.rows).with_min_len(64).for_each(|(out, row)| {
                out.copy_from_slice(&table[*row as usize * width..][..width]);
            });
        }
        Ok(host::output(out, self.shape.clone()))
    }

    fn bwd(&self, table: &Tensor, _out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (count, width) = table.dims2()?;
        let gradient = gradient.contiguous()?;
        let gradient = host::Reader::new(&gradient);
        let mut d_table = vec![0.0; count * width];
        if width > 0 {
            // One thread, so that a row used several times adds its gradients in one order.
            for (row, gradient) in self.rows.iter().zip(gradient.values()?.chunks_exact(width)) {
                sums::add(&mut d_table[*row as usize * width..][..width], gradient);
            }
        }
        host::tensor(d_table, table.shape()).map(Some)
    }
}
