//! How each metric's result becomes a measurement: the protocols in words, in one place, so that two numbers have the same
//! words exactly where they may be compared.

use crate::classification::{ClassScores, Estimate, Macro, Scores, Undefined};
use crate::distribution::{Frechet, InceptionScore, KernelDistance, LabelKind, NeighbourShares, Share};
use crate::features::Extractor;
use crate::memorisation::Memorisation;
use crate::set_similarity::SetSimilarity;
use crate::statistics::{Bootstrap, Interval, StatisticsError, Units};

use super::{Measurement, Metric};

impl Frechet {
    /// As `fid`, the first set being the real one; `interval` is [`crate::distribution::frechet_interval`]'s.
    #[must_use]
    pub fn measurement(&self, extractor: &Extractor, interval: Option<Interval>) -> Measurement {
        // The number of real samples is part of the protocol: the distance depends on it as well.
        let protocol = format!("Fréchet distance, covariances over N - 1, {} real", self.samples.0);
        Measurement::new(Metric::Fid, self.distance, protocol, self.samples.1 as u64)
            .with_interval(interval)
            .with_extractor(extractor.clone())
    }
}

impl KernelDistance {
    /// As `kid`.
    #[must_use]
    pub fn measurement(&self, extractor: &Extractor) -> Measurement {
        let excess = if self.excess { ", less that of real to real" } else { "" };
        let protocol = format!("kernel distance, (x·y / d + 1)³, unbiased, all samples{excess}; jackknife interval");
        Measurement::new(Metric::Kid, self.distance, protocol, self.samples as u64)
            .with_interval(Some(self.interval))
            .with_extractor(extractor.clone())
    }
}

impl NeighbourShares {
    /// As `precision`, `recall`, `density` and `coverage`. `real` and `generated` are what the bootstrap draws again.
    ///
    /// # Errors
    /// Units of another number of samples.
    pub fn measurements(
        &self,
        extractor: &Extractor,
        real: &Units,
        generated: &Units,
        bootstrap: &Bootstrap,
    ) -> Result<[Measurement; 4], StatisticsError> {
        let (reals, generateds) = (self.recall.per_sample.len(), self.precision.per_sample.len());
        let protocol = format!("balls to the {}-th neighbour, {reals} real", self.neighbours);
        let of = |metric: Metric, share: &Share, units: &Units| -> Result<Measurement, StatisticsError> {
            Ok(Measurement::new(metric, share.value, protocol.clone(), generateds as u64)
                .with_interval(share.interval(bootstrap, units)?)
                .with_extractor(extractor.clone()))
        };
        Ok([
            of(Metric::Precision, &self.precision, generated)?,
            of(Metric::Recall, &self.recall, real)?,
            of(Metric::Density, &self.density, generated)?,
            of(Metric::Coverage, &self.coverage, real)?,
        ])
    }
}

impl InceptionScore {
    /// As `inception_score`; the extractor is the classifier.
    #[must_use]
    pub fn measurement(&self, classifier: &Extractor) -> Measurement {
        let kind = match self.kind {
            LabelKind::Exclusive => "exclusive",
            LabelKind::Independent => "independent",
        };
        let protocol = format!("Inception score over {} {kind} classes, no splits", self.classes);
        Measurement::new(Metric::InceptionScore, self.score, protocol, self.samples as u64)
            .with_interval(self.interval)
            .with_extractor(classifier.clone())
    }
}

impl SetSimilarity {
    /// As `ms_ssim`.
    #[must_use]
    pub fn measurement(&self) -> Measurement {
        Measurement::new(Metric::MsSsim, self.mean, self.protocol.clone(), self.per_prompt.len() as u64)
            .with_interval(self.interval)
    }
}

impl Scores {
    /// AUROC, average precision and F1 (where thresholds were given) of each class and on average; the extractor is the
    /// classifier. Undefined ones are there, with the reason.
    #[must_use]
    pub fn measurements(&self, classifier: &Extractor) -> Vec<Measurement> {
        let of_class = |scores: &ClassScores| {
            let count = scores.positives + scores.negatives;
            let name = &scores.class;
            [
                measured(Metric::Auroc(name.clone()), scores.auroc, "area under the ROC curve", count),
                measured(Metric::AveragePrecision(name.clone()), scores.average_precision, "average precision", count),
                measured(Metric::F1(name.clone()), scores.f1, F1, count),
            ]
        };
        let of_all = |metric, all: &Macro, protocol: &str| {
            // A mean over other classes is another number.
            let protocol = format!("{protocol}, mean over {}", all.classes.join(", "));
            measured(metric, all.estimate, &protocol, self.items)
        };
        let means = [
            of_all(Metric::auroc_macro(), &self.auroc, "area under the ROC curve"),
            of_all(Metric::average_precision_macro(), &self.average_precision, "average precision"),
            of_all(Metric::f1_macro(), &self.f1, F1),
        ];
        let all = self.classes.iter().flat_map(of_class).chain(means);
        // F1 that nobody asked for is no result.
        let asked = all.filter(|(_, undefined)| *undefined != Some(Undefined::NoThreshold));
        asked.map(|(measurement, _)| measurement.with_extractor(classifier.clone())).collect()
    }
}

const F1: &str = "F1 at a threshold chosen on other data";

fn measured(
    metric: Metric,
    estimate: Result<Estimate, Undefined>,
    protocol: &str,
    count: usize,
) -> (Measurement, Option<Undefined>) {
    match estimate {
        Ok(Estimate { value, interval }) => {
            (Measurement::new(metric, value, protocol, count as u64).with_interval(interval), None)
        }
        Err(why) => (Measurement::undefined(metric, why.to_string(), protocol, count as u64), Some(why)),
    }
}

impl Memorisation {
    /// As `near_training/{space}`: the share of generated films that are near. `space` is a word such as `pixels`.
    #[must_use]
    pub fn measurement(&self, space: &str) -> Measurement {
        let protocol = format!(
            "nearer to a training film than {:.4} of {} held-out real films",
            self.expected_share, self.held_out
        );
        let metric = Metric::NearTraining(space.to_owned());
        Measurement::new(metric, self.near_share, protocol, self.generated as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classification::{ClassificationError, Predictions, score};
    use crate::distribution::{excess_kernel_distance, frechet_distance, kernel_distance, neighbour_shares};
    use crate::features::{FeatureError, Features};
    use crate::measurement::Mismatch;

    fn features(count: usize, step: usize) -> Result<Features, FeatureError> {
        let values = (0..2 * count).map(|place| (place * step % 997) as f32 / 997.0).collect();
        Features::new(Extractor { name: "e".to_owned(), preprocessing: "p".to_owned() }, 2, values)
    }

    #[test]
    fn distances_to_other_numbers_of_films_refuse_and_kernel_distances_do_not() -> Result<(), FeatureError> {
        let (real, fewer, generated) = (features(60, 7919)?, features(50, 7919)?, features(40, 31)?);
        let of = |real: &Features| -> Result<Measurement, FeatureError> {
            Ok(frechet_distance(real, &generated)?.measurement(generated.extractor(), None))
        };
        let refused = of(&real)?.compare(&of(&fewer)?).expect_err("refused");
        assert!(matches!(refused.mismatches[..], [Mismatch::Protocol(..)]), "{refused}");
        assert_eq!((of(&real)?.sample_count(), of(&real)?.metric().to_string()), (40, "fid".to_owned()));
        let kid = |real: &Features| -> Result<Measurement, FeatureError> {
            Ok(kernel_distance(real, &generated)?.measurement(generated.extractor()))
        };
        assert!(kid(&real)?.compare(&kid(&fewer)?).is_ok());
        let excess = excess_kernel_distance(&generated, &real, &fewer)?.measurement(generated.extractor());
        assert!(kid(&real)?.compare(&excess).is_err());
        Ok(())
    }

    #[test]
    fn neighbour_shares_have_intervals_over_their_own_sets() -> Result<(), Box<dyn std::error::Error>> {
        let (real, generated) = (features(60, 7919)?, features(40, 31)?);
        let shares = neighbour_shares(&real, &generated, 5)?;
        let (of_real, of_generated) = (Units::items(60), Units::items(40));
        let measured = shares.measurements(real.extractor(), &of_real, &of_generated, &Bootstrap::default())?;
        let names: Vec<String> = measured.iter().map(|measured| measured.metric().to_string()).collect();
        assert_eq!(names, ["precision", "recall", "density", "coverage"]);
        assert!(measured.iter().all(|measured| measured.interval().is_some() && measured.sample_count() == 40));
        assert!(shares.measurements(real.extractor(), &of_generated, &of_real, &Bootstrap::default()).is_err());
        Ok(())
    }

    #[test]
    fn means_over_other_classes_refuse_to_be_compared() -> Result<(), ClassificationError> {
        let classifier = Extractor { name: "densenet".to_owned(), preprocessing: "512".to_owned() };
        let of = |second_is_known: bool| -> Result<Vec<Measurement>, ClassificationError> {
            let scores = (0..80).map(|place| (place * 7919 % 997) as f32 / 997.0).collect();
            let label =
                |place: usize| [0, 6, 12].contains(&(place % 20)) || second_is_known && [5, 15].contains(&(place % 20));
            let labels = (0..80).map(|place| Some(label(place))).collect();
            let predictions = Predictions::new(vec!["Edema".to_owned(), "Fracture".to_owned()], scores, labels)?;
            Ok(score(&predictions, None, &Units::items(40), &Bootstrap::default())?.measurements(&classifier))
        };
        let (both, one) = (of(true)?, of(false)?);
        let find = |all: &[Measurement], name: &str| all.iter().find(|m| m.metric().to_string() == name).cloned();
        let fracture = find(&one, "auroc/Fracture").and_then(|m| m.undefined_reason().map(str::to_owned));
        assert_eq!(fracture.as_deref(), Some("undefined: no positive"));
        let (both_mean, one_mean) = (find(&both, "auroc/macro"), find(&one, "auroc/macro"));
        let refused = both_mean.zip(one_mean).and_then(|(both, one)| both.compare(&one).err());
        assert!(refused.is_some_and(|refused| refused.to_string().contains("Edema, Fracture")));
        assert_eq!(find(&both, "f1/macro"), None);
        Ok(())
    }
}
