//! Which films of a manifest a run takes, by how they were taken.

use raygen_manifest::View;
use serde::{Deserialize, Serialize};

/// Key `data.views`. A film whose view the manifest does not say counts as frontal, and is always taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum ViewChoice {
    /// AP, PA and those of which only that they are frontal is known.
    #[default]
    Frontal,
    /// Every film.
    All,
    /// Films of these views.
    These(Vec<View>),
}

/// As it stands in the file: a word, or a list of views.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    List(Vec<String>),
}

impl ViewChoice {
    /// Whether films of this view are taken.
    #[must_use]
    pub fn takes(&self, view: Option<View>) -> bool {
        match (self, view) {
            (_, None) | (Self::All, _) => true,
            (Self::Frontal, Some(view)) => view != View::Lateral,
            (Self::These(views), Some(view)) => views.contains(&view),
        }
    }
}

impl TryFrom<Written> for ViewChoice {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Word(word) if word == "all" => Ok(Self::All),
            Written::Word(word) if word == "frontal" => Ok(Self::Frontal),
            Written::List(names) if !names.is_empty() => {
                let views = names.iter().map(|name| name.parse()).collect::<Result<Vec<View>, _>>();
                Ok(Self::These(views.map_err(|problem| format!("views: {problem}"))?))
            }
            _ => Err("views must be \"all\", \"frontal\" or a list such as [\"AP\", \"PA\", \"frontal\"]".to_owned()),
        }
    }
}

impl From<ViewChoice> for Written {
    fn from(choice: ViewChoice) -> Self {
        match choice {
            ViewChoice::Frontal => Self::Word("frontal".to_owned()),
            ViewChoice::All => Self::Word("all".to_owned()),
            ViewChoice::These(views) => Self::List(views.into_iter().map(|view| view.name().to_owned()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Data {
        views: ViewChoice,
    }

    fn read(text: &str) -> Result<ViewChoice, String> {
        toml::from_str::<Data>(text).map(|data| data.views).map_err(|error| error.to_string())
    }

    #[test]
    fn a_choice_is_a_word_or_a_list_and_takes_films_of_no_known_view() {
        let list = read("views = [\"AP\", \"lateral\"]").unwrap();
        assert_eq!(list, ViewChoice::These(vec![View::AP, View::Lateral]));
        let taken = |choice: &ViewChoice| {
            let views = [None, Some(View::AP), Some(View::PA), Some(View::Frontal), Some(View::Lateral)];
            views.map(|view| choice.takes(view))
        };
        assert_eq!(taken(&list), [true, true, false, false, true]);
        assert_eq!(taken(&read("views = \"all\"").unwrap()), [true; 5]);
        assert_eq!(taken(&ViewChoice::default()), [true, true, true, true, false]);
        for choice in [list, ViewChoice::All, ViewChoice::Frontal] {
            let text = toml::to_string(&Data { views: choice.clone() }).unwrap();
            assert_eq!(read(&text).unwrap(), choice);
        }
    }

    #[test]
    fn anything_else_is_refused_and_told() {
        for (text, part) in
            [("views = \"AP\"", "\"all\""), ("views = []", "a list such as"), ("views = [\"LL\"]", "LL")]
        {
            let message = read(text).unwrap_err();
            assert!(message.contains("views") && message.contains(part), "{message}");
        }
    }
}
