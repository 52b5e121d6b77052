//! How often films are drawn where classes are to be seen more evenly than they come.

use raygen_manifest::{CLASSES, Labels, shows};

/// Classes of the manifest, and one more for films that are labelled and show none of them.
const GROUPS: usize = CLASSES.len() + 1;

/// The weight of each film, on average 1: how often it is drawn in an epoch.
///
/// At `balance` 0 all weights are 1. At 1 the labelled films share their draws evenly among the classes that occur among them
/// (one of which is to show none): a film stands in each of its `n` classes, and gets of each the class's share over the films in
/// it. Between, the two are mixed in that proportion. Of each film come the labels and the classes of which nobody can say whether
/// it shows them: it stands in none of these, and where it shows no other, not in the class of those that show none either. Films
/// that stand nowhere, and films that nobody labelled, always weigh 1.
#[must_use]
pub fn class_weights<'l>(films: impl IntoIterator<Item = (&'l Labels, &'l [String])>, balance: f64) -> Vec<f64> {
    let groups: Vec<Option<[bool; GROUPS]>> =
        films.into_iter().map(|(labels, uncertain)| groups(labels, uncertain)).collect();
    let mut counts = [0usize; GROUPS];
    for film in groups.iter().flatten() {
        counts.iter_mut().zip(film).for_each(|(count, stands)| *count += usize::from(*stands));
    }
    let labelled = groups.iter().flatten().count() as f64;
    let occurring = counts.iter().filter(|count| **count > 0).count() as f64;
    let even = |film: &[bool; GROUPS]| {
        let shares = counts.iter().zip(film).filter(|(_, stands)| **stands).map(|(count, _)| 1.0 / *count as f64);
        labelled / occurring * shares.sum::<f64>()
    };
    groups.iter().map(|film| film.as_ref().map_or(1.0, |film| (1.0 - balance) + balance * even(film))).collect()
}

/// The groups that a film stands in: at least one, or none is known.
fn groups(labels: &Labels, uncertain: &[String]) -> Option<[bool; GROUPS]> {
    let known = CLASSES.map(|class| shows(labels, uncertain, class));
    let mut groups = [false; GROUPS];
    groups.iter_mut().zip(known).for_each(|(stands, shows)| *stands = shows == Some(true));
    groups[CLASSES.len()] = known.iter().all(|shows| *shows == Some(false));
    groups.contains(&true).then_some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positive(names: &[&str]) -> Labels {
        Labels::Positive(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Six negative films, two of edema, one of edema and pneumonia, one unlabelled.
    fn films() -> Vec<Labels> {
        let mut films = vec![Labels::Negative; 6];
        films.extend([positive(&["Edema"]), positive(&["Edema"]), positive(&["Edema", "Pneumonia"])]);
        films.push(Labels::Unlabelled);
        films
    }

    /// Weights of films of which nothing is uncertain.
    fn class_weights(films: &[Labels], balance: f64) -> Vec<f64> {
        super::class_weights(films.iter().map(|labels| (labels, &[][..])), balance)
    }

    #[test]
    fn what_is_uncertain_is_unknown_and_not_absent() {
        let doubt = ["Pneumonia".to_owned()];
        let no_doubt = &[][..];
        let weights = super::class_weights(
            [
                (&Labels::Negative, no_doubt),
                (&Labels::Negative, no_doubt),
                // It may show pneumonia: it is no film that shows nothing, and none of pneumonia.
                (&Labels::Negative, &doubt),
                (&positive(&["Edema"]), &doubt),
                (&positive(&["Pneumonia"]), no_doubt),
                (&positive(&["Pneumonia"]), &doubt),
            ],
            1.0,
        );
        // Four films are known to stand somewhere: two show nothing, one edema, one pneumonia.
        let share = 4.0 / 3.0;
        let expected = [share / 2.0, share / 2.0, 1.0, share, share, 1.0];
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-12, "{weights:?}");
        }
    }

    #[test]
    fn without_balance_all_films_weigh_alike() {
        assert_eq!(class_weights(&films(), 0.0), [1.0; 10]);
    }

    #[test]
    fn with_full_balance_classes_share_evenly_and_the_unlabelled_film_keeps_its_weight() {
        let weights = class_weights(&films(), 1.0);
        // Nine labelled films, three classes that occur: three draws for each.
        let expected = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0 + 3.0, 1.0];
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-12, "{weights:?}");
        }
        assert!((weights.iter().sum::<f64>() - 10.0).abs() < 1e-12);
    }

    #[test]
    fn half_way_is_half_of_each() {
        let (own, even) = (class_weights(&films(), 0.0), class_weights(&films(), 1.0));
        for ((half, own), even) in class_weights(&films(), 0.5).iter().zip(own).zip(even) {
            assert!((half - 0.5 * (own + even)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_name_that_is_no_class_counts_as_none_of_them() {
        let films = [positive(&["Hernia"]), Labels::Negative, positive(&["Edema"])];
        let weights = class_weights(&films, 1.0);
        assert_eq!(weights, [0.75, 0.75, 1.5]);
        assert_eq!(class_weights(&[Labels::Unlabelled], 1.0), [1.0]);
    }
}
