//! Checking grids from outside.

use super::{Model, ModelError};

impl Model {
    /// Checks a grid's size, and that every id is below `limit`: the codebook size, or one more where undecided
    /// positions are allowed.
    pub(super) fn check_grid(&self, ids: &[u32], limit: u32) -> Result<(), ModelError> {
        let expected = self.info.positions();
        if ids.len() != expected {
            return Err(ModelError::GridSize { expected, found: ids.len() });
        }
        match ids.iter().position(|&id| id >= limit) {
            Some(position) => Err(ModelError::IdOutOfRange { id: ids[position], position, limit }),
            None => Ok(()),
        }
    }
}
