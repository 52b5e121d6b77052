//! Pictures to grids and back.

use candle_core::{DType, Tensor};

use crate::bundle::Component;
use crate::image::{Picture, prepare};

use super::{Model, ModelError};

impl Model {
    /// Decodes complete grids into pictures of `image_size` x `image_size`.
    ///
    /// # Errors
    /// A grid has another size or an undecided position; the model has no VQ-GAN; the computation failed or gave a
    /// number that is not finite.
    pub fn decode(&self, grids: &[&[u32]]) -> Result<Vec<Picture>, ModelError> {
        let vqgan = self.vqgan()?;
        if grids.is_empty() {
            return Ok(Vec::new());
        }
        for ids in grids {
            self.check_grid(ids, self.info.mask_token_id)?;
        }
        let ids: Vec<u32> = grids.concat();
        let shape = (grids.len(), self.info.grid_height, self.info.grid_width);
        let ids = Tensor::from_vec(ids, shape, &self.device)?;
        // Colour models are of gray films: the mean of their channels is the film.
        let gray = vqgan.decode(&ids)?.to_dtype(DType::F32)?.mean(1)?;
        let rows = gray.flatten_from(1)?.to_vec2::<f32>()?;
        rows.into_iter().enumerate().map(|(row, values)| self.to_picture(row, values)).collect()
    }

    /// Encodes pictures into grids. Pictures of another size are prepared first (see [`prepare`]).
    ///
    /// Prepared pictures are rounded to 8 bits, as the trainer keeps its films: the grid of a film is the one that the
    /// transformer was trained on, and a film of 16 bits has the grid of its 8-bit copy.
    ///
    /// # Errors
    /// The model has no VQ-GAN, or the computation failed.
    pub fn encode(&self, pictures: &[&Picture]) -> Result<Vec<Vec<u32>>, ModelError> {
        let vqgan = self.vqgan()?;
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let side = self.info.image_size;
        let mut values = Vec::with_capacity(pictures.len() * side * side);
        for picture in pictures {
            values.extend(prepare(picture, side)?.to_u8().into_iter().map(|value| f32::from(value) / 127.5 - 1.0));
        }
        let gray = Tensor::from_vec(values, (pictures.len(), 1, side, side), &self.device)?;
        let channels = vqgan.config().in_channels;
        let images = gray.repeat((1, channels, 1, 1))?.to_dtype(self.dtype)?;
        Ok(vqgan.encode(&images)?.to_dtype(DType::U32)?.flatten_from(1)?.to_vec2()?)
    }

    /// Values in [-1, 1] to a picture in [0, 1].
    fn to_picture(&self, row: usize, values: Vec<f32>) -> Result<Picture, ModelError> {
        if values.iter().any(|value| !value.is_finite()) {
            return Err(ModelError::NotFinite { component: Component::VqGan, row });
        }
        let pixels = values.into_iter().map(|value| ((value + 1.0) / 2.0).clamp(0.0, 1.0)).collect();
        Ok(Picture::new(self.info.image_size, self.info.image_size, pixels)?)
    }
}
