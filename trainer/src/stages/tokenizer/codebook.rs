//! The codebook by moving averages (van den Oord et al. 2017, appendix A.1): each code is the running mean of the latents that chose it;
//! one that falls out of use is restarted at a latent of the batch.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var};
use raygen_model::random::{Purpose, Randomness, below};

use crate::optim::Reduce;

/// Counts below this are no longer halved.
const FADED: f32 = 1e-20;

/// Running counts and sums of each code, on the host: 512 codes of width 64 are small, and the order of additions is fixed.
pub(super) struct CodebookAverages {
    codes: Var,
    decay: f64,
    restart_below: f64,
    randomness: Randomness,
    width: usize,
    counts: Vec<f32>,
    sums: Vec<f32>,
}

impl CodebookAverages {
    pub(super) fn new(codes: Var, decay: f64, restart_below: f64, seed: u64) -> Result<Self> {
        let (count, width) = codes.dims2()?;
        Ok(Self {
            codes,
            decay,
            restart_below,
            randomness: Randomness::new(seed, Purpose::CodeRestart),
            width,
            counts: vec![1.0; count],
            sums: vec![0.0; count * width],
        })
    }

    /// Starts the codes at latents [batch, width, h, w] drawn from the first batch of all ranks.
    pub(super) fn start_from(&mut self, latent: &Tensor, reduce: &dyn Reduce) -> Result<()> {
        let rows = reduce.gather(rows(latent)?)?;
        let available = rows.len() / self.width;
        let mut stream = self.randomness.stream(u64::MAX, 0);
        let mut order: Vec<usize> = (0..available).collect();
        for code in 0..self.counts.len() {
            // Without replacement while there are latents left, so that codes start distinct.
            let from = code % available;
            let pick = from + below(&mut stream, available - from);
            order.swap(from, pick);
            let row = &rows[order[from] * self.width..][..self.width];
            self.sums[code * self.width..][..self.width].copy_from_slice(row);
        }
        self.write_codes()
    }

    /// Starts the averages at the codes as they are, each as if used once a step.
    pub(super) fn start_from_codes(&mut self) -> Result<()> {
        self.sums = self.codes.flatten_all()?.to_vec1()?;
        Ok(())
    }

    /// Takes in the latents [batch, width, h, w] of a step and the codes [batch, h, w] that they chose: those of all ranks, so that
    /// each has the same codes afterwards. Returns the number of codes that were restarted.
    pub(super) fn follow(&mut self, latent: &Tensor, ids: &Tensor, step: u64, reduce: &dyn Reduce) -> Result<usize> {
        let rows = reduce.gather(rows(latent)?)?;
        let ids = reduce.gather(ids.flatten_all()?.to_vec1::<u32>()?)?;
        let keep = self.decay as f32;
        let take = 1.0 - keep;
        for (count, sum) in self.counts.iter_mut().zip(self.sums.chunks_exact_mut(self.width)) {
            // Below this a code would fade into rounding: it stays where it is until it is used or restarted.
            if *count > FADED {
                *count *= keep;
                sum.iter_mut().for_each(|s| *s *= keep);
            }
        }
        for (row, id) in rows.chunks_exact(self.width).zip(&ids) {
            let id = *id as usize;
            self.counts[id] += take;
            for (sum, value) in self.sums[id * self.width..][..self.width].iter_mut().zip(row) {
                *sum += take * value;
            }
        }
        let mut stream = self.randomness.stream(step, 1);
        let latents = rows.len() / self.width;
        let mut restarted = 0;
        for code in 0..self.counts.len() {
            if f64::from(self.counts[code]) < self.restart_below {
                let row = &rows[below(&mut stream, latents) * self.width..][..self.width];
                self.counts[code] = 1.0;
                self.sums[code * self.width..][..self.width].copy_from_slice(row);
                restarted += 1;
            }
        }
        self.write_codes()?;
        Ok(restarted)
    }

    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let count = self.counts.len();
        Ok(BTreeMap::from([
            ("counts".to_owned(), Tensor::from_slice(&self.counts, count, &Device::Cpu)?),
            ("sums".to_owned(), Tensor::from_slice(&self.sums, (count, self.width), &Device::Cpu)?),
        ]))
    }

    pub(super) fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let read = |name: &str| -> Result<Vec<f32>> {
            let tensor = state.get(name).with_context(|| format!("the checkpoint lacks the codebook's {name}"))?;
            Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
        };
        self.counts = read("counts")?;
        self.sums = read("sums")?;
        Ok(())
    }

    fn write_codes(&self) -> Result<()> {
        let codes: Vec<f32> = self
            .sums
            .chunks_exact(self.width)
            .zip(&self.counts)
            .flat_map(|(sum, count)| sum.iter().map(move |s| s / count))
            .collect();
        self.codes.set(&Tensor::from_vec(codes, (self.counts.len(), self.width), self.codes.device())?)?;
        Ok(())
    }
}

/// Latents [batch, width, h, w] as rows [batch * h * w, width].
fn rows(latent: &Tensor) -> Result<Vec<f32>> {
    Ok(latent.permute((0, 2, 3, 1))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::optim::Alone;

    fn averages(restart_below: f64) -> CodebookAverages {
        let codes = Var::from_slice(&[0.0f32, 0.0, 9.0, 9.0], (2, 2), &Device::Cpu).unwrap();
        let mut averages = CodebookAverages::new(codes, 0.5, restart_below, 3).unwrap();
        averages.sums = vec![0.0, 0.0, 9.0, 9.0];
        averages
    }

    /// Two latents, (1, 3) and (3, 5), both choosing code 0.
    fn latents() -> (Tensor, Tensor) {
        let latent = Tensor::from_slice(&[1.0f32, 3.0, 3.0, 5.0], (1, 2, 1, 2), &Device::Cpu).unwrap();
        (latent, Tensor::zeros((1, 1, 2), candle_core::DType::U32, &Device::Cpu).unwrap())
    }

    #[test]
    fn a_code_moves_to_the_mean_of_its_latents_and_others_stay() {
        let mut averages = averages(0.0);
        let (latent, ids) = latents();
        for step in 0..30 {
            averages.follow(&latent, &ids, step, &Alone).unwrap();
        }
        let codes = averages.codes.as_tensor().to_vec2::<f32>().unwrap();
        assert!((codes[0][0] - 2.0).abs() < 1e-4 && (codes[0][1] - 4.0).abs() < 1e-4, "{codes:?}");
        assert!((codes[1][0] - 9.0).abs() < 1e-2, "{codes:?}");
    }

    #[test]
    fn a_code_out_of_use_is_restarted_at_a_latent() {
        let mut averages = averages(0.3);
        let (latent, ids) = latents();
        averages.follow(&latent, &ids, 0, &Alone).unwrap();
        averages.follow(&latent, &ids, 1, &Alone).unwrap();
        let codes = averages.codes.as_tensor().to_vec2::<f32>().unwrap();
        assert!(codes[1] == [1.0, 3.0] || codes[1] == [3.0, 5.0], "{codes:?}");
    }
}
