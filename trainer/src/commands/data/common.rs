//! Arguments that the sources share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use raygen_trainer::config::TextCleaning;
use raygen_trainer::prepare::{Extraction, SplitRule, Target, TextOptions};

/// Where the manifest goes.
#[derive(Args)]
pub(super) struct Output {
    /// The manifest to write. Its paths start from its own folder.
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Replace a manifest that is there.
    #[arg(long)]
    force: bool,
    /// Most films; the first ones of the archive are taken.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Share of the patients for val, where the source does not say [default: 0.1].
    #[arg(long, value_name = "SHARE")]
    pub(super) val: Option<f64>,
    /// Share of the patients for test, where the source does not say [default: 0].
    #[arg(long, value_name = "SHARE")]
    pub(super) test: Option<f64>,
    /// Another seed deals other patients to val and test.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The report as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Output {
    pub(super) fn target(&self) -> Target {
        let usual = SplitRule::default();
        let (val, test) = (self.val.unwrap_or(usual.val), self.test.unwrap_or(usual.test));
        Target {
            out: self.out.clone(),
            force: self.force,
            limit: self.limit,
            split: SplitRule { val, test, seed: self.seed },
        }
    }
}

/// Which text becomes the impression.
#[derive(Args)]
pub(super) struct Text {
    /// How the impression is found in a report.
    #[arg(long)]
    impression: Option<Impression>,
    /// Take the findings where there is no impression.
    #[arg(long)]
    findings_as_fallback: bool,
    /// What is done to impressions.
    #[arg(long)]
    clean: Option<Clean>,
    /// Keep films that have no impression.
    #[arg(long)]
    keep_textless: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Impression {
    /// The IMPRESSION section, up to the next section.
    Section,
    /// All that follows the last "IMPRESSION:", as the published code has it.
    Published,
}

/// What is done to impressions.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Clean {
    /// Nothing.
    None,
    /// Only letters and blanks stay, in lower case, as the published code has it.
    Letters,
}

impl Clean {
    pub(super) fn cleaning(self) -> TextCleaning {
        match self {
            Self::None => TextCleaning::None,
            Self::Letters => TextCleaning::Letters,
        }
    }
}

impl Text {
    /// These choices over those of a preset.
    pub(super) fn over(&self, preset: TextOptions) -> TextOptions {
        TextOptions {
            extraction: match self.impression {
                Some(Impression::Section) => Extraction::Section,
                Some(Impression::Published) => Extraction::Published,
                None => preset.extraction,
            },
            findings_as_fallback: self.findings_as_fallback || preset.findings_as_fallback,
            cleaning: self.clean.map_or(preset.cleaning, Clean::cleaning),
            keep_textless: self.keep_textless || preset.keep_textless,
        }
    }
}
