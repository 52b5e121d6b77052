//! What a film is taken to show: yes, no, or nobody knows. Manifests say it, and the stage's policies where they don't.

use anyhow::{Result, bail};

use crate::config::{ClassifierConfig, UncertainPolicy, UnlabelledPolicy};
use crate::data::{FilmSet, FilmText};
use crate::stages::fingerprint;

/// Whether a film shows a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// It counts for nothing.
    Unknown,
}

/// The answers to all classes of all films.
pub(super) struct Answers {
    classes: Vec<String>,
    /// By film, then by class: what the loss counts.
    taken: Vec<Answer>,
    /// The same before any policy: what the AUROC counts.
    said: Vec<Answer>,
    /// What a positive answer of each class counts for.
    positive_weights: Vec<f32>,
    /// What is taken off a sure answer.
    smoothing: f32,
    /// Films to learn from: those with an answer.
    pub(super) train: Vec<usize>,
    /// Films to validate on: those with an answer.
    pub(super) val: Vec<usize>,
    /// Films of both splits without any.
    left_out: usize,
}

impl Answers {
    /// # Errors
    /// No film of a split has an answer.
    pub(super) fn of(films: &FilmSet, config: &ClassifierConfig, classes: &[String]) -> Result<Self> {
        let all = |of: &dyn Fn(&FilmText, &str) -> Answer| -> Vec<Answer> {
            films.texts.iter().flat_map(|film| classes.iter().map(move |class| of(film, class))).collect()
        };
        let mut answers = Self {
            classes: classes.to_vec(),
            taken: all(&|film, class| taken(film, class, config)),
            said: all(&said),
            positive_weights: Vec::new(),
            smoothing: config.label_smoothing as f32,
            train: Vec::new(),
            val: Vec::new(),
            left_out: 0,
        };
        let answered = |films: &[usize]| -> Vec<usize> {
            let any = |film: usize| answers.row(&answers.taken, film).iter().any(|answer| *answer != Answer::Unknown);
            films.iter().copied().filter(|film| any(*film)).collect()
        };
        let (train, val) = (answered(&films.train), answered(&films.val));
        for (split, films) in [("train", &train), ("val", &val)] {
            if films.is_empty() {
                bail!(
                    "no film in split `{split}` has a label that counts: the stage needs the manifest's column `labels`, or \
                     classifier.unlabelled = \"negative\""
                );
            }
        }
        answers.left_out = films.train.len() + films.val.len() - train.len() - val.len();
        (answers.train, answers.val) = (train, val);
        answers.positive_weights = (0..classes.len()).map(|class| answers.weight(class, config)).collect();
        Ok(answers)
    }

    /// What a positive answer of a class counts for: negatives to a positive, from 1 to the cap.
    fn weight(&self, class: usize, config: &ClassifierConfig) -> f32 {
        let Some(cap) = config.positive_weight_cap else { return 1.0 };
        match self.count(class, Answer::Yes) {
            // Nothing has that weight.
            0 => 1.0,
            positives => (self.count(class, Answer::No) as f64 / positives as f64).clamp(1.0, cap) as f32,
        }
    }

    /// Films to learn from with this answer to a class.
    pub(super) fn count(&self, class: usize, answer: Answer) -> usize {
        self.train.iter().filter(|film| self.row(&self.taken, **film)[class] == answer).count()
    }

    fn row<'a>(&self, answers: &'a [Answer], film: usize) -> &'a [Answer] {
        &answers[film * self.classes.len()..][..self.classes.len()]
    }

    /// Targets and weights of the loss in training, both [films, classes], row by row.
    pub(super) fn to_learn(&self, films: impl Iterator<Item = usize>) -> (Vec<f32>, Vec<f32>) {
        let sure = |answer: Answer, weight: f32| match answer {
            Answer::Yes => (1.0 - 0.5 * self.smoothing, weight),
            Answer::No => (0.5 * self.smoothing, 1.0),
            Answer::Unknown => (0.0, 0.0),
        };
        let rows = films.flat_map(|film| self.row(&self.taken, film).iter().zip(&self.positive_weights));
        rows.map(|(answer, weight)| sure(*answer, *weight)).unzip()
    }

    /// The same in validation: without smoothing, and each answer counted once.
    pub(super) fn to_validate(&self, films: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let number = |is: bool| if is { 1.0 } else { 0.0 };
        let rows = films.iter().flat_map(|film| self.row(&self.taken, *film));
        rows.map(|answer| (number(*answer == Answer::Yes), number(*answer != Answer::Unknown))).unzip()
    }

    /// What the manifest itself says of a film and a class.
    pub(super) fn said(&self, film: usize, class: usize) -> Answer {
        self.row(&self.said, film)[class]
    }

    /// Tells these answers from others.
    pub(super) fn fingerprint(&self) -> String {
        let letter = |answer: &Answer| match answer {
            Answer::Yes => '1',
            Answer::No => '0',
            Answer::Unknown => '-',
        };
        fingerprint(&[&self.taken.iter().map(letter).collect::<String>()])
    }

    /// What a person should know before the stage begins.
    pub(super) fn notices(&self, min_positives: usize) -> Vec<String> {
        let mut notices = Vec::new();
        if self.left_out > 0 {
            notices.push(format!("classifier: {} films have no label that counts and are left out", self.left_out));
        }
        let rare: Vec<String> = self
            .classes
            .iter()
            .enumerate()
            .map(|(class, name)| (name, self.count(class, Answer::Yes)))
            .filter(|(_, positives)| *positives < min_positives)
            .map(|(name, positives)| format!("{name} ({positives})"))
            .collect();
        if !rare.is_empty() {
            notices.push(format!(
                "classifier: fewer than {min_positives} films to learn from show {}; nothing that it says of them counts for much",
                rare.join(", ")
            ));
        }
        notices
    }
}

/// What the manifest says.
fn said(film: &FilmText, class: &str) -> Answer {
    match raygen_manifest::shows(&film.labels, &film.uncertain, class) {
        Some(true) => Answer::Yes,
        Some(false) => Answer::No,
        None => Answer::Unknown,
    }
}

/// What the stage takes it to be.
fn taken(film: &FilmText, class: &str, config: &ClassifierConfig) -> Answer {
    if film.uncertain.iter().any(|name| name == class) {
        return match config.uncertain {
            UncertainPolicy::Ignore => Answer::Unknown,
            UncertainPolicy::Negative => Answer::No,
            UncertainPolicy::Positive => Answer::Yes,
        };
    }
    match (said(film, class), config.unlabelled) {
        (Answer::Unknown, UnlabelledPolicy::Negative) => Answer::No,
        (answer, _) => answer,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use raygen_manifest::Labels;

    use super::*;

    fn config(keys: &str) -> ClassifierConfig {
        toml::from_str(&format!("steps = 1\nbatch = 2\noptimiser = {{ learning_rate = 1e-3 }}\n{keys}")).unwrap()
    }

    /// Four films to learn from and one for validation: Edema; nothing, Pneumonia uncertain; unlabelled, Edema uncertain;
    /// unlabelled; Pneumonia.
    fn films() -> FilmSet {
        let positive = |name: &str| Labels::Positive(vec![name.to_owned()]);
        let rows: [(Labels, &[&str]); 5] = [
            (positive("Edema"), &[]),
            (Labels::Negative, &["Pneumonia"]),
            (Labels::Unlabelled, &["Edema"]),
            (Labels::Unlabelled, &[]),
            (positive("Pneumonia"), &[]),
        ];
        let text = |(labels, uncertain): (Labels, &[&str])| FilmText {
            view: None,
            id: String::new(),
            impression: String::new(),
            labels,
            uncertain: uncertain.iter().map(|name| (*name).to_owned()).collect(),
        };
        FilmSet::of_texts(rows.map(text).to_vec(), 4)
    }

    fn answers(keys: &str) -> Answers {
        let classes = ["Edema".to_owned(), "Pneumonia".to_owned()];
        Answers::of(&films(), &config(keys), &classes).unwrap()
    }

    #[test]
    fn what_nobody_knows_counts_for_nothing_unless_a_policy_says_so() {
        let table = |keys: &str| {
            let answers = answers(keys);
            let (targets, weights) = answers.to_learn(answers.train.iter().copied());
            let text = |(target, weight): (&f32, &f32)| match (*target, *weight) {
                (1.0, 1.0) => "1",
                (0.0, 1.0) => "0",
                (_, 0.0) => "-",
                _ => "?",
            };
            (answers.train, targets.iter().zip(&weights).map(text).collect::<String>())
        };
        assert_eq!(table(""), (vec![0, 1], "100-".to_owned()));
        assert_eq!(table("uncertain = \"negative\""), (vec![0, 1, 2], "10000-".to_owned()));
        assert_eq!(table("uncertain = \"positive\""), (vec![0, 1, 2], "10011-".to_owned()));
        assert_eq!(table("unlabelled = \"negative\""), (vec![0, 1, 2, 3], "100--000".to_owned()));
    }

    #[test]
    fn a_policy_changes_what_is_learnt_and_not_what_the_manifest_said() {
        let (ignored, positive) = (answers(""), answers("uncertain = \"positive\"\nunlabelled = \"negative\""));
        for (film, class) in [(1, 1), (2, 0), (2, 1), (3, 0)] {
            assert_eq!(positive.said(film, class), Answer::Unknown);
        }
        assert_eq!((positive.said(0, 0), positive.said(1, 0)), (Answer::Yes, Answer::No));
        assert_ne!(ignored.fingerprint(), positive.fingerprint());
    }

    #[test]
    fn rare_findings_count_more_up_to_the_cap_and_smoothing_takes_off_both_ends() {
        // Of Edema one positive, three negatives (the uncertain one too).
        let keys = "unlabelled = \"negative\"\nuncertain = \"negative\"\nlabel_smoothing = 0.2";
        let first = |keys: &str| {
            let (targets, weights) = answers(keys).to_learn([0].into_iter());
            ((targets[0], weights[0]), (targets[1], weights[1]))
        };
        assert_eq!(first(keys), ((0.9, 1.0), (0.1, 1.0)));
        assert_eq!(first(&format!("{keys}\npositive_weight_cap = 2.5")).0, (0.9, 2.5));
        assert_eq!(first(&format!("{keys}\npositive_weight_cap = 9.0")).0, (0.9, 3.0));
    }

    #[test]
    fn films_without_a_label_and_rare_classes_are_named() {
        let notices = answers("").notices(1);
        assert!(notices[0].contains("2 films"), "{notices:?}");
        assert!(notices[1].contains("show Pneumonia (0)") && !notices[1].contains("Edema"), "{notices:?}");
        let none = Answers::of(&films(), &config(""), &["Fracture".to_owned()]);
        assert!(none.is_ok(), "negatives are answers too");
        let unlabelled = FilmText { labels: Labels::Unlabelled, ..films().texts[3].clone() };
        let error = Answers::of(&FilmSet::of_texts(vec![unlabelled; 3], 2), &config(""), &["Edema".to_owned()]);
        assert!(error.err().unwrap().to_string().contains("split `train`"));
    }
}
