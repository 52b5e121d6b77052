//! `data prepare mimic`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use raygen_trainer::prepare::mimic::{self, MimicOptions, Splits, Uncertain, ViewChoice};
use raygen_trainer::prepare::{PrepareError, Report};

use super::common::{Output, Text};

/// A MIMIC-CXR-JPG tree.
#[derive(Args)]
pub(super) struct Mimic {
    /// The folder of the tables (mimic-cxr-2.0.0-metadata.csv and its like, plain or .gz) and of files/.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// The folder of the reports' files/ [default: the root].
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// A published selection; other options change it.
    #[arg(long)]
    preset: Option<Preset>,
    /// Views to keep, of AP, PA, FRONTAL and LATERAL, or most-common [default: AP,PA].
    #[arg(long, value_name = "VIEWS")]
    views: Option<ViewChoice>,
    /// Images of a study to keep [default: all].
    #[arg(long)]
    images: Option<Images>,
    /// Folders of patients to keep, such as p10,p19 [default: all].
    #[arg(long, value_name = "FOLDERS", value_delimiter = ',')]
    folders: Vec<String>,
    /// Splits: those of the split table, or dealt by --val, --test and --seed [default: official].
    #[arg(long)]
    splits: Option<SplitSource>,
    /// What an uncertain label (-1) is: the study is dropped, the label negative or positive, or all labels of the study blank,
    /// which is unlabelled; or it is kept in the column uncertain_labels, which the stage `classifier` reads [default: blank].
    #[arg(long)]
    uncertain: Option<UncertainPolicy>,
    #[command(flatten)]
    text: Text,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// The paper's generator: most common view (AP), first image of a study, text behind "IMPRESSION:", letters only;
    /// folder p10 is val, the others are train.
    PaperTrain,
    /// The paper's classifier: p10, no uncertain labels, none outside the ten classes, blank is negative, 80/10/10.
    PaperClassifier,
}

#[derive(Clone, Copy, ValueEnum)]
enum Images {
    /// All.
    All,
    /// The first of a kept view.
    First,
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitSource {
    /// The split table, where there is one.
    Official,
    /// Folder p10 is val, the others are train.
    Paper,
    /// By a hash of seed and patient.
    Dealt,
}

#[derive(Clone, Copy, ValueEnum)]
enum UncertainPolicy {
    Drop,
    Negative,
    Positive,
    Blank,
    Keep,
}

impl Mimic {
    pub(super) fn run(mut self) -> (Result<Report, PrepareError>, Output) {
        let mut options = match self.preset {
            None => MimicOptions::new(&self.root),
            Some(Preset::PaperTrain) => MimicOptions::paper_train(&self.root),
            Some(Preset::PaperClassifier) => {
                // 80/10/10.
                self.output.test = self.output.test.or(Some(0.1));
                MimicOptions::paper_classifier(&self.root)
            }
        };
        options.reports = self.reports;
        options.views = self.views.unwrap_or(options.views);
        options.first_of_study = self.images.map_or(options.first_of_study, |images| matches!(images, Images::First));
        if !self.folders.is_empty() {
            options.folders = self.folders;
        }
        options.splits = match self.splits {
            Some(SplitSource::Official) => Splits::Official,
            Some(SplitSource::Paper) => Splits::Paper,
            Some(SplitSource::Dealt) => Splits::Dealt,
            None => options.splits,
        };
        options.labels.uncertain = match self.uncertain {
            Some(UncertainPolicy::Drop) => Uncertain::Drop,
            Some(UncertainPolicy::Negative) => Uncertain::Negative,
            Some(UncertainPolicy::Positive) => Uncertain::Positive,
            Some(UncertainPolicy::Blank) => Uncertain::Blank,
            Some(UncertainPolicy::Keep) => Uncertain::Keep,
            None => options.labels.uncertain,
        };
        options.text = self.text.over(options.text);
        (mimic::prepare(&options, &self.output.target()), self.output)
    }
}
