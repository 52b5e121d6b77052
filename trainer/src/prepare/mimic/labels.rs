//! CheXpert's fourteen labels of a study, and what they are in a manifest of ten classes.

use raygen_manifest::{CLASSES, Labels};

use crate::prepare::Reason;

/// CheXpert's labels that are none of the ten classes. `No Finding` is the last.
pub(super) const OTHERS: [&str; 4] = ["Enlarged Cardiomediastinum", "Pleural Other", "Support Devices", "No Finding"];
/// Of [`OTHERS`].
const NO_FINDING: usize = 3;
/// A device is no finding.
const SUPPORT_DEVICES: usize = 2;

/// What a table says of one label of a study.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mention {
    /// Not mentioned.
    #[default]
    Blank,
    /// 1.
    Positive,
    /// 0.
    Negative,
    /// -1.
    Uncertain,
}

impl Mention {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Blank);
        }
        match text.parse::<f32>() {
            Ok(1.0) => Ok(Self::Positive),
            Ok(0.0) => Ok(Self::Negative),
            Ok(-1.0) => Ok(Self::Uncertain),
            _ => Err(format!("\"{text}\" is no label; there can be 1.0, 0.0, -1.0 or nothing")),
        }
    }
}

/// The labels of one study.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StudyLabels {
    /// In the order of [`CLASSES`].
    pub(super) classes: [Mention; CLASSES.len()],
    /// In the order of [`OTHERS`].
    pub(super) others: [Mention; OTHERS.len()],
}

/// What an uncertain label (-1) is taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Uncertain {
    /// The study is left out.
    Drop,
    /// Negative.
    Negative,
    /// Positive.
    Positive,
    /// The study is kept for its text and counts as unlabelled.
    #[default]
    Blank,
    /// It stays uncertain, in a column of its own: what else is known of the study is kept. Who does not know that column
    /// takes it for negative.
    Keep,
}

/// How labels become those of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LabelRule {
    /// What -1 means.
    pub uncertain: Uncertain,
    /// Whether studies are left out that are positive for one of the four labels that are no classes: `No Finding` too.
    pub drop_other_positives: bool,
    /// Whether a study with nothing but blanks is negative for all classes; it is unlabelled otherwise.
    pub blank_is_negative: bool,
    /// Whether studies that the table does not have are left out.
    pub required: bool,
}

impl LabelRule {
    /// The labels of a study in a manifest, or why it is left out.
    pub(super) fn judge(&self, study: Option<&StudyLabels>) -> Result<Labels, Reason> {
        let Some(study) = study else {
            return if self.required { Err(Reason::Unlabelled) } else { Ok(Labels::Unlabelled) };
        };
        let mentions = || study.classes.iter().chain(&study.others);
        let uncertain = mentions().any(|mention| *mention == Mention::Uncertain);
        match self.uncertain {
            Uncertain::Drop if uncertain => return Err(Reason::UncertainLabel),
            Uncertain::Blank if uncertain => return Ok(Labels::Unlabelled),
            _ => {}
        }
        let positive = |mention: Mention| {
            mention == Mention::Positive || mention == Mention::Uncertain && self.uncertain == Uncertain::Positive
        };
        if self.drop_other_positives && study.others.iter().any(|mention| positive(*mention)) {
            return Err(Reason::ExcludedLabel);
        }
        let named = |names: &[&str], values: &[Mention]| -> Vec<String> {
            let positives = names.iter().zip(values).filter(|(_, mention)| positive(**mention));
            positives.map(|(name, _)| (*name).to_owned()).collect()
        };
        let classes = named(&CLASSES, &study.classes);
        if !classes.is_empty() {
            return Ok(Labels::Positive(classes));
        }
        // A finding that is no class: negative for all ten, and yet not without finding.
        let others = named(&OTHERS[..SUPPORT_DEVICES], &study.others[..SUPPORT_DEVICES]);
        if !others.is_empty() {
            return Ok(Labels::Positive(others));
        }
        // What is kept as uncertain says nothing of the other classes.
        let certain = |mention: &Mention| {
            *mention != Mention::Blank && !(*mention == Mention::Uncertain && self.uncertain == Uncertain::Keep)
        };
        let said = positive(study.others[NO_FINDING]) || study.classes.iter().any(certain) || self.blank_is_negative;
        Ok(if said { Labels::Negative } else { Labels::Unlabelled })
    }

    /// The classes that stay uncertain.
    pub(super) fn uncertain(&self, study: Option<&StudyLabels>) -> Vec<String> {
        let Some(study) = study.filter(|_| self.uncertain == Uncertain::Keep) else { return Vec::new() };
        let classes = CLASSES.iter().zip(&study.classes);
        classes.filter(|(_, mention)| **mention == Mention::Uncertain).map(|(name, _)| (*name).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(classes: &[(usize, Mention)], others: &[(usize, Mention)]) -> StudyLabels {
        let mut study = StudyLabels::default();
        classes.iter().for_each(|(index, mention)| study.classes[*index] = *mention);
        others.iter().for_each(|(index, mention)| study.others[*index] = *mention);
        study
    }

    fn positive(names: &[&str]) -> Result<Labels, Reason> {
        Ok(Labels::Positive(names.iter().map(|name| (*name).to_owned()).collect()))
    }

    #[test]
    fn an_uncertain_label_is_what_the_rule_says() {
        let study = study(&[(1, Mention::Positive), (8, Mention::Uncertain)], &[]);
        let judged = |uncertain| LabelRule { uncertain, ..LabelRule::default() }.judge(Some(&study));
        assert_eq!(judged(Uncertain::Drop), Err(Reason::UncertainLabel));
        assert_eq!(judged(Uncertain::Blank), Ok(Labels::Unlabelled));
        assert_eq!(judged(Uncertain::Negative), positive(&["Cardiomegaly"]));
        assert_eq!(judged(Uncertain::Positive), positive(&["Cardiomegaly", "Pneumonia"]));
    }

    #[test]
    fn what_stays_uncertain_says_nothing_of_the_other_classes() {
        let rule = LabelRule { uncertain: Uncertain::Keep, ..LabelRule::default() };
        let judged = |classes: &[(usize, Mention)]| {
            let study = study(classes, &[]);
            (rule.judge(Some(&study)), rule.uncertain(Some(&study)))
        };
        let pneumonia = (8, Mention::Uncertain);
        let uncertain = vec!["Pneumonia".to_owned()];
        assert_eq!(judged(&[(1, Mention::Positive), pneumonia]), (positive(&["Cardiomegaly"]), uncertain.clone()));
        assert_eq!(judged(&[(1, Mention::Negative), pneumonia]), (Ok(Labels::Negative), uncertain.clone()));
        assert_eq!(judged(&[pneumonia]), (Ok(Labels::Unlabelled), uncertain));
        // The other policies leave nothing uncertain.
        assert_eq!(LabelRule::default().uncertain(Some(&study(&[pneumonia], &[]))), Vec::<String>::new());
    }

    #[test]
    fn nothing_said_is_unlabelled_and_a_denial_is_negative() {
        let rule = LabelRule::default();
        assert_eq!(rule.judge(None), Ok(Labels::Unlabelled));
        assert_eq!(rule.judge(Some(&StudyLabels::default())), Ok(Labels::Unlabelled));
        assert_eq!(rule.judge(Some(&study(&[(9, Mention::Negative)], &[]))), Ok(Labels::Negative));
        assert_eq!(rule.judge(Some(&study(&[], &[(NO_FINDING, Mention::Positive)]))), Ok(Labels::Negative));
        // A widened mediastinum is none of the ten, but it is a finding; a device is not.
        assert_eq!(rule.judge(Some(&study(&[], &[(0, Mention::Positive)]))), positive(&["Enlarged Cardiomediastinum"]));
        let devices = study(&[], &[(SUPPORT_DEVICES, Mention::Positive), (NO_FINDING, Mention::Positive)]);
        assert_eq!(rule.judge(Some(&devices)), Ok(Labels::Negative));
    }
}
