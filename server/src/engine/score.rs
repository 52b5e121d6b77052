//! The likelihood of real grids: how well a model fills in masked positions, with the right text and with a wrong one.

use raygen_model::text::TextTokens;
use raygen_model::transformer::View;

use super::error::EngineError;
use super::model::{Condition, LoadedModel};

/// One forward pass to score: which positions are masked, under which text.
#[derive(Debug, Clone)]
pub struct ScoreRow {
    /// The true grid.
    pub ids: Vec<u32>,
    /// Positions to mask and predict.
    pub masked: Vec<usize>,
    /// Index into the texts.
    pub text: usize,
}

/// How well the masked positions of a row were predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowScore {
    /// Mean negative log-likelihood per masked token, in nats.
    pub nll: f64,
    /// Share of masked tokens whose most likely id is the true one.
    pub accuracy: f64,
}

/// Scores rows in one forward pass, all as films of `view` or else of the model's default.
///
/// # Errors
/// The model failed or gave values that are not numbers.
pub fn score_rows(
    model: &LoadedModel,
    texts: &[TextTokens],
    view: Option<View>,
    rows: &[ScoreRow],
) -> Result<Vec<RowScore>, EngineError> {
    let conditions =
        texts.iter().map(|text| model.model.condition(text, view)).collect::<Result<Vec<Condition>, _>>()?;
    let mask_id = model.info().codebook_size;
    let grids: Vec<Vec<u32>> = rows
        .iter()
        .map(|row| {
            let mut ids = row.ids.clone();
            for &position in &row.masked {
                ids[position] = mask_id;
            }
            ids
        })
        .collect();
    let batch: Vec<_> = grids.iter().zip(rows).map(|(grid, row)| (grid.as_slice(), &conditions[row.text])).collect();
    let logits = model.model.logits(&batch)?;
    let expected = model.info().positions() * mask_id as usize;
    if logits.len() != rows.len() || logits.iter().any(|row| row.len() != expected) {
        return Err(EngineError::Model {
            detail: format!("the transformer did not give {expected} logits for each row"),
        });
    }
    rows.iter().zip(&logits).map(|(row, logits)| score_row(row, logits, mask_id as usize)).collect()
}

fn score_row(row: &ScoreRow, logits: &[f32], codebook: usize) -> Result<RowScore, EngineError> {
    let (mut nll, mut hits) = (0.0, 0.0);
    for &position in &row.masked {
        let values = &logits[position * codebook..(position + 1) * codebook];
        let truth = row.ids[position] as usize;
        let best = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = values.iter().map(|value| f64::from(value - best).exp()).sum();
        nll += f64::from(best - values[truth]) + sum.ln();
        // The first of equal values counts, as argmax has it.
        if values.iter().position(|value| *value == best) == Some(truth) {
            hits += 1.0;
        }
    }
    let count = row.masked.len().max(1) as f64;
    let score = RowScore { nll: nll / count, accuracy: hits / count };
    if score.nll.is_finite() { Ok(score) } else { Err(EngineError::Numeric { step: None }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_logits_cost_the_logarithm_of_the_codebook_size() {
        let row = ScoreRow { ids: vec![3, 1], masked: vec![0, 1], text: 0 };
        let score = score_row(&row, &[0.25; 8], 4).expect("scored");
        assert!((score.nll - 4f64.ln()).abs() < 1e-9);
        assert_eq!(score.accuracy, 0.0, "the first of equal ids is predicted");
    }

    #[test]
    fn only_masked_positions_count() {
        let row = ScoreRow { ids: vec![0, 1], masked: vec![1], text: 0 };
        let score = score_row(&row, &[-50.0, 50.0, -50.0, 50.0], 2).expect("scored");
        assert!(score.nll < 1e-9);
        assert_eq!(score.accuracy, 1.0);
    }

    #[test]
    fn values_that_are_not_numbers_are_told() {
        let row = ScoreRow { ids: vec![0], masked: vec![0], text: 0 };
        assert_eq!(score_row(&row, &[f32::NAN, 0.0], 2), Err(EngineError::Numeric { step: None }));
    }
}
