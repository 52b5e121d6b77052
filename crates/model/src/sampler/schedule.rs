//! The cosine schedule: how many positions are undecided before and after each step.

use std::f64::consts::FRAC_PI_2;

/// Undecided positions that the published loop feeds to the network at `step` (from 0) of `step_count`, when
/// `total` were undecided at first: floor(total * cos(pi/2 * step / (K - 1))), at least 1. With K = 1, all of them.
///
/// In f64; the published code's f32 differs by one where total * cos(..) is a whole number.
pub fn masked_before_published(total: usize, step: u32, step_count: u32) -> usize {
    let ratio = if step_count > 1 { f64::from(step) / f64::from(step_count - 1) } else { 0.0 };
    cosine_count(total, ratio).max(1).min(total)
}

/// Undecided positions left after `step` (from 0) of `step_count` of the MaskGIT and Halton samplers:
/// floor(total * cos(pi/2 * (step + 1) / K)), at least 1 before the last step and 0 after it.
pub fn masked_after(total: usize, step: u32, step_count: u32) -> usize {
    if step + 1 >= step_count {
        return 0;
    }
    cosine_count(total, f64::from(step + 1) / f64::from(step_count)).max(1).min(total)
}

fn cosine_count(total: usize, ratio: f64) -> usize {
    (total as f64 * (FRAC_PI_2 * ratio).cos()).floor().max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(step_count: u32) -> Vec<usize> {
        (0..step_count).map(|step| masked_before_published(1024, step, step_count)).collect()
    }

    #[test]
    fn published_counts_are_those_of_the_published_code() {
        assert_eq!(published(1), [1024]);
        assert_eq!(published(2), [1024, 1]);
        assert_eq!(published(3), [1024, 724, 1]);
        assert_eq!(published(4), [1024, 886, 512, 1]);
        assert_eq!(published(6), [1024, 973, 828, 601, 316, 1]);
        assert_eq!(published(8), [1024, 998, 922, 800, 638, 444, 227, 1]);
        assert_eq!(published(12), [1024, 1013, 982, 931, 861, 773, 670, 553, 425, 288, 145, 1]);
        assert_eq!(published(16), [1024, 1018, 1001, 973, 935, 886, 828, 760, 685, 601, 512, 416, 316, 212, 107, 1]);
        assert_eq!(
            published(18),
            [1024, 1019, 1006, 984, 954, 916, 870, 817, 756, 689, 617, 539, 456, 369, 280, 188, 94, 1]
        );
    }

    #[test]
    fn the_last_step_leaves_nothing_and_no_earlier_one_leaves_less_than_one() {
        for step_count in 1..=40 {
            let mut before = 64;
            for step in 0..step_count {
                let after = masked_after(64, step, step_count);
                assert!(after <= before);
                assert_eq!(after == 0, step + 1 == step_count);
                before = after;
            }
        }
    }

    #[test]
    fn an_empty_set_stays_empty() {
        assert_eq!(masked_before_published(0, 0, 8), 0);
        assert_eq!(masked_after(0, 0, 8), 0);
    }
}
