//! Exact chances of counts.

/// The chance that at least `successes` of `trials` independent trials succeed, each with chance `p` (clamped to 0..1).
#[must_use]
pub fn binomial_at_least(successes: u64, trials: u64, p: f64) -> f64 {
    if successes == 0 {
        return 1.0;
    }
    if successes > trials || p <= 0.0 {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    let logs = LogFactorials::up_to(trials);
    let term = |k: u64| logs.choose(trials, k) + k as f64 * p.ln() + (trials - k) as f64 * (-p).ln_1p();
    sum_of_logs((successes..=trials).map(term))
}

/// The chance that at least `successes` of `trials` fresh values lie below the `rank`-th smallest (from 1) of `references`
/// others, if all are drawn alike and none are equal: the exact test of "more than their share lie below", which unlike the
/// binomial one does not take the share below an estimated threshold for known.
///
/// The count is beta-binomial with parameters `rank` and `references - rank + 1`. 1 where `rank` is not in 1..=references.
#[must_use]
pub fn beta_binomial_at_least(successes: u64, trials: u64, rank: u64, references: u64) -> f64 {
    if successes == 0 || rank == 0 || rank > references {
        return 1.0;
    }
    if successes > trials {
        return 0.0;
    }
    // Of all orders of trials and references: k trials and rank - 1 references lie before the rank-th reference.
    let logs = LogFactorials::up_to(trials + references);
    let all = logs.choose(trials + references, references);
    let term =
        |k: u64| logs.choose(k + rank - 1, k) + logs.choose(trials - k + references - rank, references - rank) - all;
    sum_of_logs((successes..=trials).map(term))
}

/// Sum of exp(term), smallest first where they fall, at most 1.
fn sum_of_logs(terms: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = terms.map(f64::exp).collect();
    values.sort_by(f64::total_cmp);
    values.iter().sum::<f64>().min(1.0)
}

struct LogFactorials(Vec<f64>);

impl LogFactorials {
    fn up_to(largest: u64) -> Self {
        let mut sum = 0.0;
        let logs = (1..=largest).map(|number| {
            sum += (number as f64).ln();
            sum
        });
        Self(std::iter::once(0.0).chain(logs).collect())
    }

    /// Logarithm of n over k.
    fn choose(&self, n: u64, k: u64) -> f64 {
        self.0[n as usize] - self.0[k as usize] - self.0[(n - k) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-10, "{got}, expected {expected}");
    }

    #[test]
    fn binomial_tails_are_those_counted_by_hand() {
        close(binomial_at_least(2, 3, 0.5), 0.5);
        close(binomial_at_least(3, 3, 0.1), 0.001);
        close(binomial_at_least(1, 4, 0.25), 1.0 - 0.75f64.powi(4));
        close(binomial_at_least(0, 4, 0.25), 1.0);
        close(binomial_at_least(5, 4, 0.25), 0.0);
    }

    #[test]
    fn the_chance_below_an_order_statistic_is_counted_over_all_orders() {
        // One fresh value is below the least of m with chance 1 / (m + 1).
        close(beta_binomial_at_least(1, 1, 1, 9), 0.1);
        // Both of two are below the least of two: 2! 2! / 4! orders.
        close(beta_binomial_at_least(2, 2, 1, 2), 1.0 / 6.0);
        close(
            (0..=7).map(|k| beta_binomial_at_least(k, 7, 3, 12) - beta_binomial_at_least(k + 1, 7, 3, 12)).sum(),
            1.0,
        );
    }

    #[test]
    fn with_many_references_it_is_the_binomial_one() {
        let (exact, known) = (beta_binomial_at_least(4, 50, 2_000, 99_999), binomial_at_least(4, 50, 0.02));
        assert!((exact - known).abs() < 1e-3, "{exact} {known}");
        // With few, a count that would look rare under a known share is not.
        assert!(beta_binomial_at_least(4, 50, 1, 49) > 1.5 * binomial_at_least(4, 50, 0.02));
    }
}
