//! The Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, "FID").
//!
//! |m1 - m2|² + tr S1 + tr S2 - 2 tr (S1 S2)^½, with covariances over N - 1 as numpy's. The published code takes a matrix
//! square root of S1 S2, which is singular with fewer samples than dimensions and then loses half of its digits. Here
//! S = X'X with centred rows X / (N - 1)^½, so that the eigenvalues of S1 S2 are the squared singular values of X1 X2', and the
//! trace is the sum of the singular values. X is reduced to its triangular factor first where it has more rows than columns.

use nalgebra::{DMatrix, SVD};
use rayon::prelude::*;

use crate::features::{FeatureError, Features};
use crate::statistics::{Interval, LEVEL, jackknife_error, shuffle, stream};

/// Under so many samples a dimension, the distance is mostly bias.
const SAMPLES_PER_DIMENSION: usize = 2;
/// Sweeps of the iteration per dimension before it is given up; a handful is usual.
const SWEEPS: usize = 100;

/// A Fréchet distance and its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frechet {
    /// The distance: the sum of the parts.
    pub distance: f64,
    /// What the means differ by, squared.
    pub means: f64,
    /// What the covariances differ by.
    pub covariances: f64,
    /// Samples of the first set and of the second.
    pub samples: (usize, usize),
    /// Dimensions of the features.
    pub dimensions: usize,
}

impl Frechet {
    /// Why the number is more bias than distance, if it is: under two samples a dimension. Even above, it falls as the sets
    /// grow, so that it compares only with distances from as many samples.
    #[must_use]
    pub fn bias(&self) -> Option<String> {
        let (samples, wanted) = (self.samples.0.min(self.samples.1), SAMPLES_PER_DIMENSION * self.dimensions);
        let dimensions = self.dimensions;
        (samples < wanted).then(|| {
            format!("biased upwards: {samples} samples for {dimensions} dimensions; {wanted} or more were better")
        })
    }
}

/// The Fréchet distance of two sets.
///
/// # Errors
/// Sets that are not comparable, under two samples, or a decomposition that does not end.
pub fn frechet_distance(first: &Features, second: &Features) -> Result<Frechet, FeatureError> {
    first.check_pair(second, "the Fréchet distance", 2)?;
    let (first_gaussian, second_gaussian) = rayon::join(|| Gaussian::fit(first), || Gaussian::fit(second));
    let means = first_gaussian.mean.iter().zip(&second_gaussian.mean).map(|(a, b)| (a - b).powi(2)).sum();
    let product = &first_gaussian.factor * second_gaussian.factor.transpose();
    let sweeps = SWEEPS * product.nrows().max(product.ncols());
    let decomposed = SVD::try_new(product, false, false, f64::EPSILON, sweeps).ok_or(FeatureError::NotConverged)?;
    let covariances = first_gaussian.trace + second_gaussian.trace - 2.0 * decomposed.singular_values.sum();
    // It is never negative but for rounding.
    let covariances = covariances.max(0.0);
    let samples = (first.count(), second.count());
    Ok(Frechet { distance: means + covariances, means, covariances, samples, dimensions: first.width() })
}

/// A 95 % interval of the Fréchet distance: jackknife that leaves out one of `blocks` parts of both sets at a time, the parts
/// drawn under `seed`. It costs as many distances as there are blocks, of which ten are a fair number. The interval is
/// around the distance at this number of samples; it does not hold the bias. (The bootstrap would not do: copies of samples
/// change the rank of the covariances, and all its distances are larger.)
///
/// # Errors
/// As [`frechet_distance`], and fewer samples than two a block.
pub fn frechet_interval(
    first: &Features,
    second: &Features,
    blocks: usize,
    seed: u64,
) -> Result<Interval, FeatureError> {
    let blocks = blocks.max(2);
    first.check_pair(second, "the interval of the Fréchet distance", 2 * blocks)?;
    let whole = frechet_distance(first, second)?.distance;
    let order = |features: &Features, index: u64| {
        let mut rows: Vec<usize> = (0..features.count()).collect();
        shuffle(&mut stream(seed, "frechet blocks", index), &mut rows);
        rows
    };
    let (first_order, second_order) = (order(first, 0), order(second, 1));
    let without = |order: &[usize], block: usize| -> Vec<usize> {
        order.iter().enumerate().filter(|(place, _)| place % blocks != block).map(|(_, row)| *row).collect()
    };
    let distances: Vec<f64> = (0..blocks)
        .into_par_iter()
        .map(|block| {
            let kept = (first.select(&without(&first_order, block))?, second.select(&without(&second_order, block))?);
            Ok(frechet_distance(&kept.0, &kept.1)?.distance)
        })
        .collect::<Result<_, FeatureError>>()?;
    let interval = Interval::around(whole, jackknife_error(&distances), (blocks - 1) as f64, LEVEL);
    Ok(Interval { lower: interval.lower.max(0.0), ..interval })
}

struct Gaussian {
    mean: Vec<f64>,
    /// Of the covariance.
    trace: f64,
    /// F with F'F the covariance, min(samples, dimensions) x dimensions.
    factor: DMatrix<f64>,
}

impl Gaussian {
    fn fit(features: &Features) -> Self {
        let (count, width) = (features.count(), features.width());
        let mut mean = vec![0.0; width];
        for row in features.rows() {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        mean.iter_mut().for_each(|sum| *sum /= count as f64);
        let scale = 1.0 / ((count - 1) as f64).sqrt();
        let centred = features
            .rows()
            .flat_map(|row| row.iter().zip(&mean).map(|(value, mean)| (f64::from(*value) - mean) * scale));
        let centred = DMatrix::from_row_iterator(count, width, centred);
        let trace = centred.norm_squared();
        let factor = if count > width { centred.qr().unpack_r() } else { centred };
        Self { mean, trace, factor }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::features::Extractor;

    fn features(width: usize, values: Vec<f32>) -> Features {
        let extractor = Extractor { name: "test".to_owned(), preprocessing: "none".to_owned() };
        Features::new(extractor, width, values).expect("a matrix")
    }

    /// The published formula: eigenvalues of the product of the covariances, through S1^½ S2 S1^½.
    fn direct(first: &Features, second: &Features) -> f64 {
        let fit = |features: &Features| {
            let matrix = DMatrix::from_row_iterator(
                features.count(),
                features.width(),
                features.values().iter().map(|value| f64::from(*value)),
            );
            let mean = matrix.row_mean();
            let centred =
                DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |row, column| matrix[(row, column)] - mean[column]);
            (mean, centred.transpose() * &centred / (matrix.nrows() - 1) as f64)
        };
        let ((m1, s1), (m2, s2)) = (fit(first), fit(second));
        let eigen = s1.clone().symmetric_eigen();
        let roots = eigen.eigenvalues.map(|value| value.max(0.0).sqrt());
        let root = &eigen.eigenvectors * DMatrix::from_diagonal(&roots) * eigen.eigenvectors.transpose();
        let middle = &root * &s2 * &root;
        let trace: f64 = middle.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).sum();
        (m1 - m2).norm_squared() + s1.trace() + s2.trace() - 2.0 * trace
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_the_direct_formula_on_either_side_of_the_dimensions(
            (width, first, second) in (1usize..9, 2usize..16, 2usize..16).prop_flat_map(|(width, first, second)| {
                let values = |count: usize| prop::collection::vec(-3.0f32..3.0, count * width);
                (Just(width), values(first), values(second))
            })
        ) {
            let (first, second) = (features(width, first), features(width, second));
            let got = frechet_distance(&first, &second).expect("comparable").distance;
            let expected = direct(&first, &second);
            // Square roots of eigenvalues that are zero but for rounding cost the direct formula half of its digits.
            prop_assert!((got - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{got} {expected}");
            let swapped = frechet_distance(&second, &first).expect("comparable").distance;
            prop_assert!((got - swapped).abs() < 1e-9 * (1.0 + got));
            let own = frechet_distance(&first, &first).expect("comparable").distance;
            prop_assert!(own < 1e-10, "{own}");
        }
    }

    #[test]
    fn a_shift_is_its_squared_length_and_features_that_never_vary_do_no_harm() -> Result<(), FeatureError> {
        let number = |place: usize| if place % 3 == 2 { 0.5 } else { (place * 7919 % 997) as f32 / 997.0 };
        let first: Vec<f32> = (0..300).map(number).collect();
        let second: Vec<f32> = first.iter().enumerate().map(|(place, value)| value + (place % 3) as f32).collect();
        let frechet = frechet_distance(&features(3, first), &features(3, second))?;
        assert!((frechet.means - 5.0).abs() < 1e-6 && frechet.covariances < 1e-6, "{frechet:?}");
        assert_eq!(frechet.bias(), None);
        Ok(())
    }

    #[test]
    fn it_says_that_few_samples_bias_it() -> Result<(), FeatureError> {
        let number = |place: usize| (place * 7919 % 997) as f32 / 997.0;
        let few = features(30, (0..30 * 40).map(number).collect());
        let bias = frechet_distance(&few, &few)?.bias().unwrap_or_default();
        assert!(bias.contains("40 samples for 30 dimensions") && bias.contains("60"), "{bias}");
        Ok(())
    }

    #[test]
    fn the_interval_holds_the_distance_of_large_sets_about_as_often_as_it_says() -> Result<(), FeatureError> {
        let normals = |seed: u64, count: usize, shift: f32| {
            let mut generator = stream(seed, "test", 0);
            let mut uniform = || crate::statistics::below(&mut generator, 1 << 20) as f32 / (1 << 20) as f32;
            let values = (0..2 * count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0 + shift).collect();
            features(2, values)
        };
        // The true distance is 2 * 0.5², the covariances being equal; bias at 400 samples is about 0.01.
        let mut held = 0;
        for seed in 0..100 {
            let (first, second) = (normals(2 * seed, 400, 0.0), normals(2 * seed + 1, 400, 0.5));
            held += u32::from(frechet_interval(&first, &second, 10, 1)?.contains(0.5));
        }
        assert!((87..=100).contains(&held), "{held} of 100");
        Ok(())
    }
}
