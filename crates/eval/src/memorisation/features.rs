//! Nearest films by their features: copies that a network takes for the same, also where pixels differ.

use crate::features::Features;
use crate::products::Rows;

use super::{MemorisationError, Nearest, all_found, least};

/// How far two rows of features are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureDistance {
    /// 1 - cosine of the angle; 1 to a row of zeros.
    Cosine,
    /// Length of the difference.
    Euclidean,
}

/// The nearest of `training` for each of `films`, among those that `allowed(film, training film)` lets it be held against.
///
/// # Errors
/// Sets that are not comparable; [`MemorisationError::NoCandidate`].
pub fn nearest_features<A>(
    films: &Features,
    training: &Features,
    distance: FeatureDistance,
    allowed: A,
) -> Result<Vec<Nearest>, MemorisationError>
where
    A: Fn(usize, usize) -> bool + Sync,
{
    films.check_comparable(training)?;
    let rows = Rows::new(films.values(), films.width());
    let others = Rows::new(training.values(), training.width());
    let found = match distance {
        FeatureDistance::Euclidean => rows.map_squared_distances(&others, |film, distances| {
            least(distances.iter().map(|squared| squared.sqrt()), |other| allowed(film, other))
        }),
        FeatureDistance::Cosine => {
            let (own, lengths) = (rows.squared_lengths(), others.squared_lengths());
            rows.map_products(&others, |film, products| {
                let cosine = |(product, length): (&f64, &f64)| {
                    let both = (own[film] * length).sqrt();
                    if both > 0.0 { (1.0 - product / both).max(0.0) } else { 1.0 }
                };
                least(products.iter().zip(&lengths).map(cosine), |other| allowed(film, other))
            })
        }
    };
    all_found(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Extractor, FeatureError};

    fn features(name: &str, values: &[f32]) -> Result<Features, FeatureError> {
        Features::new(Extractor { name: name.to_owned(), preprocessing: String::new() }, 2, values.to_vec())
    }

    #[test]
    fn the_two_distances_find_their_own_nearest() -> Result<(), MemorisationError> {
        let training = features("a", &[10.0, 0.0, 1.0, 1.0, 0.0, 0.0])?;
        let film = features("a", &[2.0, 0.0])?;
        let cosine = nearest_features(&film, &training, FeatureDistance::Cosine, |_, _| true)?;
        assert_eq!(cosine, [Nearest { index: 0, distance: 0.0 }]);
        let euclidean = nearest_features(&film, &training, FeatureDistance::Euclidean, |_, _| true)?;
        assert!(euclidean[0].index == 1 && (euclidean[0].distance - 2f64.sqrt()).abs() < 1e-12, "{euclidean:?}");
        let zero = nearest_features(&film, &training, FeatureDistance::Cosine, |_, other| other == 2)?;
        assert_eq!(zero, [Nearest { index: 2, distance: 1.0 }]);
        let foreign = nearest_features(&features("b", &[1.0, 1.0])?, &training, FeatureDistance::Cosine, |_, _| true);
        assert!(matches!(foreign, Err(MemorisationError::Features(FeatureError::ExtractorsDiffer { .. }))));
        Ok(())
    }
}
