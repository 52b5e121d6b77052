//! Axes: where the ticks stand, and how their numbers are written.

/// Round numbers within `low` to `high`, about `wanted` of them and never more than twice that.
pub(super) fn ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let step = step(low, high, wanted);
    if step <= 0.0 || !step.is_finite() {
        return Vec::new();
    }
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).take(2 * wanted).map(|count| count as f64 * step).collect()
}

/// 1, 2 or 5 times a power of ten, so that about `wanted` steps lie between `low` and `high`.
fn step(low: f64, high: f64, wanted: usize) -> f64 {
    let rough = (high - low) / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factor = match rough / power {
        r if r < 1.5 => 1.0,
        r if r < 3.5 => 2.0,
        r if r < 7.5 => 5.0,
        _ => 10.0,
    };
    factor * power
}

/// The numbers of `ticks`, all written alike.
pub(super) fn labels(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.iter().fold(0f64, |largest, tick| largest.max(tick.abs()));
    let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(largest);
    let write = |tick: &f64| match (largest, step) {
        // Written from the tick's own digits: 0.30000000000000004 is 0.3.
        _ if *tick == 0.0 => "0".to_owned(),
        (largest, step) if largest >= 1e7 || step < 1e-3 => scientific(*tick),
        (largest, step) if largest >= 1e4 && step >= 100.0 => thousands(*tick, step),
        (_, step) => {
            let decimals = (-step.log10().floor()).max(0.0) as usize;
            format!("{tick:.decimals$}")
        }
    };
    ticks.iter().map(write).collect()
}

fn thousands(tick: f64, step: f64) -> String {
    let decimals = (-(step / 1000.0).log10().floor()).max(0.0) as usize;
    format!("{:.decimals$}k", tick / 1000.0)
}

fn scientific(tick: f64) -> String {
    let text = format!("{tick:.1e}");
    text.replace(".0e", "e")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(low: f64, high: f64) -> Vec<String> {
        labels(&ticks(low, high, 5))
    }

    #[test]
    fn ticks_are_round_numbers_written_alike() {
        assert_eq!(labelled(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labelled(-3.0, 7.0), ["-2", "0", "2", "4", "6"]);
        assert_eq!(labelled(4.23, 5.11), ["4.4", "4.6", "4.8", "5.0"]);
        assert_eq!(labelled(0.0, 6000.0), ["0", "1000", "2000", "3000", "4000", "5000", "6000"]);
        assert_eq!(labelled(0.0, 120_000.0), ["0", "20k", "40k", "60k", "80k", "100k", "120k"]);
        assert_eq!(labelled(0.0, 12_000.0), ["0", "2k", "4k", "6k", "8k", "10k", "12k"]);
        assert_eq!(labelled(0.0, 8.0e-4), ["0", "2e-4", "4e-4", "6e-4", "8e-4"]);
        assert_eq!(labelled(0.0, 2.5e7), ["0", "5e6", "1e7", "1.5e7", "2e7", "2.5e7"]);
    }

    #[test]
    fn there_are_always_a_few_ticks_and_never_many() {
        for exponent in -12..12 {
            for span in [1.0, 1.3, 2.0, 3.7, 5.0, 9.9] {
                let high = span * 10f64.powi(exponent);
                let count = ticks(0.0, high, 5).len();
                assert!((3..=10).contains(&count), "{count} ticks up to {high}");
            }
        }
        assert!(ticks(1.0, 1.0, 5).is_empty());
    }
}
