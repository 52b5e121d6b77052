//! The split of films whose manifest names none.

use crate::Split;

/// One group of so many is looked at while choosing settings; the others are learned from.
const VAL_EVERY: u64 = 10;

/// The split of a group (a patient, or a film without one) by a hash of its name: the same on every machine and in every
/// version, whatever other films there are. Never `test`.
pub(crate) fn split_by_hash(group: &str) -> Split {
    if fnv1a(group.as_bytes()).is_multiple_of(VAL_EVERY) { Split::Val } else { Split::Train }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_and_so_never_changes() {
        // Values of the algorithm's authors.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn about_a_tenth_of_the_patients_is_kept_for_validation() {
        for name in ["p", "nih", "images/film-", ""] {
            let val = (0..2000).filter(|number| split_by_hash(&format!("{name}{number:05}")) == Split::Val).count();
            assert!((150..250).contains(&val), "{val} of 2000 patients called {name}00000 and so on");
        }
    }
}
