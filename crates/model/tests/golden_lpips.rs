//! LPIPS in every layout that people have, against what its own package computes.

mod golden_support;

use candle_core::{Device, Var};
use golden_support::{TestResult, assert_close, expected, golden, pick};
use raygen_model::import;
use raygen_model::lpips::Lpips;

const EXPECTED: &str = "lpips/expected.safetensors";

#[test]
fn a_vq_gans_checkpoint_and_separate_files_give_the_packages_distances() -> TestResult {
    let folder = golden("lpips");
    let tensors = expected(EXPECTED)?;
    let (ours, theirs) = (pick(&tensors, "ours")?, pick(&tensors, "theirs")?);
    for (what, read) in [
        ("taming.ckpt", import::lpips(&folder.join("taming.ckpt"), None)?),
        ("vgg16.pth", import::lpips(&folder.join("vgg16.pth"), Some(&folder.join("linear.pth")))?),
    ] {
        let network = Lpips::new(&read, &Device::Cpu)?;
        assert!(network.is_weighted());
        assert_close(what, &network.distance(ours, theirs)?, pick(&tensors, "distance")?, 1e-5)?;
    }
    Ok(())
}

#[test]
fn the_gradient_is_the_packages() -> TestResult {
    let tensors = expected(EXPECTED)?;
    let network = Lpips::new(&import::lpips(&golden("lpips/taming.ckpt"), None)?, &Device::Cpu)?;
    let ours = Var::from_tensor(pick(&tensors, "ours")?)?;
    let distance = network.distance(ours.as_tensor(), pick(&tensors, "theirs")?)?.sum_all()?;
    let gradients = distance.backward()?;
    let gradient = gradients.get(ours.as_tensor()).ok_or("no gradient")?;
    assert_close("gradient", gradient, pick(&tensors, "gradient")?, 1e-4)
}

#[test]
fn gray_pictures_are_colour_pictures_of_three_equal_channels_and_black_ones_have_a_gradient() -> TestResult {
    let network = Lpips::new(&import::lpips(&golden("lpips/vgg16.pth"), None)?, &Device::Cpu)?;
    assert!(!network.is_weighted());
    let tensors = expected(EXPECTED)?;
    let gray = |name: &str| -> Result<_, Box<dyn std::error::Error>> { Ok(pick(&tensors, name)?.narrow(1, 0, 1)?) };
    let (ours, theirs) = (gray("ours")?, gray("theirs")?);
    let colour = network.distance(&ours.repeat((1, 3, 1, 1))?, &theirs.repeat((1, 3, 1, 1))?)?;
    assert_close("gray", &network.distance(&ours, &theirs)?, &colour, 1e-6)?;
    // Features of nothing but zeros must not make the gradient NaN.
    let black = Var::from_tensor(&ours.affine(0.0, -1.0)?)?;
    let gradients = network.distance(black.as_tensor(), &theirs)?.sum_all()?.backward()?;
    let gradient = gradients.get(black.as_tensor()).ok_or("no gradient")?.flatten_all()?.to_vec1::<f32>()?;
    assert!(gradient.iter().all(|value| value.is_finite()));
    Ok(())
}

#[test]
fn weights_alone_are_no_network() {
    let error = import::lpips(&golden("lpips/linear.pth"), None).unwrap_err().to_string();
    assert!(error.contains("features.0.weight") && error.contains("linear.pth"), "{error}");
}
