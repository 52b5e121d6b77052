//! Cheap previews: a picture put together from what each id looks like on average, without a decoder pass.

use std::sync::{Arc, PoisonError};

use crate::image::Picture;
use crate::random::{Purpose, Randomness, shuffle};

use super::{Model, ModelError};

/// How often each id is seen at least, among different neighbours.
const ROUNDS: usize = 4;
/// Gray of an undecided position.
const UNDECIDED: f32 = 0.5;

/// The mean patches of a model, as far as they are known.
#[derive(Default)]
pub(super) enum Patches {
    /// Nobody asked yet.
    #[default]
    Unknown,
    /// Some decodes are done.
    Measuring(Measuring),
    /// The mean patch of every id.
    Known(Arc<MeanPatches>),
    /// A decode failed; it would fail again.
    Failed(String),
}

/// Patches summed up so far.
pub(super) struct Measuring {
    side: usize,
    round: usize,
    /// The ids in this round's order, and how many of them were decoded.
    order: Vec<u32>,
    done: usize,
    /// [ids, side, side]
    sums: Vec<f32>,
    counts: Vec<u32>,
}

/// The mean patch of every id, `side` x `side` pixels each.
pub(super) struct MeanPatches {
    side: usize,
    /// [ids, side, side]
    values: Vec<f32>,
}

impl Model {
    /// A rough picture of a grid that may have undecided positions, which are mid-gray; `None` while the patches are being
    /// measured.
    ///
    /// The first calls measure, one decode each: every id is decoded at random places of grids full of random other ids,
    /// so that a few decodes show all of them, and its patches are averaged. A decoder blends neighbours, so the picture
    /// has the right brightness and blurred blocks for structure. Later calls cost no network at all.
    ///
    /// # Errors
    /// The grid has another size or an id above the mask id; the model has no VQ-GAN; a decode failed, now or earlier: it
    /// is not tried again.
    pub fn approximate(&self, ids: &[u32]) -> Result<Option<Picture>, ModelError> {
        self.check_grid(ids, self.info.mask_token_id + 1)?;
        self.vqgan()?;
        match self.mean_patches()? {
            Some(patches) => self.put_together(ids, &patches).map(Some),
            None => Ok(None),
        }
    }

    fn put_together(&self, ids: &[u32], patches: &MeanPatches) -> Result<Picture, ModelError> {
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

    /// The patches where they are known; otherwise one decode towards them.
    fn mean_patches(&self) -> Result<Option<Arc<MeanPatches>>, ModelError> {
        // Whoever panicked while measuring left `Unknown` behind: it starts over.
        let mut patches = self.patches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut measuring = match std::mem::take(&mut *patches) {
            Patches::Unknown => Measuring::new(self),
            Patches::Measuring(measuring) => measuring,
            Patches::Known(known) => {
                *patches = Patches::Known(Arc::clone(&known));
                return Ok(Some(known));
            }
            Patches::Failed(why) => {
                *patches = Patches::Failed(why.clone());
                return Err(ModelError::NoPatches(why));
            }
        };
        if let Err(error) = measuring.decode_one(self) {
            *patches = Patches::Failed(error.to_string());
            return Err(error);
        }
        if measuring.round < ROUNDS {
            *patches = Patches::Measuring(measuring);
            return Ok(None);
        }
        let known = Arc::new(measuring.mean());
        *patches = Patches::Known(Arc::clone(&known));
        Ok(Some(known))
    }
}

impl Measuring {
    fn new(model: &Model) -> Self {
        let side = model.info.image_size / model.info.grid_width;
        let codebook = model.info.codebook_size;
        Self {
            side,
            round: 0,
            order: order(codebook, 0),
            done: 0,
            sums: vec![0.0; codebook * side * side],
            counts: vec![0; codebook],
        }
    }

    /// Decodes the next grid. One at a time: memory stays that of a single decode, and nobody waits for more.
    fn decode_one(&mut self, model: &Model) -> Result<(), ModelError> {
        let (side, width, size) = (self.side, model.info.grid_width, model.info.image_size);
        // The last grid of a round starts over to be full.
        let ids: Vec<u32> = self.order.iter().copied().cycle().skip(self.done).take(model.info.positions()).collect();
        for picture in model.decode(&[&ids])? {
            for (position, &id) in ids.iter().enumerate() {
                let corner = (position / width) * side * size + (position % width) * side;
                let sum = &mut self.sums[id as usize * side * side..(id as usize + 1) * side * side];
                for (row, sums) in sum.chunks_exact_mut(side).enumerate() {
                    let pixels = &picture.pixels[corner + row * size..corner + row * size + side];
                    sums.iter_mut().zip(pixels).for_each(|(sum, pixel)| *sum += pixel);
                }
                self.counts[id as usize] += 1;
            }
        }
        self.done += ids.len();
        if self.done >= self.order.len() {
            self.round += 1;
            self.done = 0;
            self.order = order(self.order.len(), self.round);
        }
        Ok(())
    }

    fn mean(mut self) -> MeanPatches {
        for (patch, &count) in self.sums.chunks_exact_mut(self.side * self.side).zip(&self.counts) {
            patch.iter_mut().for_each(|value| *value /= count.max(1) as f32);
        }
        MeanPatches { side: self.side, values: self.sums }
    }
}

/// All ids, in the order of a round.
fn order(codebook: usize, round: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..codebook as u32).collect();
    shuffle(&mut Randomness::new(0, Purpose::MeanPatch).stream(round as u64, 0), &mut order);
    order
}
