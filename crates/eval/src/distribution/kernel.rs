//! The kernel distance (Bińkowski et al. 2018, "KID"): the unbiased estimate of the squared maximum mean discrepancy with
//! the kernel (x·y / d + 1)³.
//!
//! All samples are used, not a mean over subsets: the estimate is unbiased at every size, and noise only grows in subsets.
//! The interval is a delete-one jackknife over both sets, which row sums of the kernel give without more products. Where the
//! sets are drawn alike what one sample adds alone vanishes, and the bootstrap of such a statistic is wrong; what pairs add
//! remains, and the standard error is taken to be at least that (the second-order terms of Hoeffding's decomposition).

use crate::features::{FeatureError, Features};
use crate::products::Rows;
use crate::statistics::{Interval, LEVEL, jackknife_error, mean};

const METRIC: &str = "the kernel distance";
/// Leaving one out must leave a pair.
const FEWEST: usize = 3;

/// A kernel distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelDistance {
    /// The estimate; around 0, and as often below, for sets drawn alike.
    pub distance: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// Samples of the smaller set.
    pub samples: usize,
    /// Whether that of real pictures to real ones is taken off.
    pub excess: bool,
}

/// The kernel distance of two sets.
///
/// # Errors
/// Sets that are not comparable, or under three samples.
pub fn kernel_distance(first: &Features, second: &Features) -> Result<KernelDistance, FeatureError> {
    first.check_pair(second, METRIC, FEWEST)?;
    let (within_first, within_second) = (Within::new(first), Within::new(second));
    let across = Across::new(first, second);
    let distance = within_first.mean() + within_second.mean() - 2.0 * across.mean();
    let without_first: Vec<f64> = (0..first.count())
        .map(|row| within_first.mean_without(row) + within_second.mean() - 2.0 * across.mean_without_first(row))
        .collect();
    let without_second: Vec<f64> = (0..second.count())
        .map(|row| within_first.mean() + within_second.mean_without(row) - 2.0 * across.mean_without_second(row))
        .collect();
    let of_pairs = within_first.variance_of_pairs() + within_second.variance_of_pairs() + across.variance_of_pairs();
    let samples = first.count().min(second.count());
    Ok(estimate(distance, &[&without_first, &without_second], of_pairs, samples))
}

/// By how much `generated` is farther from real pictures than real pictures are: its kernel distance to `real`, less that
/// of `other_real` to `real` (see [`super::real_halves`]). 0 is as good as real.
///
/// # Errors
/// As [`kernel_distance`].
pub fn excess_kernel_distance(
    generated: &Features,
    real: &Features,
    other_real: &Features,
) -> Result<KernelDistance, FeatureError> {
    generated.check_pair(real, METRIC, FEWEST)?;
    other_real.check_pair(real, METRIC, FEWEST)?;
    // What lies within `real` is in both and falls out.
    let (within_generated, within_other) = (Within::new(generated), Within::new(other_real));
    let (to_generated, to_other) = (Across::new(real, generated), Across::new(real, other_real));
    let constant = within_generated.mean() - within_other.mean();
    let distance = constant - 2.0 * (to_generated.mean() - to_other.mean());
    let without_real: Vec<f64> = (0..real.count())
        .map(|row| constant - 2.0 * (to_generated.mean_without_first(row) - to_other.mean_without_first(row)))
        .collect();
    let without_generated: Vec<f64> = (0..generated.count())
        .map(|row| {
            within_generated.mean_without(row)
                - within_other.mean()
                - 2.0 * (to_generated.mean_without_second(row) - to_other.mean())
        })
        .collect();
    let without_other: Vec<f64> = (0..other_real.count())
        .map(|row| {
            within_generated.mean()
                - within_other.mean_without(row)
                - 2.0 * (to_generated.mean() - to_other.mean_without_second(row))
        })
        .collect();
    let samples = generated.count().min(real.count()).min(other_real.count());
    let of_pairs = within_generated.variance_of_pairs()
        + within_other.variance_of_pairs()
        + to_generated.variance_of_pairs()
        + to_other.variance_of_pairs();
    let excess = estimate(distance, &[&without_real, &without_generated, &without_other], of_pairs, samples);
    Ok(KernelDistance { excess: true, ..excess })
}

fn estimate(distance: f64, left_out: &[&[f64]], of_pairs: f64, samples: usize) -> KernelDistance {
    let variance: f64 = left_out.iter().map(|values| jackknife_error(values).powi(2)).sum();
    let error = variance.max(of_pairs).sqrt();
    let interval = Interval::around(distance, error, (samples - 1) as f64, LEVEL);
    KernelDistance { distance, interval, samples, excess: false }
}

fn kernel(product: f64, width: usize) -> f64 {
    let base = product / width as f64 + 1.0;
    base * base * base
}

/// Kernel sums of each sample with the others of its set.
struct Within {
    sums: Vec<f64>,
    total: f64,
    /// Sum of the squared kernels.
    squares: f64,
}

impl Within {
    fn new(features: &Features) -> Self {
        let width = features.width();
        let rows = Rows::new(features.values(), width);
        let count = rows.count();
        // Each pair once: a block of rows with those from its first on.
        let blocks = rows.map_blocks(
            &rows,
            |first| first,
            |first, products| {
                let mut part = Part { rows: vec![], others: vec![0.0; count - first], squares: 0.0 };
                for (row, products) in products.chunks_exact(count - first).enumerate() {
                    let mut sum = 0.0;
                    for (other, product) in products.iter().enumerate().skip(row + 1) {
                        let value = kernel(*product, width);
                        sum += value;
                        part.others[other] += value;
                        part.squares += 2.0 * value * value;
                    }
                    part.rows.push(sum);
                }
                part
            },
        );
        let (mut sums, mut squares, mut first) = (vec![0.0; count], 0.0, 0);
        for block in blocks {
            add(&mut sums[first..], &block.rows);
            add(&mut sums[first..], &block.others);
            squares += block.squares;
            first += block.rows.len();
        }
        let total = sums.iter().sum();
        Self { sums, total, squares }
    }

    /// Mean over pairs of different samples.
    fn mean(&self) -> f64 {
        let count = self.sums.len() as f64;
        self.total / (count * (count - 1.0))
    }

    fn mean_without(&self, row: usize) -> f64 {
        let count = (self.sums.len() - 1) as f64;
        (self.total - 2.0 * self.sums[row]) / (count * (count - 1.0))
    }

    /// Variance of the mean that is left when what each sample adds alone is taken out.
    fn variance_of_pairs(&self) -> f64 {
        let count = self.sums.len() as f64;
        let pairs = count * (count - 1.0);
        let kernels = self.squares / pairs - self.mean().powi(2);
        2.0 * (kernels - 2.0 * variance_of_means(&self.sums, count - 1.0)).max(0.0) / pairs
    }
}

/// Kernel sums of each sample with those of the other set.
struct Across {
    first: Vec<f64>,
    second: Vec<f64>,
    total: f64,
    /// Sum of the squared kernels.
    squares: f64,
}

impl Across {
    fn new(first: &Features, second: &Features) -> Self {
        let width = first.width();
        let (a, b) = (Rows::new(first.values(), width), Rows::new(second.values(), width));
        let others = b.count();
        let blocks = a.map_blocks(
            &b,
            |_| 0,
            |_, products| {
                let mut part = Part { rows: vec![], others: vec![0.0; others], squares: 0.0 };
                for products in products.chunks_exact(others) {
                    let mut sum = 0.0;
                    for (product, other) in products.iter().zip(&mut part.others) {
                        let value = kernel(*product, width);
                        sum += value;
                        *other += value;
                        part.squares += value * value;
                    }
                    part.rows.push(sum);
                }
                part
            },
        );
        let (mut first, mut second, mut squares) = (Vec::with_capacity(a.count()), vec![0.0; others], 0.0);
        for block in blocks {
            first.extend_from_slice(&block.rows);
            add(&mut second, &block.others);
            squares += block.squares;
        }
        let total = first.iter().sum();
        Self { first, second, total, squares }
    }

    fn mean(&self) -> f64 {
        self.total / (self.first.len() * self.second.len()) as f64
    }

    fn mean_without_first(&self, row: usize) -> f64 {
        (self.total - self.first[row]) / ((self.first.len() - 1) * self.second.len()) as f64
    }

    fn mean_without_second(&self, row: usize) -> f64 {
        (self.total - self.second[row]) / (self.first.len() * (self.second.len() - 1)) as f64
    }

    /// Variance of twice the mean that is left when what each sample adds alone is taken out.
    fn variance_of_pairs(&self) -> f64 {
        let (first, second) = (self.first.len() as f64, self.second.len() as f64);
        let kernels = self.squares / (first * second) - self.mean().powi(2);
        let alone = variance_of_means(&self.first, second) + variance_of_means(&self.second, first);
        4.0 * (kernels - alone).max(0.0) / (first * second)
    }
}

/// Kernel sums of a block of rows.
struct Part {
    /// Of each of its rows.
    rows: Vec<f64>,
    /// Of each row of the other side with the block.
    others: Vec<f64>,
    squares: f64,
}

fn add(sums: &mut [f64], more: &[f64]) {
    sums.iter_mut().zip(more).for_each(|(sum, value)| *sum += value);
}

/// Variance of sums over `count` each, as means.
fn variance_of_means(sums: &[f64], count: f64) -> f64 {
    let centre = mean(sums);
    sums.iter().map(|sum| ((sum - centre) / count).powi(2)).sum::<f64>() / sums.len() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::features::Extractor;
    use crate::statistics::{below, stream};

    fn features(width: usize, values: Vec<f32>) -> Features {
        let extractor = Extractor { name: "test".to_owned(), preprocessing: "none".to_owned() };
        Features::new(extractor, width, values).expect("a matrix")
    }

    /// Numbers even in 0..1, one a row, to some power.
    fn evenly(seed: u64, count: usize, power: i32) -> Features {
        let mut generator = stream(seed, "test", 0);
        let values =
            (0..count).map(|_| (below(&mut generator, 1 << 20) as f32 / (1 << 20) as f32).powi(power)).collect();
        features(1, values)
    }

    fn naive(a: &Features, b: &Features) -> f64 {
        let k = |x: &[f32], y: &[f32]| {
            let product: f64 = x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            (product / x.len() as f64 + 1.0).powi(3)
        };
        let mean = |a: &Features, b: &Features, same: bool| {
            let (mut sum, mut pairs) = (0.0, 0.0);
            for (i, x) in a.rows().enumerate() {
                for (j, y) in b.rows().enumerate().filter(|(j, _)| !same || *j != i) {
                    let _ = j;
                    sum += k(x, y);
                    pairs += 1.0;
                }
            }
            sum / pairs
        };
        mean(a, a, true) + mean(b, b, true) - 2.0 * mean(a, b, false)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_is_that_of_the_definition_and_its_interval_no_narrower_than_the_jackknifes(
            (width, first, second) in (1usize..5, 3usize..9, 3usize..9).prop_flat_map(|(width, first, second)| {
                let values = |count: usize| prop::collection::vec(-2.0f32..2.0, count * width);
                (Just(width), values(first), values(second))
            })
        ) {
            let (first, second) = (features(width, first), features(width, second));
            let got = kernel_distance(&first, &second).expect("comparable");
            prop_assert!((got.distance - naive(&first, &second)).abs() < 1e-9);
            let left_out = |count: usize, drop: &dyn Fn(&[usize]) -> f64| -> Vec<f64> {
                (0..count).map(|out| drop(&(0..count).filter(|row| *row != out).collect::<Vec<_>>())).collect()
            };
            let one = left_out(first.count(), &|rows| naive(&first.select(rows).expect("rows"), &second));
            let two = left_out(second.count(), &|rows| naive(&first, &second.select(rows).expect("rows")));
            let variance = jackknife_error(&one).powi(2) + jackknife_error(&two).powi(2);
            let reach = (got.interval.upper - got.interval.lower) / 2.0;
            let at_least = Interval::around(0.0, variance.sqrt(), (got.samples - 1) as f64, LEVEL).upper;
            prop_assert!(reach >= at_least * (1.0 - 1e-6) - 1e-9, "{reach} {at_least}");
        }
    }

    #[test]
    fn sets_drawn_alike_are_at_zero_on_average_and_the_interval_knows() -> Result<(), FeatureError> {
        let (mut sum, mut held) = (0.0, 0);
        for seed in 0..200 {
            let got = kernel_distance(&evenly(2 * seed, 40, 1), &evenly(2 * seed + 1, 60, 1))?;
            sum += got.distance;
            held += u32::from(got.interval.contains(0.0));
        }
        assert!((sum / 200.0).abs() < 0.005 && held >= 185, "{} {held}", sum / 200.0);
        Ok(())
    }

    #[test]
    fn the_interval_holds_the_true_distance() -> Result<(), FeatureError> {
        // In one dimension the kernel is 1 + 3xy + 3x²y² + x³y³: differences of the first three moments. The k-th moment
        // of u^p, u even in 0..1, is 1 / (pk + 1).
        let moment = |power: i32, k: i32| 1.0 / f64::from(power * k + 1);
        let square = |k: i32| (moment(1, k) - moment(2, k)).powi(2);
        let truth = 3.0 * square(1) + 3.0 * square(2) + square(3);
        let mut held = 0;
        for seed in 0..200 {
            let got = kernel_distance(&evenly(2 * seed, 100, 1), &evenly(2 * seed + 1, 120, 2))?;
            held += u32::from(got.interval.contains(truth));
        }
        assert!((180..=198).contains(&held), "{held} of 200");
        Ok(())
    }

    #[test]
    fn pairs_over_several_blocks_are_each_counted_once() -> Result<(), FeatureError> {
        let (first, second) = (evenly(1, 150, 1), evenly(2, 201, 2));
        let (got, expected) = (kernel_distance(&first, &second)?, naive(&first, &second));
        assert!((got.distance - expected).abs() < 1e-10, "{got:?} {expected}");
        let (within, rows) = (Within::new(&first), Rows::new(first.values(), 1));
        for (row, (sum, expected)) in within
            .sums
            .iter()
            .zip(rows.map_products(&rows, |row, products| {
                let others = products.iter().enumerate().filter(|(other, _)| *other != row);
                others.map(|(_, product)| kernel(*product, 1)).sum::<f64>()
            }))
            .enumerate()
        {
            assert!((sum - expected).abs() < 1e-9, "row {row}: {sum} {expected}");
        }
        Ok(())
    }

    #[test]
    fn the_excess_is_the_difference_of_two_distances() -> Result<(), FeatureError> {
        let (generated, real, other) = (evenly(1, 80, 3), evenly(2, 90, 1), evenly(3, 70, 1));
        let excess = excess_kernel_distance(&generated, &real, &other)?;
        let expected = kernel_distance(&generated, &real)?.distance - kernel_distance(&other, &real)?.distance;
        assert!((excess.distance - expected).abs() < 1e-12 && excess.interval.lower > 0.0, "{excess:?} {expected}");
        let none = excess_kernel_distance(&evenly(4, 80, 1), &real, &other)?;
        assert!(none.interval.contains(0.0), "{none:?}");
        Ok(())
    }
}
