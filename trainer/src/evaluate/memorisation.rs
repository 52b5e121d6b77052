//! Whether generated pictures are training films: nearest ones in pixels, tokens and features, judged by films that no model saw.

use anyhow::Result;
use raygen_eval::memorisation::{
    Criteria, FeatureDistance, Nearest, Thumbnails, Verdict, judge, nearest_features, nearest_pixels, nearest_tokens,
};
use raygen_eval::{Features, Measurement, Metric};
use serde::Serialize;

use super::pictures::PictureSet;

/// Films as one space sees them.
pub(super) enum Space<'a> {
    Pixels { generated: &'a Thumbnails, held_out: &'a Thumbnails, training: &'a Thumbnails },
    Tokens { generated: &'a [u32], held_out: &'a [u32], training: &'a [u32], positions: usize },
    Features { generated: &'a Features, held_out: &'a Features, training: &'a Features },
}

/// The sets that are held against each other.
pub(super) struct Sets<'a> {
    pub(super) generated: &'a PictureSet,
    pub(super) held_out: &'a PictureSet,
    pub(super) training: &'a PictureSet,
}

/// What was found in one space.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Found {
    pub(super) space: &'static str,
    pub(super) verdict: &'static str,
    pub(super) copies: usize,
    pub(super) near_share: f64,
    pub(super) expected_share: f64,
    pub(super) p_value: f64,
    pub(super) suspects: Vec<SuspectPair>,
    #[serde(skip)]
    pub(super) measurement: Option<Measurement>,
}

/// A generated picture beside the training film that it is nearest to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SuspectPair {
    pub(super) picture: String,
    pub(super) film: String,
    pub(super) distance: f64,
    /// Share of the held-out films that are as near to theirs.
    pub(super) real_share: f64,
    pub(super) copy: bool,
    #[serde(skip)]
    pub(super) places: (usize, usize),
}

impl Space<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Pixels { .. } => "pixels",
            Self::Tokens { .. } => "tokens",
            Self::Features { .. } => "features",
        }
    }

    /// The nearest training films of generated pictures, and of held-out films those of other patients.
    fn nearest(&self, sets: &Sets<'_>) -> Result<(Vec<Nearest>, Vec<Nearest>)> {
        let any = |_: usize, _: usize| true;
        let others = |held_out: usize, training: usize| {
            sets.held_out.items[held_out].group != sets.training.items[training].group
        };
        Ok(match self {
            Self::Pixels { generated, held_out, training } => {
                (nearest_pixels(generated, training, any)?, nearest_pixels(held_out, training, others)?)
            }
            Self::Tokens { generated, held_out, training, positions } => (
                nearest_tokens(generated, training, *positions, any)?,
                nearest_tokens(held_out, training, *positions, others)?,
            ),
            Self::Features { generated, held_out, training } => (
                nearest_features(generated, training, FeatureDistance::Cosine, any)?,
                nearest_features(held_out, training, FeatureDistance::Cosine, others)?,
            ),
        })
    }

    /// Judges the generated pictures in this space.
    pub(super) fn judge(&self, sets: &Sets<'_>) -> Result<Found> {
        let (generated, held_out) = self.nearest(sets)?;
        let found = judge(&generated, &held_out, &Criteria::default())?;
        // The test is of independent pictures: those of one prompt are not, so that one of each counts.
        let firsts = sets.generated.prompts();
        let firsts: Vec<Nearest> = firsts.iter().filter_map(|places| Some(generated[*places.first()?])).collect();
        let tested = judge(&firsts, &held_out, &Criteria::default())?;
        let protocol = format!(
            "share of the pictures nearer to a training film than {:.0} % of {} held-out films are to theirs; {}",
            100.0 * found.expected_share,
            found.held_out,
            self.name()
        );
        let measurement = Measurement::new(
            Metric::NearTraining(self.name().to_owned()),
            found.near_share,
            protocol,
            found.generated as u64,
        );
        Ok(Found {
            space: self.name(),
            verdict: words(found.copies, tested.verdict),
            copies: found.copies,
            near_share: found.near_share,
            expected_share: found.expected_share,
            p_value: tested.p_value,
            suspects: found
                .suspects
                .iter()
                .map(|suspect| SuspectPair {
                    picture: sets.generated.items[suspect.generated].id.clone(),
                    film: sets.training.items[suspect.training].id.clone(),
                    distance: suspect.distance,
                    real_share: suspect.real_share,
                    copy: suspect.copy,
                    places: (suspect.generated, suspect.training),
                })
                .collect(),
            measurement: Some(measurement),
        })
    }
}

fn words(copies: usize, tested: Verdict) -> &'static str {
    match tested {
        // Not "copies": blurred pictures are near to all films, and only an eye tells one from the other.
        _ if copies > 0 => "pictures far nearer to a training film than any fresh film is: look at their sheet",
        Verdict::Copies | Verdict::NearerThanReal => "nearer to training films than fresh films are, beyond chance",
        Verdict::NotFound => "no sign of memorisation found",
    }
}
