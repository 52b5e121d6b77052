//! Cheap previews: a picture put together from what each id looks like on average, without a decoder pass.

use crate::image::Picture;
use crate::random::{Purpose, Randomness, shuffle};

use super::{Model, ModelError};

/// How often each id is seen at least, among different neighbours.
const ROUNDS: usize = 4;
/// Gray of an undecided position.
const UNDECIDED: f32 = 0.5;

/// The mean patch of every id, `side` x `side` pixels each.
pub(super) struct MeanPatches {
    side: usize,
    /// [ids, side, side]
    values: Vec<f32>,
}

impl Model {
    /// A rough picture of a grid that may have undecided positions, which are mid-gray.
    ///
    /// The first call measures the patches: every id is decoded at random places of grids full of random other ids, so
    /// that a few decodes show all of them, and its patches are averaged. A decoder blends neighbours, so the picture
    /// has the right brightness and blurred blocks for structure. Later calls cost no network at all.
    ///
    /// # Errors
    /// The grid has another size or an id above the mask id; the model has no VQ-GAN; the first decodes failed.
    pub fn approximate(&self, ids: &[u32]) -> Result<Picture, ModelError> {
        self.check_grid(ids, self.info.mask_token_id + 1)?;
        let patches = match self.patches.get() {
            Some(patches) => patches,
            None => {
                let measured = self.measure_patches()?;
                self.patches.get_or_init(|| measured)
            }
        };
        let (side, width) = (patches.side, self.info.grid_width);
        let size = self.info.image_size;
        let mut pixels = vec![UNDECIDED; size * size];
        for (position, &id) in ids.iter().enumerate().filter(|&(_, &id)| id != self.info.mask_token_id) {
            let patch = &patches.values[id as usize * side * side..(id as usize + 1) * side * side];
            let corner = (position / width) * side * size + (position % width) * side;
            for (row, values) in patch.chunks_exact(side).enumerate() {
                pixels[corner + row * size..corner + row * size + side].copy_from_slice(values);
            }
        }
        Ok(Picture::new(size, size, pixels)?)
    }

    fn measure_patches(&self) -> Result<MeanPatches, ModelError> {
        self.vqgan()?;
        let (codebook, positions) = (self.info.codebook_size, self.info.positions());
        let (size, width) = (self.info.image_size, self.info.grid_width);
        let side = size / width;
        let mut values = vec![0.0; codebook * side * side];
        let mut counts = vec![0u32; codebook];
        let randomness = Randomness::new(0, Purpose::MeanPatch);
        for round in 0..ROUNDS {
            let mut order: Vec<u32> = (0..codebook as u32).collect();
            shuffle(&mut randomness.stream(round as u64, 0), &mut order);
            // One grid at a time: memory stays that of a single decode. The last grid starts over to be full.
            for start in (0..codebook).step_by(positions) {
                let ids: Vec<u32> = order.iter().copied().cycle().skip(start).take(positions).collect();
                for picture in self.decode(&[&ids])? {
                    for (position, &id) in ids.iter().enumerate() {
                        let corner = (position / width) * side * size + (position % width) * side;
                        let sum = &mut values[id as usize * side * side..(id as usize + 1) * side * side];
                        for (row, sums) in sum.chunks_exact_mut(side).enumerate() {
                            let pixels = &picture.pixels[corner + row * size..corner + row * size + side];
                            sums.iter_mut().zip(pixels).for_each(|(sum, pixel)| *sum += pixel);
                        }
                        counts[id as usize] += 1;
                    }
                }
            }
        }
        for (patch, &count) in values.chunks_exact_mut(side * side).zip(&counts) {
            patch.iter_mut().for_each(|value| *value /= count.max(1) as f32);
        }
        Ok(MeanPatches { side, values })
    }
}
