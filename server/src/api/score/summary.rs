//! Metrics over all scored items, with their intervals and what they rest on.

use raygen_proto::v1::score_response::{ItemScore, Metric, Summary};

use super::config::Config;
use crate::engine::RowScore;

/// Half the width of a 95 % normal interval, in standard errors.
const STANDARD_ERRORS: f64 = 1.959_964;

/// Sums over the items so far.
pub(super) struct Totals {
    items: u64,
    nll: Mean,
    accuracy: Mean,
    text_gain: Mean,
    psnr: Mean,
    metrics: Vec<&'static str>,
    likelihood_protocol: String,
    psnr_protocol: String,
}

/// A running mean and variance (Welford).
#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    count: u64,
    mean: f64,
    squares: f64,
}

// === impl Totals ===

impl Totals {
    pub(super) fn new(config: &Config) -> Self {
        let side = config.model.info().image_size;
        Self {
            items: 0,
            nll: Mean::default(),
            accuracy: Mean::default(),
            text_gain: Mean::default(),
            psnr: Mean::default(),
            metrics: config.metrics.clone(),
            likelihood_protocol: config.protocol(),
            psnr_protocol: format!("{side} x {side} pixels in [0, 1]; mean over items, 95 % normal interval"),
        }
    }

    pub(super) fn add(&mut self, score: &ItemScore, right: &[RowScore]) {
        self.items += 1;
        self.nll.add(score.nll);
        self.accuracy.add(right.iter().map(|row| row.accuracy).sum::<f64>() / right.len().max(1) as f64);
        self.text_gain.add(score.text_gain);
        if let Some(psnr) = score.reconstruction_psnr {
            self.psnr.add(psnr);
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let metrics = self.metrics.iter().map(|name| self.metric(name)).collect();
        Summary { item_count: self.items, metrics }
    }

    fn metric(&self, name: &str) -> Metric {
        let (mean, higher_is_better, why_undefined) = match name {
            "nll" => (self.nll, false, "no item was scored"),
            "accuracy" => (self.accuracy, true, "no item was scored"),
            "text_gain" => (self.text_gain, true, "no item was scored"),
            _ => (self.psnr, true, "no item was a picture"),
        };
        let protocol = match name {
            "nll" => format!("nats per masked token; {}", self.likelihood_protocol),
            "accuracy" => format!("share of masked tokens; {}", self.likelihood_protocol),
            "text_gain" => {
                format!("nll under another item's impression minus nll under its own; {}", self.likelihood_protocol)
            }
            _ => format!("dB; {}", self.psnr_protocol),
        };
        let interval = mean.interval();
        Metric {
            name: name.to_owned(),
            value: mean.value(),
            lower: interval.map(|(lower, _)| lower),
            upper: interval.map(|(_, upper)| upper),
            protocol,
            sample_count: mean.count,
            higher_is_better,
            undefined_reason: if mean.count == 0 { why_undefined.to_owned() } else { String::new() },
        }
    }
}

// === impl Mean ===

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// One item has no spread, so no interval.
    fn interval(&self) -> Option<(f64, f64)> {
        if self.count < 2 {
            return None;
        }
        let variance = self.squares / (self.count - 1) as f64;
        let half = STANDARD_ERRORS * (variance / self.count as f64).sqrt();
        Some((self.mean - half, self.mean + half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_mean() {
        let mut mean = Mean::default();
        assert_eq!((mean.value(), mean.interval()), (None, None));
        mean.add(1.0);
        assert_eq!((mean.value(), mean.interval()), (Some(1.0), None));
        mean.add(3.0);
        let (lower, upper) = mean.interval().expect("two items");
        assert_eq!(mean.value(), Some(2.0));
        assert!((upper - lower - 2.0 * 1.959_964).abs() < 1e-9, "{lower} {upper}");
    }
}
