//! DenseNet classifiers: CheXNet's checkpoint, torchvision's and torchxrayvision's state dicts, torchxrayvision's pickled
//! modules, RayGen's own classifier.

mod publisher;
mod releases;

use std::{cell::Cell, collections::BTreeSet, path::Path};

use candle_core::{DType, Device};
use candle_nn::VarBuilder;

use self::publisher::Publisher;
use super::{
    Tensors,
    architecture::{self, Architecture},
    checkpoint::Checkpoint,
    error::ImportError,
    expected::take,
};
use crate::densenet::{DenseNet, DenseNetConfig, Fit, Head, PixelScale};

/// torchxrayvision's buffer of thresholds.
const OPERATING_POINTS: &str = "op_threshs";

/// What no tensor of the file tells. What is none is as its publisher has it, as far as the names and sizes of the
/// tensors show who that was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DenseNetOptions {
    /// What each output stands for; an empty name for one that was never trained. By default the publisher's list
    /// where it is as long as the outputs, else `class_0` on; one without an operating point among those that have one
    /// was not trained.
    pub classes: Option<Vec<String>>,
    /// How outputs become probabilities; by default one of all for the 1000 classes of ImageNet, else each by itself.
    pub head: Option<Head>,
    /// Side of the images that it was trained on; 224 but for RayGen's own, which has 512.
    pub image_size: Option<usize>,
    /// How a film becomes a square.
    pub fit: Option<Fit>,
    /// How a pixel becomes a number.
    pub scale: Option<PixelScale>,
    /// The probability from which on each class is called present; by default what the file holds as `op_threshs`, or
    /// what torchxrayvision keeps for a file of this name.
    pub operating_points: Option<Vec<Option<f32>>>,
}

/// A classifier as it was in a file.
#[derive(Debug, Clone)]
pub struct ImportedDenseNet {
    /// The sizes that the tensors tell, and the rest by [`DenseNetOptions`].
    pub config: DenseNetConfig,
    /// The network's tensors.
    pub tensors: Tensors,
    /// Names in the file that were not needed: counters of batches, above all.
    pub passed_over: Vec<String>,
}

/// Reads a classifier.
///
/// # Errors
/// A file that is no checkpoint, or holds another network; missing, extra, misshapen or non-finite tensors; a negative
/// variance; options that disagree with the tensors.
pub fn densenet(path: &Path, options: &DenseNetOptions) -> Result<ImportedDenseNet, ImportError> {
    let is_wrapped = Cell::new(false);
    let checkpoint = Checkpoint::open(path, |name| {
        let inner = without_wrappers(name);
        // The attribute of CheXNet's module; a data-parallel torchvision has other wrappers.
        is_wrapped.set(is_wrapped.get() || inner.len() < name.len() && name.contains("densenet"));
        our_name(inner)
    })?;
    architecture::check(&checkpoint, Architecture::DenseNet121)?;
    let sizes = Sizes::of(&checkpoint)?;
    let publisher = Publisher::of(sizes.in_channels, sizes.classes, is_wrapped.get());
    let points_in_file = operating_points(&checkpoint, sizes.classes)?;
    let takes_points = points_in_file.is_some() && options.operating_points.is_none();
    let known_points = points_in_file.or_else(|| publisher.operating_points(path, sizes.classes));
    let default_classes = || publisher.classes(sizes.classes, known_points.as_deref());
    let config = DenseNetConfig {
        classes: options.classes.clone().unwrap_or_else(default_classes),
        operating_points: options.operating_points.clone().or(known_points),
        head: options.head.unwrap_or(if sizes.classes == 1000 { Head::Softmax } else { Head::Sigmoid }),
        image_size: options.image_size.unwrap_or_else(|| publisher.image_size()),
        fit: options.fit.unwrap_or_else(|| publisher.fit()),
        scale: options.scale.unwrap_or_else(|| publisher.scale()),
        growth_rate: sizes.growth_rate,
        block_layers: sizes.block_layers,
        initial_features: sizes.initial_features,
        bottleneck: sizes.bottleneck,
        in_channels: sizes.in_channels,
    };
    if config.classes.len() != sizes.classes {
        let problem = format!("names {}, but the weights have {} outputs", config.classes.len(), sizes.classes);
        return Err(ImportError::field(path, "classes", problem));
    }
    config.validate().map_err(|source| ImportError::config(path, source))?;
    let tensors = take(&checkpoint, |vb| DenseNet::new(&config, vb))?;
    let mut passed_over = checkpoint.passed_over(&tensors);
    passed_over.retain(|name| !(takes_points && without_wrappers(name) == OPERATING_POINTS));
    if let Some(name) = passed_over.iter().find(|name| is_of_the_network(name)) {
        let problem = "a DenseNet of these blocks has no such tensor".to_owned();
        return Err(ImportError::Unexpected { path: path.to_owned(), tensor: name.clone(), problem });
    }
    // What only the values tell, such as a negative variance, is told by the network itself.
    let weights = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    DenseNet::new(&config, VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu))
        .map_err(|error| ImportError::unreadable(path, error.to_string()))?;
    Ok(ImportedDenseNet { config, tensors, passed_over })
}

/// The name inside of data-parallel training, a trainer's module and the attribute that holds the network.
fn without_wrappers(name: &str) -> &str {
    const WRAPPERS: [&str; 6] = ["module.", "model.", "densenet121.", "densenet161.", "densenet169.", "densenet201."];
    match WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        Some(inner) => without_wrappers(inner),
        None => name,
    }
}

/// torchvision's name of today. Before 0.3 it had a dot in `norm.1`; a head inside a sequence has the number 0.
fn our_name(name: &str) -> Option<String> {
    if name.ends_with(".num_batches_tracked") {
        return None;
    }
    let name = match name.strip_prefix("classifier.0.") {
        Some(part) => format!("classifier.{part}"),
        None => name.to_owned(),
    };
    let dotted = [(".norm.1.", ".norm1."), (".norm.2.", ".norm2."), (".conv.1.", ".conv1."), (".conv.2.", ".conv2.")];
    Some(dotted.into_iter().fold(name, |name, (old, new)| name.replace(old, new)))
}

/// Whether a film would pass through this tensor: to leave one out is to compute something else.
fn is_of_the_network(name: &str) -> bool {
    let name = without_wrappers(name);
    !name.ends_with(".num_batches_tracked") && (name.starts_with("features.") || name.starts_with("classifier."))
}

/// What the tensors' shapes tell.
struct Sizes {
    in_channels: usize,
    initial_features: usize,
    growth_rate: usize,
    bottleneck: usize,
    block_layers: Vec<usize>,
    classes: usize,
}

impl Sizes {
    fn of(checkpoint: &Checkpoint) -> Result<Self, ImportError> {
        let (initial_features, in_channels) = outputs_and_inputs(checkpoint, "features.conv0.weight", 4)?;
        let first_layer = "features.denseblock1.denselayer1";
        let (inner, _) = outputs_and_inputs(checkpoint, &format!("{first_layer}.conv1.weight"), 4)?;
        let (growth_rate, _) = outputs_and_inputs(checkpoint, &format!("{first_layer}.conv2.weight"), 4)?;
        let (classes, _) = outputs_and_inputs(checkpoint, "classifier.weight", 2)?;
        if growth_rate == 0 || !inner.is_multiple_of(growth_rate) {
            let problem = format!("has {inner} outputs; expected a multiple of the {growth_rate} of conv2");
            return Err(ImportError::tensor(checkpoint.path(), &format!("{first_layer}.conv1.weight"), problem));
        }
        let block_layers = count_layers(checkpoint)?;
        Ok(Self { in_channels, initial_features, growth_rate, bottleneck: inner / growth_rate, block_layers, classes })
    }
}

/// The first two dimensions of a tensor of this rank.
fn outputs_and_inputs(checkpoint: &Checkpoint, name: &str, rank: usize) -> Result<(usize, usize), ImportError> {
    let shape = checkpoint.shape(name).ok_or_else(|| checkpoint.missing(name, &[]))?;
    match shape[..] {
        [outputs, inputs, ..] if shape.len() == rank => Ok((outputs, inputs)),
        _ => {
            let problem = format!("has shape {shape:?}; expected {rank} dimensions");
            Err(ImportError::tensor(checkpoint.path(), name, problem))
        }
    }
}

/// Layers of every block, as far as any tensor names one.
fn count_layers(checkpoint: &Checkpoint) -> Result<Vec<usize>, ImportError> {
    /// More than any DenseNet has.
    const MOST: usize = 1024;
    let mut layers = BTreeSet::new();
    for name in checkpoint.names() {
        let numbers = || {
            let (block, rest) = name.strip_prefix("features.denseblock")?.split_once(".denselayer")?;
            Some((block.parse::<usize>().ok()?, rest.split('.').next()?.parse::<usize>().ok()?))
        };
        let Some((block, layer)) = numbers() else { continue };
        if !(1..=MOST).contains(&block) || !(1..=MOST).contains(&layer) {
            let problem = format!("numbers a block or layer that is not between 1 and {MOST}");
            return Err(ImportError::tensor(checkpoint.path(), name, problem));
        }
        layers.insert((block, layer));
    }
    let blocks = layers.last().map_or(0, |(block, _)| *block);
    (1..=blocks)
        .map(|block| {
            let count = layers.range((block, 1)..=(block, MOST)).next_back().map_or(1, |(_, layer)| *layer);
            // A gap would show as a wrong shape of whatever comes behind it.
            match (1..=count).find(|layer| !layers.contains(&(block, *layer))) {
                Some(gap) => {
                    let name = format!("features.denseblock{block}.denselayer{gap}.norm1.weight");
                    Err(checkpoint.missing(&name, &[]))
                }
                None => Ok(count),
            }
        })
        .collect()
}

/// torchxrayvision's thresholds, where the file holds any. NaN is an output that was never trained.
fn operating_points(checkpoint: &Checkpoint, classes: usize) -> Result<Option<Vec<Option<f32>>>, ImportError> {
    if checkpoint.shape(OPERATING_POINTS).is_none() {
        return Ok(None);
    }
    let failed =
        |error: candle_core::Error| ImportError::tensor(checkpoint.path(), OPERATING_POINTS, error.to_string());
    let points = checkpoint.tensor_of_any_values(OPERATING_POINTS, &[classes])?;
    let points = points.to_dtype(DType::F32).and_then(|points| points.to_vec1::<f32>()).map_err(failed)?;
    let points: Vec<Option<f32>> = points.into_iter().map(|point| (!point.is_nan()).then_some(point)).collect();
    // A network of which no output was trained is none: nobody measured its thresholds.
    Ok(points.iter().any(Option::is_some).then_some(points))
}
