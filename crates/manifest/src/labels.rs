//! The findings of a film: ten classes, none of them, or nobody looked.

use serde::Serialize;

/// The classes that metrics and balancing count, in the order of every per-class table.
pub const CLASSES: [&str; 10] = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "Pleural Effusion",
    "Pneumonia",
    "Pneumothorax",
];

/// The label of a film that was read and is negative for all classes.
pub const NO_FINDING: &str = "No Finding";

/// What a film is labelled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Labels {
    /// Nobody labelled it: it is left out where labels count.
    Unlabelled,
    /// Negative for all classes.
    Negative,
    /// Positive for these, as written; negative for the other classes. A name outside [`CLASSES`] is kept but counts for none.
    Positive(Vec<String>),
}

impl Labels {
    /// Reads a `labels` field: names separated by `;`. Class names are matched whatever their case.
    ///
    /// The error says what is wrong in words.
    pub(crate) fn parse(field: &str) -> Result<Self, String> {
        let mut names: Vec<String> = Vec::new();
        let mut negative = false;
        for name in field.split(';').map(str::trim).filter(|name| !name.is_empty()) {
            if name.eq_ignore_ascii_case(NO_FINDING) {
                negative = true;
                continue;
            }
            let name = class_index(name).map_or(name, |index| CLASSES[index]);
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        let finding = names.iter().find(|name| class_index(name).is_some());
        match (negative, finding) {
            (true, Some(finding)) => {
                Err(format!("\"{NO_FINDING}\" and \"{finding}\" contradict each other; remove one"))
            }
            // "No Finding;Support Devices": a device is no finding.
            (true, None) => Ok(Self::Negative),
            (false, _) if names.is_empty() => Ok(Self::Unlabelled),
            (false, _) => Ok(Self::Positive(names)),
        }
    }

    /// Whether the film is positive for a class of [`CLASSES`]; `None` where it is unlabelled.
    #[must_use]
    pub fn is_positive(&self, class: &str) -> Option<bool> {
        match self {
            Self::Unlabelled => None,
            Self::Negative => Some(false),
            Self::Positive(names) => Some(names.iter().any(|name| name == class)),
        }
    }

    /// One flag for each of [`CLASSES`]; `None` where the film is unlabelled.
    #[must_use]
    pub fn class_flags(&self) -> Option<[bool; CLASSES.len()]> {
        match self {
            Self::Unlabelled => None,
            _ => Some(CLASSES.map(|class| self.is_positive(class) == Some(true))),
        }
    }

    /// The names, as the wire's `labels` wants them: `No Finding` for a negative film, none for an unlabelled one.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Unlabelled => Vec::new(),
            Self::Negative => vec![NO_FINDING.to_owned()],
            Self::Positive(names) => names.clone(),
        }
    }

    /// The names that are no class of [`CLASSES`].
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &str> {
        let names: &[String] = match self {
            Self::Positive(names) => names,
            _ => &[],
        };
        names.iter().map(String::as_str).filter(|name| class_index(name).is_none())
    }
}

/// Reads an `uncertain_labels` field: names separated by `;`, class names matched whatever their case. Of these nobody
/// can say whether the film shows them; what `labels` says holds for the others.
///
/// The error says what is wrong in words.
pub(crate) fn parse_uncertain(field: &str, labels: &Labels) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for name in field.split(';').map(str::trim).filter(|name| !name.is_empty()) {
        if name.eq_ignore_ascii_case(NO_FINDING) {
            return Err(format!("\"{NO_FINDING}\" is no finding that could be uncertain"));
        }
        let name = class_index(name).map_or(name, |index| CLASSES[index]);
        if labels.is_positive(name) == Some(true) {
            return Err(format!("\"{name}\" stands in the column labels too; remove one"));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn class_index(name: &str) -> Option<usize> {
    CLASSES.iter().position(|class| class.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_is_unlabelled_not_negative() {
        assert_eq!(Labels::parse(" ; "), Ok(Labels::Unlabelled));
        assert_eq!(Labels::Unlabelled.class_flags(), None);
        assert_eq!(Labels::parse("No Finding"), Ok(Labels::Negative));
        assert_eq!(Labels::Negative.class_flags(), Some([false; 10]));
    }

    #[test]
    fn flags_follow_the_order_of_the_classes() {
        let labels = Labels::parse("pneumothorax; Edema ;Edema;Support Devices");
        assert_eq!(
            labels.as_ref().map(Labels::names),
            Ok(vec!["Pneumothorax".into(), "Edema".into(), "Support Devices".into()])
        );
        let flags = labels.ok().and_then(|labels| labels.class_flags());
        assert_eq!(flags, Some([false, false, false, true, false, false, false, false, false, true]));
    }

    #[test]
    fn an_uncertain_label_is_neither_positive_nor_twice_there() {
        let edema = Labels::Positive(vec!["Edema".into()]);
        assert_eq!(parse_uncertain("", &edema), Ok(vec![]));
        assert_eq!(parse_uncertain("pneumonia; Pneumonia ;Mass", &edema), Ok(vec!["Pneumonia".into(), "Mass".into()]));
        assert_eq!(parse_uncertain("Edema", &Labels::Negative), Ok(vec!["Edema".into()]));
        let problem = parse_uncertain("edema", &edema).err().unwrap_or_default();
        assert!(problem.contains("\"Edema\" stands in the column labels too"), "{problem}");
        assert!(parse_uncertain("No Finding", &edema).is_err());
    }

    #[test]
    fn no_finding_beside_a_finding_is_refused() {
        let problem = Labels::parse("No Finding;Edema").err().unwrap_or_default();
        assert!(problem.contains("Edema"), "{problem}");
        assert_eq!(Labels::parse("No Finding;Support Devices"), Ok(Labels::Negative));
    }
}
