//! Same seed, same tokens: again, with other neighbours, at another place in the batch, and in batches of other sizes.

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use raygen_model::bundle::Bundle;
use raygen_model::model::{Condition, Model, Row};
use raygen_model::sampler::{SampleState, SamplingParams};
use serde_json::json;

/// What shares the batches: other texts with other seeds.
const NEIGHBOURS: [&str; 4] =
    ["Pulmonary edema.", "No acute cardiopulmonary abnormality.", "Pleural effusion.", "Pneumonia."];
const OWN: &str = "Atelectasis.";
/// Rows of the batches that a row is tried in.
const SIZES: [usize; 6] = [1, 2, 3, 4, 8, 16];

struct Proof<'a> {
    model: &'a Model,
    dtype: DType,
    own: Condition,
    neighbours: Vec<Condition>,
    failed: usize,
}

/// Proves it for `seeds` seeds; how many figures are not as promised. On a CPU nothing may differ. On a GPU a row must have the same
/// tokens in a batch of the same size, again and beside others; where another size or place changes them is told.
pub(super) fn prove(bundle: &str, device: &Device, dtype: DType, seeds: u64) -> Result<usize> {
    let model = Model::load(&Bundle::open(bundle)?, device, dtype)?;
    let condition = |text: &str| -> Result<Condition> { Ok(model.condition(&model.tokenize(text)?)?) };
    let neighbours = NEIGHBOURS.iter().map(|text| condition(text)).collect::<Result<_>>()?;
    let mut proof = Proof { own: condition(OWN)?, neighbours, model: &model, dtype, failed: 0 };
    let strict = device.is_cpu();
    let (mut again, mut beside, mut placed, mut sized) = (0.0f64, 0.0f64, 0.0f64, vec![0.0f64; SIZES.len()]);
    for seed in 0..seeds {
        let alone = proof.tokens(seed, 1, 0, 0)?;
        for (size, worst) in SIZES.into_iter().zip(&mut sized) {
            let first = proof.tokens(seed, size, 0, 0)?;
            *worst = worst.max(apart(&alone, &first));
            again = again.max(apart(&first, &proof.tokens(seed, size, 0, 0)?));
            if size > 1 {
                beside = beside.max(apart(&first, &proof.tokens(seed, size, 0, 1)?));
                placed = placed.max(apart(&first, &proof.tokens(seed, size, size - 1, 0)?));
            }
        }
    }
    proof.say("again", again, true);
    proof.say("beside_others", beside, true);
    proof.say("at_another_place", placed, strict);
    for (size, worst) in SIZES.into_iter().zip(sized) {
        proof.say(&format!("alone_against_in_{size}"), worst, strict || size == 1);
    }
    Ok(proof.failed)
}

impl Proof<'_> {
    /// The tokens of a row with `seed` at `place` among `size`, whose other rows depend on `turn`.
    fn tokens(&self, seed: u64, size: usize, place: usize, turn: usize) -> Result<Vec<u32>> {
        let base = &self.model.info().sampling;
        let params: Vec<SamplingParams> = (0..size)
            .map(|row| {
                let seed = if row == place { seed } else { 1_000 + (row + 7 * turn) as u64 };
                SamplingParams { seed, ..base.clone() }
            })
            .collect();
        let mut states: Vec<SampleState> = (0..size).map(|_| self.model.empty_state(0)).collect();
        let mut rows: Vec<Row<'_>> = params
            .iter()
            .zip(&mut states)
            .enumerate()
            .map(|(row, (params, state))| {
                let other = &self.neighbours[(row + turn) % self.neighbours.len()];
                let condition = if row == place { &self.own } else { other };
                Row { condition, negative: None, params, state }
            })
            .collect();
        self.model.generate_rows(&mut rows)?;
        Ok(states.into_iter().nth(place).context("a row")?.ids)
    }

    /// The largest share of tokens that differ over all seeds, and whether that is as promised.
    fn say(&mut self, figure: &str, differing: f64, promised: bool) {
        let passed = promised.then_some(differing == 0.0);
        self.failed += usize::from(passed == Some(false));
        let dtype = format!("{:?}", self.dtype).to_lowercase();
        println!("{}", json!({ "figure": figure, "dtype": dtype, "tokens_differing": differing, "passed": passed }));
    }
}

fn apart(a: &[u32], b: &[u32]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a != b).count() as f64 / a.len().max(1) as f64
}
