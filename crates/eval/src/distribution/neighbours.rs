//! Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020): shares of samples that lie
//! within the balls around the samples of the other set that reach to each one's k-th neighbour.
//!
//! As the authors' code (`prdc`): distances are Euclidean, a sample is not its own neighbour, and a ball does not hold its
//! own edge. All four depend on the number of samples and on k.

use crate::features::{FeatureError, Features};
use crate::products::Rows;
use crate::statistics::{Bootstrap, Interval, StatisticsError, Units, mean};

/// How many neighbours a ball holds, unless asked otherwise: density and coverage were published with 5.
pub const DEFAULT_NEIGHBOURS: usize = 5;

/// The four shares, with what each sample adds to them.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighbourShares {
    /// Generated samples within a ball of a real one: are they realistic?
    pub precision: Share,
    /// Real samples within a ball of a generated one: is everything real there?
    pub recall: Share,
    /// Balls of real samples that hold a generated one, over k: like precision, but an outlier's wide ball counts little.
    /// May exceed 1.
    pub density: Share,
    /// Real samples whose ball holds a generated one.
    pub coverage: Share,
    /// k.
    pub neighbours: usize,
}

/// A mean over samples: the generated ones for precision and density, the real ones for recall and coverage.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The mean.
    pub value: f64,
    /// What each sample adds, in the order of its set.
    pub per_sample: Vec<f64>,
}

impl Share {
    fn new(per_sample: Vec<f64>) -> Self {
        Self { value: mean(&per_sample), per_sample }
    }

    /// Bootstrap interval over the samples of its own set, the balls of the other being held fixed.
    ///
    /// # Errors
    /// Units of another number of samples.
    pub fn interval(&self, bootstrap: &Bootstrap, units: &Units) -> Result<Option<Interval>, StatisticsError> {
        Ok(bootstrap.mean(&self.per_sample, units)?.1)
    }
}

/// Precision, recall, density and coverage with `neighbours` (k) a ball.
///
/// # Errors
/// Sets that are not comparable, or with no more than k samples; k of 0 is taken as 1.
pub fn neighbour_shares(
    real: &Features,
    generated: &Features,
    neighbours: usize,
) -> Result<NeighbourShares, FeatureError> {
    let neighbours = neighbours.max(1);
    real.check_pair(generated, "precision, recall, density and coverage", neighbours + 1)?;
    let width = real.width();
    let (real, generated) = (Rows::new(real.values(), width), Rows::new(generated.values(), width));
    let (real_balls, generated_balls) = (balls(&real, neighbours), balls(&generated, neighbours));
    // For each generated sample the real balls that hold it.
    let holding = generated.map_squared_distances(&real, |_, distances| {
        distances.iter().zip(&real_balls).filter(|(distance, ball)| distance < ball).count()
    });
    // For each real sample, whether a generated ball holds it, and whether its own ball holds a generated sample.
    let real_sides = real.map_squared_distances(&generated, |row, distances| {
        let recalled = distances.iter().zip(&generated_balls).any(|(distance, ball)| distance < ball);
        (recalled, distances.iter().any(|distance| *distance < real_balls[row]))
    });
    let share = |yes: bool| f64::from(u8::from(yes));
    Ok(NeighbourShares {
        precision: Share::new(holding.iter().map(|count| share(*count > 0)).collect()),
        recall: Share::new(real_sides.iter().map(|(recalled, _)| share(*recalled)).collect()),
        density: Share::new(holding.iter().map(|count| *count as f64 / neighbours as f64).collect()),
        coverage: Share::new(real_sides.iter().map(|(_, covered)| share(*covered)).collect()),
        neighbours,
    })
}

/// Squared distance of each row to its k-th nearest other row.
fn balls(rows: &Rows<'_>, neighbours: usize) -> Vec<f64> {
    rows.map_squared_distances(rows, |row, distances| {
        distances[row] = f64::INFINITY;
        *distances.select_nth_unstable_by(neighbours - 1, f64::total_cmp).1
    })
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

    fn distance(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    }

    /// The authors' code, line by line.
    fn naive(real: &Features, generated: &Features, k: usize) -> [f64; 4] {
        let radius = |set: &Features| -> Vec<f64> {
            let of_row = |row: &[f32]| {
                let mut distances: Vec<f64> = set.rows().map(|other| distance(row, other)).collect();
                distances.sort_by(f64::total_cmp);
                distances[k]
            };
            set.rows().map(of_row).collect()
        };
        let (real_radius, generated_radius) = (radius(real), radius(generated));
        let (mut precision, mut recall, mut density, mut coverage) = (0.0, 0.0, 0.0, 0.0);
        for g in generated.rows() {
            let inside = real.rows().zip(&real_radius).filter(|(r, radius)| distance(r, g) < **radius).count();
            precision += f64::from(u8::from(inside > 0));
            density += inside as f64 / k as f64;
        }
        for (r, radius) in real.rows().zip(&real_radius) {
            let mut pairs = generated.rows().zip(&generated_radius);
            recall += f64::from(u8::from(pairs.any(|(g, radius)| distance(r, g) < *radius)));
            coverage += f64::from(u8::from(generated.rows().any(|g| distance(r, g) < *radius)));
        }
        let (reals, generateds) = (real.count() as f64, generated.count() as f64);
        [precision / generateds, recall / reals, density / generateds, coverage / reals]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn they_are_those_of_the_authors_code(
            (width, k, real, generated) in (1usize..4, 1usize..5, 6usize..30, 6usize..30).prop_flat_map(
                |(width, k, real, generated)| {
                    let values = |count: usize| prop::collection::vec(-2.0f32..2.0, count * width);
                    (Just(width), Just(k), values(real), values(generated))
                },
            )
        ) {
            let (real, generated) = (features(width, real), features(width, generated));
            let got = neighbour_shares(&real, &generated, k).expect("comparable");
            let values = [got.precision.value, got.recall.value, got.density.value, got.coverage.value];
            for (got, expected) in values.iter().zip(naive(&real, &generated, k)) {
                prop_assert!((got - expected).abs() < 1e-12, "{values:?}");
            }
        }
    }

    #[test]
    fn a_collapsed_generator_is_precise_and_covers_nothing() -> Result<(), FeatureError> {
        let real = features(2, (0..400).map(|place| (place * 7919 % 997) as f32 / 997.0).collect());
        // All generated samples crowd around one real one.
        let centre: Vec<f32> = real.rows().next().unwrap_or(&[]).to_vec();
        let crowd = (0..400).map(|place| centre[place % 2] + (place * 31 % 101) as f32 * 1e-6).collect();
        let shares = neighbour_shares(&real, &features(2, crowd), DEFAULT_NEIGHBOURS)?;
        assert_eq!(shares.precision.value, 1.0);
        assert!(shares.recall.value < 0.02 && shares.coverage.value < 0.1, "{shares:?}");
        // Far away, nothing is precise.
        let far = neighbour_shares(&real, &features(2, vec![50.0; 400]), DEFAULT_NEIGHBOURS)?;
        assert_eq!((far.precision.value, far.density.value, far.coverage.value), (0.0, 0.0, 0.0));
        assert!(matches!(
            neighbour_shares(&real, &features(2, vec![0.0; 10]), 5),
            Err(FeatureError::TooFew { needed: 6, found: 5, .. })
        ));
        Ok(())
    }
}
