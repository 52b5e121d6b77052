//! Several ways to train a classifier, each repeated under several seeds, judged on the same films: how far each lies from the
//! first, and whether that is more than noise.
//!
//! Films may be judged in folds, each by a network of its own. Scores of different networks are not compared with each other:
//! the AUROC is over the pairs of films within a fold, average precision is averaged over folds by their positives, and F1 is of
//! all calls together.
//!
//! A difference varies for two reasons: other patients might have been looked at (a bootstrap over patients), and the same
//! training might have gone otherwise (the spread between seeds). Its interval holds both, with Student's reach for the few
//! repetitions that the second is known by. One seed alone tells nothing of the second: then there is no test.

mod holm;
mod spread;
mod values;

pub use self::holm::holm;
pub use self::spread::Spread;

use self::spread::Sources;
use self::values::{ClassRanks, Quantity, drawn};
use crate::classification::ClassificationError;
use crate::statistics::{Bootstrap, StatisticsError, Units};

/// The films that all arms are judged by.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Row-major, films x classes; `None` where nobody knows.
    pub labels: Vec<Option<bool>>,
    /// The fold of each film, whose network looked at it.
    pub folds: Vec<usize>,
    /// Whose each film is.
    pub units: Units,
}

/// What the networks of one seed say of all films.
#[derive(Debug, Clone)]
pub struct Run {
    /// Row-major, films x classes.
    pub scores: Vec<f32>,
    /// Whether it calls each finding, by a threshold chosen on other films; `None` where none could be chosen.
    pub called: Vec<Option<bool>>,
}

/// A way to train: a run for each seed, the seeds of all arms the same in the same order.
#[derive(Debug, Clone)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// Its runs.
    pub runs: Vec<Run>,
}

/// What is measured of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Area under the ROC curve.
    Auroc,
    /// Average precision.
    AveragePrecision,
    /// F1 at thresholds chosen on other films.
    F1,
}

/// All kinds, in the order of their results.
pub const KINDS: [Kind; 3] = [Kind::Auroc, Kind::AveragePrecision, Kind::F1];

/// A number of an arm.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmValue {
    /// Which.
    pub kind: Kind,
    /// The class's place; `None` for the mean over all classes.
    pub class: Option<usize>,
    /// The number of each arm; `None` where it is not defined.
    pub arms: Vec<Option<Spread>>,
    /// What each later arm has more than the first.
    pub differences: Vec<Option<Spread>>,
}

/// Compares `arms` with the first of them: each kind of each class, then of the mean over classes, which is defined where all
/// classes are.
///
/// # Errors
/// Lists of wrong lengths, scores that are no numbers, no arm, or arms with other numbers of seeds.
pub fn compare(judged: &Judged, arms: &[Arm], bootstrap: &Bootstrap) -> Result<Vec<ArmValue>, ClassificationError> {
    let (films, classes) = (judged.folds.len(), judged.classes.len());
    judged.units.check(films)?;
    let seeds = arms.first().map_or(0, |arm| arm.runs.len());
    if seeds == 0 {
        return Err(StatisticsError::TooFew { what: "a comparison of arms", needed: 1, found: 0 }.into());
    }
    for arm in arms {
        if arm.runs.len() != seeds {
            let what = "seeds of an arm";
            return Err(StatisticsError::LengthsDiffer { what, first: seeds, second: arm.runs.len() }.into());
        }
        for run in &arm.runs {
            let found = run.scores.len().min(run.called.len());
            if run.scores.len() != films * classes || found != films * classes || judged.labels.len() != films * classes
            {
                return Err(ClassificationError::LengthsDiffer { scores: run.scores.len(), labels: films * classes });
            }
        }
    }
    // By arm, then seed, then class.
    let ranks: Vec<Vec<Vec<ClassRanks>>> = arms
        .iter()
        .map(|arm| {
            let of_run = |run: &Run| (0..classes).map(|class| ClassRanks::new(judged, run, class)).collect();
            arm.runs.iter().map(of_run).collect::<Result<_, _>>()
        })
        .collect::<Result<_, _>>()?;
    let quantities = Quantity::all(classes);
    let replicates = bootstrap.replicates(&judged.units, |weights| drawn(&ranks, &quantities, weights));
    let once = vec![1; films];
    let whole = values::contributions(&ranks, &quantities, &once);
    let mut found = Vec::with_capacity(quantities.len());
    for (place, quantity) in quantities.iter().enumerate() {
        let freedom = values::freedom(judged, quantity.class);
        let spread = |sign: Option<usize>, arm: usize| -> Option<Spread> {
            // By seed, then fold: of the arm, or what it has more than the first.
            let by_seed: Option<Vec<Vec<f64>>> = (0..seeds)
                .map(|seed| {
                    let own = whole[arm][seed][place].clone()?;
                    let Some(first) = sign else { return Some(own) };
                    let other = whole[first][seed][place].as_ref()?;
                    Some(own.iter().zip(other).map(|(own, other)| own - other).collect())
                })
                .collect();
            let resampled = replicates.iter().map(|drawn| {
                let own = drawn[arm][place]?;
                sign.map_or(Some(own), |first| Some(own - drawn[first][place]?))
            });
            Some(
                Sources { by_seed: by_seed?, resampled: resampled.collect(), freedom, level: bootstrap.level }.spread(),
            )
        };
        found.push(ArmValue {
            kind: quantity.kind,
            class: quantity.class,
            arms: (0..arms.len()).map(|arm| spread(None, arm)).collect(),
            differences: (1..arms.len()).map(|arm| spread(Some(0), arm)).collect(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::statistics::{below, stream};

    const FILMS: usize = 120;

    /// About normal.
    fn normal(seed: u64, purpose: &str, index: usize) -> f64 {
        let mut generator = stream(seed, purpose, index as u64);
        (0..12).map(|_| below(&mut generator, 1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
    }

    /// Films of patients with two films each, in two folds, a quarter positive.
    fn judged() -> Judged {
        let patient = |film: usize| film / 2;
        Judged {
            classes: vec!["Edema".to_owned(), "Pneumonia".to_owned()],
            labels: (0..FILMS)
                .flat_map(|film| [Some(patient(film) % 4 == 0), (film != 5).then_some(patient(film) % 3 == 1)])
                .collect(),
            folds: (0..FILMS).map(|film| patient(film) % 2).collect(),
            units: Units::groups(&(0..FILMS).map(patient).collect::<Vec<_>>()),
        }
    }

    /// An arm whose scores tell positives by `gain`; of what its networks see, `own` is not what the other arm's see.
    fn arm(world: u64, name: &str, gain: f64, own: f64, seeds: u64) -> Arm {
        let judged = judged();
        let run = |seed: u64| {
            let scores: Vec<f32> = (0..FILMS * 2)
                .map(|place| {
                    let (film, class) = (place / 2, place % 2);
                    let shared = normal(world, "film", place) + normal(world, "patient", film / 2 * 2 + class);
                    let training = normal(world * 1000 + seed, name, place);
                    // Folds are networks of their own: their scores have nothing to do with each other.
                    let offset = 50.0 * judged.folds[film] as f64;
                    let seen = if judged.labels[place] == Some(true) { gain } else { 0.0 };
                    (shared + own * training + seen + offset) as f32
                })
                .collect();
            let called = scores.iter().map(|score| Some(score % 50.0 > 1.0)).collect();
            Run { scores, called }
        };
        Arm { name: name.to_owned(), runs: (0..seeds).map(run).collect() }
    }

    fn macro_auroc(arms: &[Arm]) -> ArmValue {
        let bootstrap = Bootstrap { resamples: 300, ..Bootstrap::default() };
        let all = compare(&judged(), arms, &bootstrap).unwrap();
        assert_eq!(all.len(), 9);
        all.into_iter().find(|value| value.kind == Kind::Auroc && value.class.is_none()).unwrap()
    }

    #[test]
    fn arms_that_do_not_differ_are_called_different_as_often_as_the_level_says() {
        let called = (0..120)
            .filter(|world| {
                let value = macro_auroc(&[arm(*world, "real", 1.5, 0.7, 3), arm(*world, "more", 1.5, 0.7, 3)]);
                value.differences[0].as_ref().unwrap().p.unwrap() <= 0.05
            })
            .count();
        // 6 of 120 expected, standard deviation 2.4.
        assert!(called <= 13, "{called} of 120");
    }

    #[test]
    fn a_gain_is_found_and_the_same_scores_are_none() {
        let real = arm(3, "real", 0.6, 0.5, 3);
        let found = macro_auroc(&[real.clone(), arm(3, "clean", 3.0, 0.5, 3)]);
        let gain = found.differences[0].as_ref().unwrap();
        assert!(gain.value > 0.1 && gain.p.unwrap() < 0.01, "{gain:?}");
        assert!(gain.interval.unwrap().lower > 0.0);
        let same = macro_auroc(&[real.clone(), real]);
        let none = same.differences[0].as_ref().unwrap();
        assert_eq!((none.value, none.p), (0.0, Some(1.0)));
        assert_eq!(same.arms[0], same.arms[1]);
    }

    #[test]
    fn scores_of_other_folds_are_not_compared() {
        let real = arm(3, "real", 0.6, 0.5, 2);
        let mut moved = real.clone();
        for run in &mut moved.runs {
            let folds = judged().folds;
            run.scores.iter_mut().enumerate().for_each(|(place, score)| *score -= 80.0 * folds[place / 2] as f32);
        }
        let value = macro_auroc(&[real, moved]);
        assert!(value.differences[0].as_ref().unwrap().value.abs() < 1e-4, "{value:?}");
    }

    #[test]
    fn one_seed_tells_nothing_of_training_again() {
        let value = macro_auroc(&[arm(3, "real", 0.6, 0.5, 1), arm(3, "clean", 2.5, 0.5, 1)]);
        let gain = value.differences[0].as_ref().unwrap();
        assert_eq!((gain.p, gain.training), (None, None));
        assert!(gain.interval.is_some());
        // Where the seeds disagree, the interval says so.
        let calm = macro_auroc(&[arm(4, "real", 1.0, 0.1, 3), arm(4, "more", 1.0, 0.1, 3)]);
        let wild = macro_auroc(&[arm(4, "real", 1.0, 3.0, 3), arm(4, "more", 1.0, 3.0, 3)]);
        let training = |value: &ArmValue| value.differences[0].as_ref().unwrap().training.unwrap();
        assert!(training(&wild) > 2.0 * training(&calm), "{} {}", training(&wild), training(&calm));
    }

    #[test]
    fn a_class_without_a_positive_has_no_value_and_neither_has_the_mean() {
        let mut judged = judged();
        judged.labels.iter_mut().step_by(2).for_each(|label| *label = Some(false));
        let arms = [arm(3, "real", 0.6, 0.5, 2), arm(3, "more", 0.6, 0.5, 2)];
        let all = compare(&judged, &arms, &Bootstrap { resamples: 50, ..Bootstrap::default() }).unwrap();
        let of = |class: Option<usize>| all.iter().find(|v| v.kind == Kind::Auroc && v.class == class).unwrap();
        assert!(of(Some(0)).arms[0].is_none() && of(None).differences[0].is_none());
        assert!(of(Some(1)).arms[0].is_some());
        let short = Arm { runs: arms[1].runs[..1].to_vec(), ..arms[1].clone() };
        assert!(compare(&judged, &[arms[0].clone(), short], &Bootstrap::default()).is_err());
    }
}
