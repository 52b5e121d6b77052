//! Scaled dot-product attention.

mod backward;
mod dropout;
mod forward;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

pub use self::dropout::{Dropout, DropoutKey};
use crate::kernel::host;
use crate::reference;

/// Queries whose scores are in memory at the same time, for one head and one thread.
const QUERIES: usize = 128;

/// `softmax(q k^T * scale + key_mask) v` for each head.
///
/// `q` is [batch, heads, queries, width], `k` and `v` are [batch, heads, keys, width]; `key_mask` is [batch, keys],
/// f32, added to the scores: 0 for a key in use, -1e9 for padding. Gives [batch, heads, queries, width]. A row whose
/// keys are all masked by -1e9 attends to all of them alike. The mask gets no gradient.
///
/// # Errors
/// If the shapes do not fit.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, key_mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    attend(q, k, v, Masks { keys: key_mask, dropout: None }, scale)
}

/// As [`attention`], in training: `dropout` takes probabilities out after the softmax, and scales the others up. It has a
/// key for each item of the batch.
///
/// # Errors
/// If the shapes do not fit, or `dropout` has not as many keys as the batch has items.
pub fn attention_with_dropout(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    key_mask: Option<&Tensor>,
    scale: f64,
    dropout: &Dropout,
) -> Result<Tensor> {
    attend(q, k, v, Masks { keys: key_mask, dropout: Some(dropout) }, scale)
}

/// What attention leaves out.
#[derive(Clone, Copy)]
struct Masks<'a> {
    keys: Option<&'a Tensor>,
    dropout: Option<&'a Dropout>,
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, masks: Masks<'_>, scale: f64) -> Result<Tensor> {
    let Masks { keys: key_mask, dropout } = masks;
    let (batch, heads, queries, width) = q.dims4()?;
    let keys = k.dim(2)?;
    for (name, tensor) in [("keys", k), ("values", v)] {
        if tensor.dims() != [batch, heads, keys, width] {
            bail!(
                "attention: the {name} have shape {:?}; [{batch}, {heads}, {keys}, {width}] was expected",
                tensor.shape()
            )
        }
    }
    if let Some(mask) = key_mask
        && mask.dims() != [batch, keys]
    {
        bail!("attention: the key mask has shape {:?}; [{batch}, {keys}] was expected", mask.shape())
    }
    if keys == 0 {
        bail!("attention: there are no keys to attend to")
    }
    if let Some(dropout) = dropout
        && dropout.items() != batch
    {
        bail!("attention: dropout has keys for {} items; the batch has {batch}", dropout.items())
    }
    let fused = host::is_fused(&[q, k, v]) && key_mask.is_none_or(|mask| host::is_fused(&[mask]));
    if !fused {
        return match dropout {
            Some(dropout) => reference::attention_with_dropout(q, k, v, key_mask, scale, dropout),
            None => reference::attention(q, k, v, key_mask, scale),
        };
    }
    let key_mask = match key_mask {
        Some(mask) => mask.flatten_all()?.to_vec1()?,
        None => Vec::new(),
    };
    let extents = Extents { heads, queries, keys, width };
    let op = Attention { extents, scale: scale as f32, key_mask, dropout: dropout.cloned() };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

#[derive(Clone, Copy)]
struct Extents {
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

struct Attention {
    extents: Extents,
    scale: f32,
    /// [batch, keys], or empty.
    key_mask: Vec<f32>,
    dropout: Option<Dropout>,
}

impl Attention {
    /// The mask of the item that this head, counted over the batch, belongs to.
    fn mask(&self, head: usize) -> &[f32] {
        if self.key_mask.is_empty() {
            return &[];
        }
        &self.key_mask[head / self.extents.heads * self.extents.keys..][..self.extents.keys]
    }

    /// Room for the factors of dropout on `length` probabilities; none is needed without.
    fn spare(&self, length: usize) -> Vec<f32> {
        vec![0.0; if self.dropout.is_some() { length } else { 0 }]
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let q = host::slice(q, q_layout)?;
        let k = host::slice(k, k_layout)?;
        let v = host::slice(v, v_layout)?;
        Ok(host::output(self.forward(q, k, v), q_layout.shape()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let readers = [q, k, v, &gradient].map(host::Reader::new);
        let [q_values, k_values, v_values, gradient] = &readers;
        let (dq, dk, dv) =
            self.backward(q_values.values()?, k_values.values()?, v_values.values()?, gradient.values()?);
        Ok((Some(host::tensor(dq, q.shape())?), Some(host::tensor(dk, k.shape())?), Some(host::tensor(dv, v.shape())?)))
    }
}
