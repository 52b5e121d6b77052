//! Which text of a report becomes the impression, and what is done to it.

use crate::config::TextCleaning;

use super::section::{after_last_impression, section};

/// How the impression is found in a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extraction {
    /// The IMPRESSION section up to the next section, line breaks made blanks.
    #[default]
    Section,
    /// What the published code takes: all that follows the last "IMPRESSION:".
    Published,
}

/// Choices about texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// How the impression is found.
    pub extraction: Extraction,
    /// Whether the findings stand in for a missing impression.
    pub findings_as_fallback: bool,
    /// What is done to the impression.
    pub cleaning: TextCleaning,
    /// Whether films without an impression are kept.
    pub keep_textless: bool,
}

/// The texts of a film.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) impression: String,
    pub(super) findings: String,
    pub(super) text_origin: String,
}

impl TextOptions {
    /// The texts of a whole report.
    pub(super) fn of_report(&self, report: &str) -> Texts {
        let impression = match self.extraction {
            Extraction::Section => section(report, "IMPRESSION"),
            Extraction::Published => after_last_impression(report).map(str::to_owned),
        };
        self.of_sections(&impression.unwrap_or_default(), section(report, "FINDINGS").unwrap_or_default())
    }

    /// The texts of a report whose sections are known.
    pub(super) fn of_sections(&self, impression: &str, findings: String) -> Texts {
        let cleaned = self.cleaning.apply(impression).trim().to_owned();
        if !cleaned.is_empty() {
            return Texts { impression: cleaned, findings, text_origin: "radiologist report impression".to_owned() };
        }
        let fallback =
            if self.findings_as_fallback { self.cleaning.apply(&findings).trim().to_owned() } else { String::new() };
        let text_origin = match (fallback.is_empty(), findings.is_empty()) {
            (true, true) => "",
            _ => "radiologist report findings",
        };
        Texts { impression: fallback, findings, text_origin: text_origin.to_owned() }
    }
}
