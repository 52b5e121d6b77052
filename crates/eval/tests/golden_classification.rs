//! AUROC against torchmetrics' on stored probabilities: class 3 has ties; class 9 has no positive, where torchmetrics says 0.

use raygen_eval::classification::{Predictions, Undefined, auroc, score};
use raygen_eval::statistics::{Bootstrap, Units};
use safetensors::SafeTensors;

const GOLDEN: &[u8] = include_bytes!("golden/metrics_expected.safetensors");
const CLASSES: usize = 10;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn words(golden: &SafeTensors<'_>, name: &str) -> Result<Vec<[u8; 4]>, safetensors::SafeTensorError> {
    Ok(golden.tensor(name)?.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect())
}

#[test]
fn auroc_equals_torchmetrics_with_ties_and_is_undefined_where_it_says_zero() -> TestResult {
    let golden = SafeTensors::deserialize(GOLDEN)?;
    let probabilities: Vec<f32> = words(&golden, "probabilities")?.into_iter().map(f32::from_le_bytes).collect();
    let labels: Vec<bool> = words(&golden, "labels")?.into_iter().map(|word| i32::from_le_bytes(word) == 1).collect();
    let expected: Vec<f32> = words(&golden, "auroc")?.into_iter().map(f32::from_le_bytes).collect();
    let names = (0..CLASSES).map(|class| format!("class {class}")).collect();
    let known = labels.iter().copied().map(Some).collect();
    let predictions = Predictions::new(names, probabilities, known)?;
    let scores = score(&predictions, None, &Units::items(200), &Bootstrap { resamples: 50, ..Bootstrap::default() })?;
    for (class, expected) in expected.iter().enumerate().take(9) {
        let (_, scores_of, labels_of) = predictions.of_class(class);
        let got = auroc(&scores_of, &labels_of)?.ok_or("undefined")?;
        assert!((got - f64::from(*expected)).abs() < 1e-6, "class {class}: {got}, torchmetrics {expected}");
        assert_eq!(scores.classes[class].auroc.map(|estimate| estimate.value), Ok(got));
    }
    let (_, tied, _) = predictions.of_class(3);
    let mut distinct = tied.clone();
    distinct.sort_by(f32::total_cmp);
    distinct.dedup();
    assert!(distinct.len() < tied.len(), "class 3 should have ties");
    assert_eq!((expected[9], scores.classes[9].auroc), (0.0, Err(Undefined::NoPositive)));
    assert_eq!(scores.auroc.classes.len(), 9);
    let mean: f64 = expected.iter().take(9).map(|value| f64::from(*value)).sum::<f64>() / 9.0;
    assert!(scores.auroc.estimate.is_ok_and(|estimate| (estimate.value - mean).abs() < 1e-6));
    Ok(())
}
