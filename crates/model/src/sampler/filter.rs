//! The top-k filter: which ids a position may take at all.

/// How many ids each position keeps: ceil((1 - alpha) * codebook), at least 1.
///
/// `alpha` came over the wire in f32. Its shortest decimal form is what the caller wrote, so 0.9 of 10 ids keeps
/// one of them and not two.
pub fn keep_count(codebook: usize, alpha: f32) -> usize {
    let kept = ((1.0 - decimal(alpha)) * codebook as f64).ceil() as usize;
    kept.clamp(1, codebook.max(1))
}

/// Sets all but the `keep` largest logits of one position to minus infinity; of equal ones the lowest ids stay.
pub fn keep_largest(logits: &mut [f32], keep: usize) {
    if keep >= logits.len() {
        return;
    }
    if keep == 0 {
        logits.fill(f32::NEG_INFINITY);
        return;
    }
    let mut sorted = logits.to_vec();
    let (_, &mut smallest_kept, _) = sorted.select_nth_unstable_by(keep - 1, |a, b| b.total_cmp(a));
    let larger = logits.iter().filter(|&&value| value > smallest_kept).count();
    let mut ties_left = keep - larger.min(keep);
    for value in logits.iter_mut() {
        if *value > smallest_kept {
            continue;
        }
        if *value == smallest_kept && ties_left > 0 {
            ties_left -= 1;
        } else {
            *value = f32::NEG_INFINITY;
        }
    }
}

/// The f64 nearest to the shortest decimal form of `value`.
pub(super) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn keeps_what_the_published_code_keeps() {
        let bytes = include_bytes!("../../tests/golden/topk_expected.safetensors");
        let file = SafeTensors::deserialize(bytes).unwrap();
        let logits: Vec<f32> = file
            .tensor("logits")
            .unwrap()
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        for (alpha, name) in [(0.5, "kept_alpha0.5"), (0.9, "kept_alpha0.9")] {
            let mut ours = Vec::new();
            for row in logits.chunks_exact(32) {
                let mut row = row.to_vec();
                keep_largest(&mut row, keep_count(32, alpha));
                ours.extend(row.iter().map(|value| u8::from(value.is_finite())));
            }
            assert_eq!(ours, file.tensor(name).unwrap().data(), "{name}");
        }
    }

    #[test]
    fn counts_follow_the_decimal_that_was_written() {
        assert_eq!(keep_count(1024, 0.5), 512);
        assert_eq!(keep_count(1024, 0.9), 103);
        assert_eq!(keep_count(1024, 0.0), 1024);
        assert_eq!(keep_count(10, 0.9), 1);
        assert_eq!(keep_count(1024, 0.999_999), 1);
    }

    #[test]
    fn equal_logits_keep_exactly_the_count_asked_for() {
        let mut row = [1.0, 2.0, 1.0, 1.0, 0.0, 1.0];
        keep_largest(&mut row, 3);
        let kept: Vec<usize> = (0..6).filter(|&i| row[i].is_finite()).collect();
        assert_eq!(kept, [0, 1, 2]);
    }
}
