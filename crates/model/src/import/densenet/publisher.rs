//! Who published a classifier: that decides what its tensors do not tell.

use std::path::Path;

use super::releases;
use crate::densenet::{Fit, PixelScale};

/// The publishers whose files are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publisher {
    /// Trained on ImageNet, or by a user with torchvision's network.
    Torchvision,
    /// arnoweng's reimplementation, trained on NIH's films.
    CheXNet,
    /// The classifier of RayGen's evaluation.
    RayGen,
    /// Classifiers of films from several collections.
    TorchXRayVision,
}

impl Publisher {
    /// The publisher of a network with these outputs; `is_wrapped` where the network was an attribute `densenet121`.
    pub(super) fn of(in_channels: usize, classes: usize, is_wrapped: bool) -> Self {
        if in_channels == 1 {
            Self::TorchXRayVision
        } else if !is_wrapped {
            Self::Torchvision
        } else if classes == Self::RayGen.class_names().len() {
            Self::RayGen
        } else {
            Self::CheXNet
        }
    }

    fn class_names(self) -> &'static [&'static str] {
        match self {
            Self::Torchvision => &[],
            Self::CheXNet => &[
                "Atelectasis",
                "Cardiomegaly",
                "Effusion",
                "Infiltration",
                "Mass",
                "Nodule",
                "Pneumonia",
                "Pneumothorax",
                "Consolidation",
                "Edema",
                "Emphysema",
                "Fibrosis",
                "Pleural_Thickening",
                "Hernia",
            ],
            Self::RayGen => &[
                "Atelectasis",
                "Cardiomegaly",
                "Consolidation",
                "Edema",
                "Fracture",
                "Lung Lesion",
                "Lung Opacity",
                "Pleural Effusion",
                "Pneumonia",
                "Pneumothorax",
            ],
            Self::TorchXRayVision => &[
                "Atelectasis",
                "Consolidation",
                "Infiltration",
                "Pneumothorax",
                "Edema",
                "Emphysema",
                "Fibrosis",
                "Effusion",
                "Pneumonia",
                "Pleural_Thickening",
                "Cardiomegaly",
                "Nodule",
                "Mass",
                "Hernia",
                "Lung Lesion",
                "Fracture",
                "Lung Opacity",
                "Enlarged Cardiomediastinum",
            ],
        }
    }

    /// Names for this many outputs: the publisher's own where their number is right, and none for an output that has
    /// no operating point where others have one.
    pub(super) fn classes(self, count: usize, points: Option<&[Option<f32>]>) -> Vec<String> {
        let names = self.class_names();
        let is_trained = |index: usize| points.is_none_or(|points| matches!(points.get(index), Some(Some(_))));
        (0..count)
            .map(|index| match names.get(index) {
                _ if !is_trained(index) => String::new(),
                Some(name) if names.len() == count => (*name).to_owned(),
                _ => format!("class_{index}"),
            })
            .collect()
    }

    /// The operating points that the publisher keeps apart from its files.
    pub(super) fn operating_points(self, path: &Path, classes: usize) -> Option<Vec<Option<f32>>> {
        if self != Self::TorchXRayVision {
            return None;
        }
        releases::operating_points(path).filter(|points| points.len() == classes)
    }

    pub(super) fn image_size(self) -> usize {
        if self == Self::RayGen { 512 } else { 224 }
    }

    pub(super) fn fit(self) -> Fit {
        if self == Self::RayGen { Fit::Stretch } else { Fit::CentreCrop }
    }

    pub(super) fn scale(self) -> PixelScale {
        match self {
            Self::Torchvision | Self::CheXNet => PixelScale::ImageNet,
            Self::RayGen => PixelScale::Unit,
            Self::TorchXRayVision => PixelScale::TorchXRayVision,
        }
    }
}
