//! The report: what `--json-out` writes and `--baseline` reads, with the proto's field names.

use std::path::Path;

use raygen_client::wire::{ItemScore, Metric};
use serde::{Deserialize, Serialize};

use super::gate::Verdict;
use crate::cli::{failure::Failure, files::read};

/// Everything about one scoring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Resolved name of the model.
    pub(crate) model: String,
    /// The model it is compared with on the same films; none yet.
    pub(crate) against: Option<String>,
    /// The films' scores, in the order they came.
    #[serde(default)]
    pub(crate) items: Vec<Item>,
    /// Metrics over the set.
    pub(crate) metrics: Vec<MetricRow>,
    /// The gate's verdict, where one was given.
    #[serde(default)]
    pub(crate) gate: Option<Verdict>,
}

/// `ItemScore` of the proto.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    id: String,
    ratios: Vec<Ratio>,
    nll: Option<f64>,
    text_gain: Option<f64>,
    reconstruction_psnr: Option<f64>,
}

/// `RatioScore` of the proto.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ratio {
    mask_ratio: f32,
    nll: Option<f64>,
    accuracy: Option<f64>,
}

/// `Metric` of the proto.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetricRow {
    pub(crate) name: String,
    pub(crate) value: Option<f64>,
    pub(crate) lower: Option<f64>,
    pub(crate) upper: Option<f64>,
    pub(crate) protocol: String,
    pub(crate) sample_count: u64,
    pub(crate) higher_is_better: bool,
    pub(crate) undefined_reason: String,
}

impl Report {
    pub(super) fn new(model: String, items: &[ItemScore], metrics: &[Metric]) -> Self {
        let metrics = metrics.iter().map(MetricRow::from).collect();
        Self { model, against: None, items: items.iter().map(Item::from).collect(), metrics, gate: None }
    }

    /// A metric by its name.
    pub(super) fn metric(&self, name: &str) -> Option<&MetricRow> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

impl From<&ItemScore> for Item {
    fn from(item: &ItemScore) -> Self {
        let ratio = |ratio: &raygen_client::wire::RatioScore| Ratio {
            mask_ratio: ratio.mask_ratio,
            nll: Some(ratio.nll),
            accuracy: Some(ratio.accuracy),
        };
        Self {
            id: item.id.clone(),
            ratios: item.ratios.iter().map(ratio).collect(),
            nll: Some(item.nll),
            text_gain: Some(item.text_gain),
            reconstruction_psnr: item.reconstruction_psnr,
        }
    }
}

impl From<&Metric> for MetricRow {
    fn from(metric: &Metric) -> Self {
        Self {
            name: metric.name.clone(),
            // JSON knows no NaN: what is no number is undefined, here as in the file.
            value: metric.value.filter(|value| value.is_finite()),
            lower: metric.lower.filter(|value| value.is_finite()),
            upper: metric.upper.filter(|value| value.is_finite()),
            protocol: metric.protocol.clone(),
            sample_count: metric.sample_count,
            higher_is_better: metric.higher_is_better,
            undefined_reason: metric.undefined_reason.clone(),
        }
    }
}

/// Reads a former `--json-out`.
pub(super) fn read_baseline(path: &Path) -> Result<Report, Failure> {
    serde_json::from_slice(&read(path)?)
        .map_err(|error| Failure::Usage(format!("{}: is no report as --json-out writes it: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use raygen_client::wire::RatioScore;

    use super::*;

    #[test]
    fn a_report_is_a_baseline_for_the_next() -> Result<(), Box<dyn std::error::Error>> {
        let ratios = vec![RatioScore { mask_ratio: 0.5, nll: 4.0, accuracy: 0.25 }];
        let item = ItemScore { id: "a.png".into(), ratios, nll: 4.0, text_gain: 0.5, reconstruction_psnr: None };
        let metric = Metric { name: "nll".into(), value: Some(f64::NAN), protocol: "mask".into(), ..Metric::default() };
        let report = Report::new("models/m/versions/1".into(), &[item], &[metric]);
        assert_eq!(report.metrics[0].value, None);
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("report.json");
        let text = serde_json::to_string(&report)?;
        assert!(
            text.starts_with(
                r#"{"model":"models/m/versions/1","against":null,"items":[{"id":"a.png","ratios":[{"mask_ratio":0.5,"#
            ),
            "{text}"
        );
        std::fs::write(&path, text)?;
        assert_eq!(read_baseline(&path).ok(), Some(report));
        std::fs::write(&path, "{}")?;
        assert_eq!(read_baseline(&path).err().map(|failure| failure.exit_code()), Some(2));
        Ok(())
    }
}
