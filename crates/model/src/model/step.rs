//! One forward of the transformer over any rows.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::transformer::Context;

use super::{Condition, Model, ModelError};

impl Model {
    /// Logits of every row, each [positions * codebook size], row-major. A row is a grid (undecided positions hold the
    /// mask id) under a condition.
    ///
    /// Rows whose texts have the same padded length share a forward. On CPU a row's logits have the same bits whatever
    /// rows it is called with. Logits that are not finite are returned as they are: the sampler reports them for their
    /// row alone.
    ///
    /// # Errors
    /// A grid has another size or an id above the mask id; the model has no transformer; the computation failed.
    pub fn logits(&self, rows: &[(&[u32], &Condition)]) -> Result<Vec<Vec<f32>>, ModelError> {
        let transformer = self.transformer()?;
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, (ids, condition)) in rows.iter().enumerate() {
            self.check_grid(ids, self.info.mask_token_id + 1)?;
            groups.entry(condition.tokens).or_default().push(row);
        }
        let mut logits = vec![Vec::new(); rows.len()];
        for group in groups.into_values() {
            let ids: Vec<u32> = group.iter().flat_map(|&row| rows[row].0.iter().copied()).collect();
            let ids = Tensor::from_vec(ids, (group.len(), self.info.positions()), &self.device)?;
            let contexts: Vec<&Context> = group.iter().map(|&row| &rows[row].1.context).collect();
            let answer = transformer.logits(&ids, &Context::stack(&contexts)?)?;
            let answer = answer.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
            for (row, values) in group.into_iter().zip(answer) {
                logits[row] = values;
            }
        }
        Ok(logits)
    }
}
