//! Student's distribution, exact for any degrees of freedom: for intervals and tests whose spread is itself estimated from a few
//! repetitions, where the normal approximation claims too much.

/// Steps of the continued fraction; it converges within a few dozen.
const STEPS: usize = 300;
/// Halvings of the range in which a quantile is looked for.
const HALVINGS: usize = 200;

/// The chance that a Student variable with `freedom` degrees of freedom lies at least as far from 0 as `t`. 1 where `t` is no
/// number, 0 where it is infinite.
#[must_use]
pub fn student_two_sided(t: f64, freedom: f64) -> f64 {
    if t.is_nan() || freedom.is_nan() || freedom <= 0.0 {
        return 1.0;
    }
    if t.is_infinite() {
        return 0.0;
    }
    incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5).clamp(0.0, 1.0)
}

/// The distance from 0 within which such a variable lies with chance `level`.
#[must_use]
pub fn student_reach(level: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if student_two_sided(middle, freedom) > 1.0 - level { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function, by its continued fraction (Lentz).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    // The fraction converges fast on one side only; the other follows by symmetry.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for step in 1..STEPS {
        let m = step as f64;
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / guard(1.0 + numerator * d);
            c = guard(1.0 + numerator / c);
            value *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// Logarithm of the gamma function of a positive number (Lanczos, g = 7).
fn log_gamma(x: f64) -> f64 {
    const FACTORS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - log_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let series =
        FACTORS.iter().zip(1..).fold(0.999_999_999_999_809_9, |sum, (factor, k)| sum + factor / (x + f64::from(k)));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + series.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaches_are_those_of_the_tables() {
        for (freedom, expected) in [(1.0, 12.706_205), (2.0, 4.302_653), (5.0, 2.570_582), (30.0, 2.042_272)] {
            let got = student_reach(0.95, freedom);
            assert!((got - expected).abs() < 1e-5, "{freedom}: {got}, expected {expected}");
        }
        assert!((student_reach(0.95, 1e7) - 1.959_964).abs() < 1e-4);
    }

    #[test]
    fn chances_are_the_other_way_round() {
        assert!((student_two_sided(12.706_205, 1.0) - 0.05).abs() < 1e-6);
        assert!((student_two_sided(-2.042_272, 30.0) - 0.05).abs() < 1e-6);
        assert_eq!(student_two_sided(0.0, 4.0), 1.0);
        assert_eq!((student_two_sided(f64::NAN, 4.0), student_two_sided(f64::INFINITY, 4.0)), (1.0, 0.0));
    }
}
