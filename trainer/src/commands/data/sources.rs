//! `data prepare openi`, `nih` and `csv`.

use std::path::PathBuf;

use clap::Args;
use raygen_trainer::config::TextCleaning;
use raygen_trainer::prepare::any_csv::{self, CsvOptions, Mapping};
use raygen_trainer::prepare::nih::{self, NihOptions};
use raygen_trainer::prepare::openi::{self, OpeniOptions, OpeniReports};
use raygen_trainer::prepare::{PrepareError, Report, TextOptions, ViewKind, Views};

use super::common::{Clean, Output, Text};

/// Open-i's reports and pictures.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("texts").required(true))]
pub(super) struct Openi {
    /// indiana_reports.csv.
    #[arg(long, value_name = "FILE", group = "texts", requires = "projections")]
    reports: Option<PathBuf>,
    /// The XML reports: their folder, or NLMCXR_reports.tgz.
    #[arg(long, value_name = "DIR_OR_TGZ", group = "texts")]
    xml: Option<PathBuf>,
    /// indiana_projections.csv: the view of each picture.
    #[arg(long, value_name = "FILE")]
    projections: Option<PathBuf>,
    /// The folder of the pictures; they are found by name.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Views to keep, of FRONTAL and LATERAL.
    #[arg(long, value_delimiter = ',', default_value = "FRONTAL")]
    views: Vec<ViewKind>,
    #[command(flatten)]
    text: Text,
    #[command(flatten)]
    output: Output,
}

impl Openi {
    pub(super) fn run(self) -> (Result<Report, PrepareError>, Output) {
        let reports = match (self.reports, self.xml, self.projections) {
            (Some(reports), _, Some(projections)) => OpeniReports::Csv { reports, projections },
            (_, xml, projections) => OpeniReports::Xml { reports: xml.unwrap_or_default(), projections },
        };
        let options = OpeniOptions {
            reports,
            images: self.images,
            views: Views(self.views),
            text: self.text.over(TextOptions::default()),
        };
        (openi::prepare(&options, &self.output.target()), self.output)
    }
}

/// ChestX-ray14's table and pictures.
#[derive(Args)]
pub(super) struct Nih {
    /// Data_Entry_2017.csv.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The folder of the pictures, or of images_001 and so on; they are found by name.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// train_val_list.txt: its patients are dealt to train and val by --val.
    #[arg(long, value_name = "FILE")]
    train_list: Option<PathBuf>,
    /// test_list.txt: what is in test.
    #[arg(long, value_name = "FILE")]
    test_list: Option<PathBuf>,
    /// Views to keep, of AP and PA.
    #[arg(long, value_delimiter = ',', default_value = "AP,PA")]
    views: Vec<ViewKind>,
    #[command(flatten)]
    output: Output,
}

impl Nih {
    pub(super) fn run(self) -> (Result<Report, PrepareError>, Output) {
        let options = NihOptions {
            labels: self.labels,
            images: self.images,
            train_list: self.train_list,
            test_list: self.test_list,
            views: Views(self.views),
        };
        (nih::prepare(&options, &self.output.target()), self.output)
    }
}

/// A table of films.
#[derive(Args)]
pub(super) struct Csv {
    /// The table, plain or .gz.
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
    /// The folder that its paths start from [default: the table's].
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Which column of the table fills a column of the manifest: path=Image, "impression=Report Text".
    #[arg(long, value_name = "COLUMN=COLUMN", num_args = 1..)]
    map: Vec<Mapping>,
    /// What a column of the manifest holds in every row: licence=CC0.
    #[arg(long, value_name = "COLUMN=VALUE", num_args = 1..)]
    set: Vec<Mapping>,
    /// What separates labels in the table.
    #[arg(long, value_name = "CHARACTER", default_value_t = ';')]
    label_separator: char,
    /// Views to keep, of AP, PA, FRONTAL and LATERAL [default: all].
    #[arg(long, value_delimiter = ',')]
    views: Vec<ViewKind>,
    /// What is done to impressions.
    #[arg(long)]
    clean: Option<Clean>,
    #[command(flatten)]
    output: Output,
}

impl Csv {
    pub(super) fn run(self) -> (Result<Report, PrepareError>, Output) {
        let options = CsvOptions {
            csv: self.csv,
            images: self.images,
            map: self.map,
            set: self.set,
            label_separator: self.label_separator,
            views: (!self.views.is_empty()).then_some(Views(self.views)),
            cleaning: self.clean.map_or(TextCleaning::None, Clean::cleaning),
        };
        (any_csv::prepare(&options, &self.output.target()), self.output)
    }
}
