//! The Fréchet distance against the published code's (numpy and scipy) on stored features.

use raygen_eval::distribution::frechet_distance;
use raygen_eval::{Extractor, Features};
use safetensors::SafeTensors;

const GOLDEN: &[u8] = include_bytes!("golden/metrics_expected.safetensors");
const WIDTH: usize = 48;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn numbers(golden: &SafeTensors<'_>, name: &str) -> Result<Vec<f64>, safetensors::SafeTensorError> {
    let bytes = golden.tensor(name)?;
    let number = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    Ok(bytes.data().chunks_exact(8).map(number).collect())
}

fn features(golden: &SafeTensors<'_>, name: &str) -> Result<Features, Box<dyn std::error::Error>> {
    let extractor = Extractor { name: "golden".to_owned(), preprocessing: "none".to_owned() };
    let values = numbers(golden, name)?.into_iter().map(|value| value as f32).collect();
    Ok(Features::new(extractor, WIDTH, values)?)
}

#[test]
fn the_frechet_distance_equals_the_published_one_also_with_few_samples() -> TestResult {
    let golden = SafeTensors::deserialize(GOLDEN)?;
    let (first, second) = (features(&golden, "features_1")?, features(&golden, "features_2")?);
    let small = features(&golden, "features_small")?;
    assert_eq!((first.count(), second.count(), small.count()), (400, 300, 20));
    let expected = numbers(&golden, "fid")?[0];
    let got = frechet_distance(&first, &second)?;
    assert!((got.distance / expected - 1.0).abs() < 1e-6, "{} {expected}", got.distance);
    assert_eq!(got.bias(), None);
    let expected = numbers(&golden, "fid_small")?[0];
    let got = frechet_distance(&first, &small)?;
    assert!((got.distance / expected - 1.0).abs() < 1e-6, "{} {expected}", got.distance);
    assert!(got.bias().is_some_and(|bias| bias.contains("20 samples for 48 dimensions")));
    Ok(())
}
