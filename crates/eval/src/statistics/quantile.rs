//! Quantiles of the normal distribution and of Student's.

/// The value below which a standard normal variable lies with chance `p`, by Acklam's rational approximation (relative error
/// under 1.2e-9). Infinite at 0 and 1.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [0.007_784_695_709_041_462, 0.322_467_129_070_039_8, 2.445_134_137_142_996, 3.754_408_661_907_416];
    const TAIL: f64 = 0.02425;
    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, factor| sum * x + factor);
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    let tail = |p: f64| {
        let x = (-2.0 * p.ln()).sqrt();
        polynomial(&C, x) / (polynomial(&D, x) * x + 1.0)
    };
    if p < TAIL {
        tail(p)
    } else if p > 1.0 - TAIL {
        -tail(1.0 - p)
    } else {
        let x = p - 0.5;
        let square = x * x;
        polynomial(&A, square) * x / (polynomial(&B, square) * square + 1.0)
    }
}

/// The same for Student's distribution with `freedom` degrees of freedom, by the expansion of Abramowitz and Stegun 26.7.5:
/// to 1e-3 from five degrees of freedom on.
pub(crate) fn student_quantile(p: f64, freedom: f64) -> f64 {
    let z = normal_quantile(p);
    let powers = |coefficients: &[f64]| {
        // Odd powers of z, highest first.
        coefficients.iter().fold(0.0, |sum, factor| sum * z * z + factor) * z
    };
    let inverse = 1.0 / freedom.max(1.0);
    z + powers(&[1.0, 1.0]) / 4.0 * inverse
        + powers(&[5.0, 16.0, 3.0]) / 96.0 * inverse.powi(2)
        + powers(&[3.0, 19.0, 17.0, -15.0]) / 384.0 * inverse.powi(3)
        + powers(&[79.0, 776.0, 1482.0, -1920.0, -945.0]) / 92_160.0 * inverse.powi(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_quantiles_are_those_of_the_tables() {
        for (p, expected) in [
            (0.5, 0.0),
            (0.8, 0.841_621_233_6),
            (0.975, 1.959_963_984_5),
            (0.005, -2.575_829_303_5),
            (1e-6, -4.753_424_3),
        ] {
            let got = normal_quantile(p);
            assert!((got - expected).abs() < 1e-7, "{p}: {got}, expected {expected}");
        }
    }

    #[test]
    fn student_quantiles_are_those_of_the_tables() {
        for (p, freedom, expected) in
            [(0.975, 9.0, 2.262_157), (0.975, 19.0, 2.093_024), (0.95, 5.0, 2.015_048), (0.975, 1e9, 1.959_964)]
        {
            let got = student_quantile(p, freedom);
            assert!((got - expected).abs() < 1e-3, "{p}, {freedom}: {got}, expected {expected}");
        }
    }
}
