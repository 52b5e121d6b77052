//! SSIM and MS-SSIM against torchmetrics' values on stored pairs of pictures.

use raygen_eval::{GrayImage, ms_ssim, ssim};
use safetensors::SafeTensors;

const GOLDEN: &[u8] = include_bytes!("golden/metrics_expected.safetensors");
const SIDE: usize = 256;
const TOLERANCE: f64 = 1e-4;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn pictures(golden: &SafeTensors<'_>, name: &str) -> Result<Vec<Vec<f32>>, safetensors::SafeTensorError> {
    let bytes = golden.tensor(name)?;
    Ok(bytes
        .data()
        .chunks_exact(SIDE * SIDE)
        .map(|picture| picture.iter().map(|p| f32::from(*p) / 255.0).collect())
        .collect())
}

fn expected(golden: &SafeTensors<'_>, name: &str) -> Result<Vec<f64>, safetensors::SafeTensorError> {
    let values = golden.tensor(name)?;
    Ok(values.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect())
}

#[test]
fn ssim_and_ms_ssim_equal_torchmetrics() -> TestResult {
    let golden = SafeTensors::deserialize(GOLDEN)?;
    let (first, second) = (pictures(&golden, "image_a")?, pictures(&golden, "image_b")?);
    let (ssim_expected, ms_ssim_expected) = (expected(&golden, "ssim")?, expected(&golden, "ms_ssim")?);
    assert_eq!((first.len(), second.len(), ssim_expected.len(), ms_ssim_expected.len()), (4, 4, 4, 4));
    for pair in 0..4 {
        let a = GrayImage::new(SIDE, SIDE, &first[pair])?;
        let b = GrayImage::new(SIDE, SIDE, &second[pair])?;
        let (got, want) = (ssim(&a, &b)?, ssim_expected[pair]);
        assert!((got - want).abs() < TOLERANCE, "pair {pair}: SSIM {got}, torchmetrics {want}");
        let (got, want) = (ms_ssim(&a, &b)?, ms_ssim_expected[pair]);
        assert!((got - want).abs() < TOLERANCE, "pair {pair}: MS-SSIM {got}, torchmetrics {want}");
    }
    Ok(())
}
