//! Attention dropout of a training step: keys for each film and each place of the network where probabilities fall out.

use candle_core::Result;
use raygen_nn::{Dropout, DropoutKey};

use crate::random::{Purpose, Randomness};

/// What falls out of the attention of one training batch: a function of the seed, of each row's film and epoch, and of
/// layer, head and position; never of the row's place in the batch.
#[derive(Clone)]
pub struct AttentionDropout {
    rate: f64,
    randomness: Randomness,
    rows: Vec<(u64, u64)>,
}

impl AttentionDropout {
    /// Drops the share `rate` (in [0, 1)) of the probabilities; `rows` are film and epoch of each row of the batch.
    #[must_use]
    pub fn new(rate: f64, seed: u64, rows: Vec<(u64, u64)>) -> Self {
        Self { rate, randomness: Randomness::new(seed, Purpose::AttentionDropout), rows }
    }

    fn at(&self, site: usize) -> Result<Dropout> {
        // No network has 2^15 layers.
        let site = u16::try_from(site).unwrap_or(u16::MAX);
        let key = |(film, epoch): &(u64, u64)| {
            let (key, stream) = self.randomness.site(*film, *epoch, site);
            DropoutKey { key, stream }
        };
        Dropout::new(self.rate, self.rows.iter().map(key).collect())
    }
}

/// What falls out of the two attentions of one layer; nothing outside training.
pub(super) struct LayerDropout(Option<(Dropout, Dropout)>);

impl LayerDropout {
    pub(super) fn of(dropout: Option<&AttentionDropout>, layer: usize) -> Result<Self> {
        let Some(dropout) = dropout else { return Ok(Self(None)) };
        Ok(Self(Some((dropout.at(2 * layer)?, dropout.at(2 * layer + 1)?))))
    }

    /// Of self-attention.
    pub(super) fn to_self(&self) -> Option<&Dropout> {
        self.0.as_ref().map(|(to_self, _)| to_self)
    }

    /// Of cross-attention.
    pub(super) fn to_text(&self) -> Option<&Dropout> {
        self.0.as_ref().map(|(_, to_text)| to_text)
    }
}
