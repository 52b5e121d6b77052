//! Text normalisers.

use serde::{Deserialize, Serialize};

/// What is done to a text before the tokenizer sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normaliser {
    /// Nothing.
    None,
    /// Lower case; only letters and digits, everything else separates words; one space between words.
    #[default]
    Plain,
}

impl Normaliser {
    /// The normalised text.
    pub fn apply(self, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Plain => words(text).join(" "),
        }
    }
}

/// The words of a text under the plain normaliser, in order.
pub(super) fn words(text: &str) -> Vec<String> {
    // Combining accents belong to the letter before them and do not end a word.
    let is_accent = |character: char| ('\u{300}'..='\u{36f}').contains(&character);
    let lower: String = text.to_lowercase().chars().filter(|&character| !is_accent(character)).collect();
    lower
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_keeps_letters_digits_and_single_spaces() {
        let normalised = Normaliser::Plain.apply("  No acute\u{0}  disease;\n2-cm NODULE [MASK] é\u{200f}!");
        assert_eq!(normalised, "no acute disease 2 cm nodule mask é");
        assert_eq!(Normaliser::Plain.apply("?! \t"), "");
    }

    #[test]
    fn none_changes_nothing() {
        assert_eq!(Normaliser::None.apply(" A, b."), " A, b.");
    }

    #[test]
    fn normalising_twice_is_normalising_once() {
        for text in ["İstanbul X", "ne\u{301}e", "Straße 12", "a--b__c", "ﬁne"] {
            let once = Normaliser::Plain.apply(text);
            assert_eq!(Normaliser::Plain.apply(&once), once);
        }
    }
}
