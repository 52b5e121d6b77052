//! How a film was taken, as a model is told it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::InvalidConfig;

/// A view. Its place in [`View::ALL`] is its row in the model's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum View {
    /// From front to back.
    AP,
    /// From back to front.
    PA,
    /// From the side.
    #[serde(rename = "lateral")]
    Lateral,
    /// AP or PA, not known which.
    #[serde(rename = "frontal")]
    Frontal,
}

/// What a model knows of views.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Views {
    /// The view of a picture where none is asked for: the commonest of the training films.
    pub default: View,
    /// The views of the training films, without repeats.
    pub trained: Vec<View>,
}

// === impl View ===

impl View {
    /// All of them, in the order of a model's table.
    pub const ALL: [Self; 4] = [Self::AP, Self::PA, Self::Lateral, Self::Frontal];

    /// Its row in a model's table.
    pub fn index(self) -> u32 {
        self as u32
    }

    /// Its name, as manifests and configurations write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AP => "AP",
            Self::PA => "PA",
            Self::Lateral => "lateral",
            Self::Frontal => "frontal",
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for View {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|view| view.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("{text:?} is no view; there are AP, PA, lateral and frontal"))
    }
}

// === impl Views ===

impl Views {
    /// Checks that the default is one of those that were trained.
    ///
    /// # Errors
    /// A default that was not trained, or a view named twice.
    pub(super) fn validate(&self) -> Result<(), InvalidConfig> {
        let repeated = |(place, view): (usize, &View)| self.trained[..place].contains(view);
        if !self.trained.contains(&self.default) || self.trained.iter().enumerate().any(repeated) {
            let problem = format!(
                "the default {} must be one of the trained views, each named once; they are {:?}",
                self.default, self.trained
            );
            return Err(InvalidConfig::new("views", problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_manifests_and_places_those_of_the_table() {
        for (place, view) in View::ALL.into_iter().enumerate() {
            assert_eq!(view.index() as usize, place);
            assert_eq!(view.name().to_lowercase().parse(), Ok(view));
            assert_eq!(serde_json::to_value(view).ok(), Some(view.name().into()));
        }
        assert!("LL".parse::<View>().is_err());
    }

    #[test]
    fn a_default_that_was_not_trained_is_refused() {
        let views = |trained: &[View]| Views { default: View::PA, trained: trained.to_vec() }.validate();
        assert!(views(&[View::AP, View::PA]).is_ok());
        assert!(views(&[View::AP]).is_err() && views(&[]).is_err() && views(&[View::PA, View::PA]).is_err());
    }
}
