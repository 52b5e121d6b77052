//! From a film to the numbers that a DenseNet reads.

use candle_core::Tensor;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use super::DenseNetConfig;
use crate::image::{ImageError, Picture, prepare};

/// How a film becomes a square. Either way bilinear, and antialiased where it shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Its largest centred square is resized, as torchxrayvision does. CheXNet's authors averaged ten crops; this is
    /// the middle one.
    CentreCrop,
    /// Both sides are resized and the aspect is lost, as RayGen's classifier does.
    Stretch,
}

/// How a pixel in [0, 1] becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PixelScale {
    /// As it is: RayGen's classifier.
    Unit,
    /// Less ImageNet's mean, over its deviation, of each colour: torchvision, CheXNet.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// From -1024 for black to 1024 for white: torchxrayvision.
    #[serde(rename = "torchxrayvision")]
    TorchXRayVision,
}

/// Mean and deviation of red, green and blue in ImageNet, as torchvision states them.
const IMAGENET: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

impl PixelScale {
    /// The number for a pixel of a channel.
    fn apply(self, pixel: f32, channel: usize) -> f32 {
        match self {
            Self::Unit => pixel,
            Self::ImageNet => {
                let (mean, deviation) = IMAGENET[channel % IMAGENET.len()];
                (pixel - mean) / deviation
            }
            Self::TorchXRayVision => (2.0 * pixel - 1.0) * 1024.0,
        }
    }
}

impl DenseNetConfig {
    /// Pictures [batch, 1 or `in_channels`, height, width] in [-1, 1] as the network reads them, at the size that they have.
    /// Differentiable.
    ///
    /// # Errors
    /// Pictures of other channels.
    pub fn scaled(&self, pictures: &Tensor) -> candle_core::Result<Tensor> {
        let (_, channels, _, _) = pictures.dims4()?;
        let pictures = match channels {
            1 => pictures.repeat((1, self.in_channels, 1, 1))?,
            // Gray films: the channels of a picture are alike, and those of the network may be fewer.
            _ if channels != self.in_channels => pictures.mean_keepdim(1)?.repeat((1, self.in_channels, 1, 1))?,
            _ => pictures.clone(),
        };
        // Linear in the pixel: told by its values at black and white.
        let at = |pixel: f32| -> candle_core::Result<Tensor> {
            let values: Vec<f32> = (0..self.in_channels).map(|channel| self.scale.apply(pixel, channel)).collect();
            Tensor::from_vec(values, (1, self.in_channels, 1, 1), pictures.device())
        };
        let (black, white) = (at(0.0)?, at(1.0)?);
        let unit = pictures.affine(0.5, 0.5)?;
        unit.broadcast_mul(&(white - &black)?)?.broadcast_add(&black)
    }

    /// A film as the network reads it: `in_channels * image_size * image_size` values, channel after channel, each
    /// row-major.
    ///
    /// # Errors
    /// The picture is not as large as its sides say, or holds a pixel that is not a number.
    pub fn pixels(&self, picture: &Picture) -> Result<Vec<f32>, ImageError> {
        if let Some(index) = picture.pixels.iter().position(|pixel| !pixel.is_finite()) {
            return Err(ImageError::Resize(format!("pixel {index} is not a finite number")));
        }
        let square = match self.fit {
            Fit::CentreCrop => prepare(picture, self.image_size)?,
            Fit::Stretch => stretch(picture, self.image_size)?,
        };
        let channels = 0..self.in_channels;
        Ok(channels
            .flat_map(|channel| square.pixels.iter().map(move |pixel| self.scale.apply(*pixel, channel)))
            .collect())
    }
}

/// The whole picture as a square of `side`, whatever its aspect.
fn stretch(picture: &Picture, side: usize) -> Result<Picture, ImageError> {
    if picture.width == side && picture.height == side {
        return Ok(picture.clone());
    }
    let failed = |error: &dyn std::fmt::Display| ImageError::Resize(error.to_string());
    let length = |value: usize| u32::try_from(value).map_err(|error| failed(&error));
    let pixels: Vec<F32> = picture.pixels.iter().map(|&value| F32::new(value)).collect();
    let source =
        TypedImageRef::new(length(picture.width)?, length(picture.height)?, &pixels).map_err(|error| failed(&error))?;
    let mut target = TypedImage::<F32>::new(length(side)?, length(side)?);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| failed(&error))?;
    Picture::new(side, side, target.pixels().iter().map(|pixel| pixel.0.clamp(0.0, 1.0)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::DENSENET_121;
    use super::*;

    fn config(fit: Fit, scale: PixelScale, in_channels: usize) -> DenseNetConfig {
        let published = DenseNetConfig::published(DENSENET_121, vec!["Mass".to_owned()]);
        DenseNetConfig { fit, scale, in_channels, image_size: 32, ..published }
    }

    /// Black, with a white half to the right.
    fn half_white(width: usize, height: usize) -> Picture {
        let pixels = (0..width * height).map(|index| if index % width * 2 < width { 0.0 } else { 1.0 }).collect();
        Picture::new(width, height, pixels).unwrap()
    }

    #[test]
    fn black_and_white_are_the_ends_of_each_scale() {
        let ends = |scale, channels| {
            let values = config(Fit::CentreCrop, scale, channels).pixels(&half_white(32, 32)).unwrap();
            values.chunks(32 * 32).map(|plane| (plane[0], plane[31])).collect::<Vec<_>>()
        };
        assert_eq!(ends(PixelScale::TorchXRayVision, 1), [(-1024.0, 1024.0)]);
        assert_eq!(ends(PixelScale::Unit, 3), [(0.0, 1.0); 3]);
        let [red, green, blue] = ends(PixelScale::ImageNet, 3)[..] else { panic!("three channels") };
        // The bounds of a normalised picture that torchvision's users know.
        for ((low, high), (expected_low, expected_high)) in
            [(red, (-2.1179, 2.2489)), (green, (-2.0357, 2.4286)), (blue, (-1.8044, 2.6400))]
        {
            assert!((low - expected_low).abs() < 1e-4 && (high - expected_high).abs() < 1e-4, "{low} {high}");
        }
    }

    #[test]
    fn a_wide_film_loses_its_sides_or_its_aspect() {
        // White only in the outer quarters.
        let pixels = (0..128 * 32).map(|index| if (32..96).contains(&(index % 128)) { 0.0 } else { 1.0 }).collect();
        let film = Picture::new(128, 32, pixels).unwrap();
        let mean = |fit| {
            let values = config(fit, PixelScale::Unit, 1).pixels(&film).unwrap();
            values.iter().sum::<f32>() / values.len() as f32
        };
        assert!(mean(Fit::CentreCrop) < 1e-3, "the middle square is black");
        assert!((mean(Fit::Stretch) - 0.5).abs() < 1e-3, "half of the film is white");
    }

    #[test]
    fn a_tensor_is_scaled_as_a_film_is() {
        let film = half_white(32, 32);
        for (scale, channels) in [(PixelScale::Unit, 1), (PixelScale::ImageNet, 3), (PixelScale::TorchXRayVision, 1)] {
            let config = config(Fit::CentreCrop, scale, channels);
            let expected = config.pixels(&film).unwrap();
            let tensor = Tensor::from_slice(&film.pixels, (1, 1, 32, 32), &candle_core::Device::Cpu).unwrap();
            let scaled = config.scaled(&tensor.affine(2.0, -1.0).unwrap()).unwrap();
            let found = scaled.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0)), "{scale:?}");
        }
    }

    #[test]
    fn a_pixel_that_is_no_number_is_refused() {
        let film = Picture::new(2, 1, vec![0.5, f32::NAN]).unwrap();
        let message = config(Fit::CentreCrop, PixelScale::Unit, 1).pixels(&film).unwrap_err().to_string();
        assert!(message.contains("pixel 1"), "{message}");
    }
}
