//! The area under the receiver operating characteristic, by ranks (Hanley and McNeil 1982): exact, ties included.

/// The share of pairs of a positive and a negative in which the positive has the higher score, a tie counted half.
///
/// `None` where it is undefined: there is no positive or no negative, a score is NaN, or the lengths differ.
pub fn auroc(scores: &[f32], positives: &[bool]) -> Option<f64> {
    if scores.len() != positives.len() || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut ranked: Vec<(f32, bool)> = scores.iter().copied().zip(positives.iter().copied()).collect();
    // -0 and 0 are a tie, which total_cmp would part.
    ranked.sort_by(|a, b| (a.0 + 0.0).total_cmp(&(b.0 + 0.0)));
    // Pairs, each counted twice so that a tie is a whole number.
    let (mut won, mut negatives_below) = (0u128, 0u128);
    for ties in ranked.chunk_by(|a, b| a.0 == b.0) {
        let positives = ties.iter().filter(|(_, positive)| *positive).count() as u128;
        let negatives = ties.len() as u128 - positives;
        won += positives * (2 * negatives_below + negatives);
        negatives_below += negatives;
    }
    let positives = ranked.len() as u128 - negatives_below;
    let pairs = 2 * positives * negatives_below;
    (pairs > 0).then(|| won as f64 / pairs as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_share_of_pairs_in_the_right_order() {
        let scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4];
        assert_eq!(auroc(&scores, &[true, true, true, false, false, false]), Some(1.0));
        assert_eq!(auroc(&scores, &[false, false, false, true, true, true]), Some(0.0));
        // Of nine pairs, 0.9 wins three, 0.7 two and 0.5 one.
        assert_eq!(auroc(&scores, &[true, false, true, false, true, false]), Some(6.0 / 9.0));
    }

    #[test]
    fn a_tie_counts_half_whatever_the_order_of_the_films() {
        assert_eq!(auroc(&[0.0, -0.0, 0.0, 0.0], &[true, false, false, true]), Some(0.5));
        let of = |order: [usize; 5]| {
            let scores = [0.1f32, 0.3, 0.3, 0.3, 0.7];
            let positives = [false, true, false, false, true];
            auroc(&order.map(|film| scores[film]), &order.map(|film| positives[film]))
        };
        // Six pairs: 0.7 wins three, the tied one wins one and two halves.
        assert_eq!(of([0, 1, 2, 3, 4]), Some(5.0 / 6.0));
        assert_eq!(of([4, 3, 2, 1, 0]), Some(5.0 / 6.0));
    }

    #[test]
    fn it_is_undefined_without_both_kinds_of_films_and_for_what_is_no_number() {
        assert_eq!(auroc(&[], &[]), None);
        assert_eq!(auroc(&[0.1, 0.2], &[true, true]), None);
        assert_eq!(auroc(&[0.1, 0.2], &[false, false]), None);
        assert_eq!(auroc(&[0.1, f32::NAN], &[false, true]), None);
        assert_eq!(auroc(&[0.1], &[false, true]), None);
        assert_eq!(auroc(&[f32::NEG_INFINITY, f32::INFINITY], &[false, true]), Some(1.0));
    }
}
