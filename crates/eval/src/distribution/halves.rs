//! Real pictures in two halves: what a distance between real and real looks like at this number of samples.

use crate::statistics::{StatisticsError, Units, shuffle, stream};

/// Splits items into two parts of about equal size, units (such as patients) kept together, under `seed`: the rows of each,
/// rising.
///
/// # Errors
/// Fewer than two units.
pub fn real_halves(units: &Units, seed: u64) -> Result<(Vec<usize>, Vec<usize>), StatisticsError> {
    if units.count() < 2 {
        return Err(StatisticsError::TooFew { what: "two halves of patients", needed: 2, found: units.count() });
    }
    let mut sizes = vec![0usize; units.count()];
    units.of_item().iter().for_each(|unit| sizes[*unit as usize] += 1);
    let mut order: Vec<usize> = (0..units.count()).collect();
    shuffle(&mut stream(seed, "real halves", 0), &mut order);
    // Each unit goes where fewer items are.
    let (mut is_second, mut filled) = (vec![false; units.count()], [0usize; 2]);
    for unit in order {
        let second = filled[1] < filled[0];
        is_second[unit] = second;
        filled[usize::from(second)] += sizes[unit];
    }
    Ok((0..units.item_count()).partition(|item| !is_second[units.of_item()[*item] as usize]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_even_and_no_patient_is_in_both() -> Result<(), StatisticsError> {
        let patients: Vec<usize> = (0..300).map(|item| item * item % 97).collect();
        let (first, second) = real_halves(&Units::groups(&patients), 4)?;
        assert_eq!(first.len() + second.len(), 300);
        assert!(first.len().abs_diff(second.len()) < 10, "{} {}", first.len(), second.len());
        assert!(first.iter().all(|a| second.iter().all(|b| patients[*a] != patients[*b])));
        assert_ne!(real_halves(&Units::groups(&patients), 5)?.0, first);
        assert!(real_halves(&Units::groups(&[1, 1]), 0).is_err());
        Ok(())
    }
}
