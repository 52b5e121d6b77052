//! What LPIPS compares pictures by: torchvision's VGG-16, the `lpips` package's weights, or the copy in a VQ-GAN's `.ckpt`.

use std::path::Path;

use super::{Tensors, checkpoint::Checkpoint, error::ImportError};
use crate::lpips::SLICES;

/// Where a wrapper's own names end: the package's attribute of the network.
const PACKAGE: &str = "net.slice";

/// Reads the convolutions of a VGG-16 and, where a file has them, LPIPS's weights of the channels: `features.N.{weight,bias}`
/// and `linK.weight`, as [`Lpips`](crate::lpips::Lpips) wants them.
///
/// `features` may be torchvision's state dict, that of the `lpips` package, or a taming-transformers `.ckpt`, whose loss
/// holds both; `linear` is the file of the weights alone, as the `lpips` package and taming-transformers ship it.
///
/// # Errors
/// A file that is no checkpoint or lacks the convolutions; misshapen or non-finite tensors.
pub fn lpips(features: &Path, linear: Option<&Path>) -> Result<Tensors, ImportError> {
    let checkpoint = Checkpoint::open(features, our_name)?;
    let mut tensors = Tensors::new();
    for number in SLICES.into_iter().flatten() {
        for part in ["weight", "bias"] {
            let name = format!("features.{number}.{part}");
            let shape = checkpoint.shape(&name).ok_or_else(|| checkpoint.missing(&name, &[]))?;
            let tensor = checkpoint.tensor(&name, &shape)?;
            tensors.insert(name, tensor);
        }
    }
    match linear {
        None => take_linear(&checkpoint, &mut tensors, false)?,
        Some(path) => take_linear(&Checkpoint::open(path, our_name)?, &mut tensors, true)?,
    }
    Ok(tensors)
}

/// The weights of all five slices, or of none where they are not required.
fn take_linear(checkpoint: &Checkpoint, tensors: &mut Tensors, required: bool) -> Result<(), ImportError> {
    let names: Vec<String> = (0..SLICES.len()).map(|slice| format!("lin{slice}.weight")).collect();
    if !required && names.iter().all(|name| checkpoint.shape(name).is_none()) {
        return Ok(());
    }
    for name in names {
        let shape = checkpoint.shape(&name).ok_or_else(|| checkpoint.missing(&name, &[]))?;
        let tensor = checkpoint.tensor(&name, &shape)?;
        tensors.insert(name, tensor);
    }
    Ok(())
}

/// `loss.perceptual_loss.net.slice2.5.weight` is `features.5.weight`; `loss.perceptual_loss.lin1.model.1.weight` is
/// `lin1.weight`. A copy of the weights in a list (`lins.1.…`) is passed over.
fn our_name(name: &str) -> Option<String> {
    if let Some((_, rest)) = name.split_once(PACKAGE) {
        let (_, layer) = rest.split_once('.')?;
        return Some(format!("features.{layer}"));
    }
    if let Some((before, layer)) = name.split_once(".model.1.") {
        let slice = before.rsplit('.').next()?;
        return slice.strip_prefix("lin")?.parse::<usize>().ok().map(|slice| format!("lin{slice}.{layer}"));
    }
    name.starts_with("features.").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::our_name;

    #[test]
    fn the_names_of_all_publishers_become_ours() {
        for (theirs, ours) in [
            ("features.28.bias", Some("features.28.bias")),
            ("net.slice5.28.bias", Some("features.28.bias")),
            ("loss.perceptual_loss.net.slice1.0.weight", Some("features.0.weight")),
            ("lin0.model.1.weight", Some("lin0.weight")),
            ("loss.perceptual_loss.lin4.model.1.weight", Some("lin4.weight")),
            ("lins.0.model.1.weight", None),
            ("classifier.0.weight", None),
            ("loss.discriminator.main.0.weight", None),
        ] {
            assert_eq!(our_name(theirs).as_deref(), ours, "{theirs}");
        }
    }
}
