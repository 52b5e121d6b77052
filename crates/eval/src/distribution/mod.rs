//! Distances between two sets of pictures, by their features or by what a classifier says of them.
//!
//! All of them but [`kernel_distance`] depend on the number of samples: numbers compare only at equal numbers. What a
//! generator adds can be read only next to real pictures against real pictures: [`real_halves`] makes those.

mod frechet;
mod halves;
mod inception;
mod kernel;
mod neighbours;

pub use self::frechet::{Frechet, frechet_distance, frechet_interval};
pub use self::halves::real_halves;
pub use self::inception::{InceptionScore, LabelKind, ProbabilityError, inception_score};
pub use self::kernel::{KernelDistance, excess_kernel_distance, kernel_distance};
pub use self::neighbours::{DEFAULT_NEIGHBOURS, NeighbourShares, Share, neighbour_shares};
