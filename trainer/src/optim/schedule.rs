//! The learning rate at each step: linear warm-up, then a cosine down to a share of the peak.

use crate::config::OptimiserConfig;

/// The learning rate of step `step` (from 0) of `steps`.
#[must_use]
pub fn learning_rate(config: &OptimiserConfig, step: u64, steps: u64) -> f64 {
    if step < config.warm_up_steps {
        return config.learning_rate * (step + 1) as f64 / config.warm_up_steps as f64;
    }
    let span = steps.saturating_sub(config.warm_up_steps).max(1) as f64;
    let progress = ((step - config.warm_up_steps) as f64 / span).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    config.learning_rate * (config.final_ratio + (1.0 - config.final_ratio) * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OptimiserConfig {
        OptimiserConfig {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: 0.0,
            warm_up_steps: 10,
            clip_norm: 1.0,
            final_ratio: 0.1,
            ema_decay: 0.0,
            plateau: None,
        }
    }

    #[test]
    fn warm_up_is_linear_and_reaches_the_peak() {
        assert!((learning_rate(&config(), 0, 100) - 1e-4).abs() < 1e-12);
        assert!((learning_rate(&config(), 9, 100) - 1e-3).abs() < 1e-12);
        assert!((learning_rate(&config(), 10, 100) - 1e-3).abs() < 1e-12);
    }

    #[test]
    fn the_cosine_ends_at_the_final_ratio_and_stays_there() {
        assert!((learning_rate(&config(), 100, 100) - 1e-4).abs() < 1e-12);
        assert!((learning_rate(&config(), 500, 100) - 1e-4).abs() < 1e-12);
        let half = learning_rate(&config(), 55, 100);
        assert!((half - 1e-3 * 0.55).abs() < 1e-9);
    }
}
