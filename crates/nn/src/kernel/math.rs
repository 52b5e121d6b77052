//! Branch-free f32 functions that the compiler can vectorise. All of them give NaN for NaN.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// `1 / sqrt(2 pi)`, the height of the normal density.
const NORMAL_DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// `e^x`, within 2 units in the last place on [-87, 88]; 0 below, infinity above.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the product of the first with a small integer is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    // Cephes' minimax polynomial for e^r on [-ln 2 / 2, ln 2 / 2].
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    let power_of_two = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = p * power_of_two;
    // A NaN fails both comparisons and comes out as `p`, which is NaN.
    let value = if x < -87.0 { 0.0 } else { value };
    if x > 88.0 { f32::INFINITY } else { value }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x * sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// Derivative of [`silu`].
#[inline(always)]
pub(crate) fn silu_derivative(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

/// The normal distribution function, `(1 + erf(x / sqrt 2)) / 2`, within 2e-7.
///
/// Abramowitz and Stegun, 7.1.26: a polynomial for `erfc`, so that the lower tail is not the difference of two
/// numbers near 1.
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    let tail = 0.5 * p * t * exp(-z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// `x * normal_cdf(x)`, the exact GELU.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    x * normal_cdf(x)
}

/// Derivative of [`gelu`].
#[inline(always)]
pub(crate) fn gelu_derivative(x: f32) -> f32 {
    normal_cdf(x) + x * NORMAL_DENSITY_AT_ZERO * exp(-0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `erf` in f64 by its Taylor series, good to 1e-12 for |x| below 4.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    fn grid() -> impl Iterator<Item = f32> {
        (-40_000..=40_000).map(|i| i as f32 * 1e-4)
    }

    #[test]
    fn exp_agrees_with_f64_over_its_whole_range() {
        for i in -86_999..=87_999 {
            let x = i as f32 * 1e-3;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "exp({x}): relative error {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
    }

    #[test]
    fn gelu_and_silu_agree_with_f64() {
        for x in grid() {
            let wide = f64::from(x);
            let gelu_expected = 0.5 * wide * (1.0 + erf(wide / std::f64::consts::SQRT_2));
            let silu_expected = wide / (1.0 + (-wide).exp());
            assert!((f64::from(gelu(x)) - gelu_expected).abs() < 1e-6, "gelu({x})");
            assert!((f64::from(silu(x)) - silu_expected).abs() < 1e-6, "silu({x})");
        }
    }

    #[test]
    fn derivatives_agree_with_central_differences() {
        for x in grid().step_by(97) {
            let wide = f64::from(x);
            let h = 1e-5;
            let gelu = |x: f64| 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2));
            let silu = |x: f64| x / (1.0 + (-x).exp());
            let gelu_slope = (gelu(wide + h) - gelu(wide - h)) / (2.0 * h);
            let silu_slope = (silu(wide + h) - silu(wide - h)) / (2.0 * h);
            assert!((f64::from(gelu_derivative(x)) - gelu_slope).abs() < 2e-6, "gelu'({x})");
            assert!((f64::from(silu_derivative(x)) - silu_slope).abs() < 2e-6, "silu'({x})");
        }
    }

    #[test]
    fn nan_stays_nan() {
        let functions: [fn(f32) -> f32; 6] = [exp, sigmoid, silu, silu_derivative, gelu, gelu_derivative];
        for function in functions {
            assert!(function(f32::NAN).is_nan());
        }
    }

    #[test]
    fn large_inputs_saturate() {
        assert_eq!(gelu(60.0), 60.0);
        assert_eq!(gelu(-60.0), 0.0);
        assert_eq!(silu(200.0), 200.0);
        assert_eq!(silu(-200.0), 0.0);
    }
}
