//! What is known of one sample between steps.

/// One sample on its way from undecided to complete.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleState {
    /// The grid, row-major: what the network reads at the next step. Undecided positions hold the mask id.
    pub ids: Vec<u32>,
    /// The probability in [0, 1] that each decided position's id had when it was decided; 1 for those given by the
    /// caller, 0 for undecided ones.
    pub confidence: Vec<f32>,
    /// The grid with what refinement has hidden as it was before: what a preview shows.
    latest: Vec<u32>,
    /// Steps taken.
    pub step: u32,
    mask_id: u32,
    sample_index: u32,
    width: usize,
    /// Undecided positions at the start, ascending: what the schedule runs over.
    generated: Vec<usize>,
}

impl SampleState {
    /// An empty grid of `positions`, all undecided. `mask_id` equals the codebook size; `sample_index` is the
    /// sample's place in its request and part of its randomness.
    pub fn new(positions: usize, mask_id: u32, sample_index: u32) -> Self {
        Self::from_canvas(vec![mask_id; positions], mask_id, sample_index)
    }

    /// A grid of which only the positions that hold `mask_id` are generated.
    pub fn from_canvas(ids: Vec<u32>, mask_id: u32, sample_index: u32) -> Self {
        let generated = (0..ids.len()).filter(|&position| ids[position] == mask_id).collect();
        let confidence = ids.iter().map(|&id| if id == mask_id { 0.0 } else { 1.0 }).collect();
        // Square unless told otherwise: only the Halton order asks for the shape.
        let side = ids.len().isqrt();
        let width = if side * side == ids.len() { side.max(1) } else { ids.len() };
        Self { latest: ids.clone(), ids, confidence, step: 0, mask_id, sample_index, width, generated }
    }

    /// Tells the number of columns, where the grid is not square. Ignored unless it divides the positions.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        if width > 0 && self.ids.len().is_multiple_of(width) {
            self.width = width;
        }
        self
    }

    /// The id of an undecided position, which equals the codebook size.
    pub fn mask_id(&self) -> u32 {
        self.mask_id
    }

    /// The sample's place in its request.
    pub fn sample_index(&self) -> u32 {
        self.sample_index
    }

    /// Columns of the grid.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The grid, row-major, where positions that refinement has hidden hold their former ids: what a preview shows.
    /// Positions that were never decided hold the mask id.
    pub fn latest(&self) -> &[u32] {
        &self.latest
    }

    /// How many positions were undecided at the start.
    pub fn total(&self) -> usize {
        self.generated.len()
    }

    /// The positions that were undecided at the start, ascending.
    pub(super) fn generated(&self) -> &[usize] {
        &self.generated
    }

    /// Undecided positions now, ascending.
    pub fn undecided(&self) -> Vec<usize> {
        (0..self.ids.len()).filter(|&position| self.ids[position] == self.mask_id).collect()
    }

    /// Whether every position is decided.
    pub fn is_complete(&self) -> bool {
        !self.ids.contains(&self.mask_id)
    }

    pub(super) fn decide(&mut self, position: usize, id: u32, probability: f32) {
        self.ids[position] = id;
        self.latest[position] = id;
        self.confidence[position] = probability;
    }

    pub(super) fn hide(&mut self, position: usize) {
        self.ids[position] = self.mask_id;
        self.confidence[position] = 0.0;
    }
}
