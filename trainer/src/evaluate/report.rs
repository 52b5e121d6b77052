//! The report: `index.html` that opens from disk, `report.json`, `measurements.csv`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use raygen_eval::{Measurement, Metric};
use serde::Serialize;

use super::memorisation::Found;
use crate::run::write_synced;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) data: String,
    pub(super) split: String,
    pub(super) films: usize,
    pub(super) patients: usize,
    pub(super) training_films: usize,
    /// What the features are of; none without a classifier.
    pub(super) extractor: Option<String>,
    pub(super) trainer: &'static str,
    pub(super) seed: u64,
    /// Of the real films themselves.
    pub(super) real: Vec<Measurement>,
    pub(super) sets: Vec<SetReport>,
}

/// Of one set of pictures.
#[derive(Debug, Serialize)]
pub(super) struct SetReport {
    pub(super) name: String,
    pub(super) pictures: usize,
    pub(super) prompts: usize,
    /// How they were sampled, where we generated them.
    pub(super) sampling: Option<raygen_model::sampler::SamplingParams>,
    pub(super) measurements: Vec<Measurement>,
    pub(super) memorisation: Vec<Found>,
    pub(super) sheets: Vec<Sheet>,
    pub(super) notices: Vec<String>,
}

/// A picture of the report.
#[derive(Debug, Serialize)]
pub(super) struct Sheet {
    pub(super) title: &'static str,
    /// Its file, seen from the report's folder.
    pub(super) file: String,
}

// === impl Report ===

impl Report {
    /// Writes all three files to `out`.
    pub(super) fn write(&self, out: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (name, bytes) in [
            ("report.json", json.into_bytes()),
            ("measurements.csv", self.csv()?),
            ("index.html", self.html()?.into_bytes()),
        ] {
            let path = out.join(name);
            write_synced(&path, &bytes).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn csv(&self) -> Result<Vec<u8>> {
        let mut table = csv::Writer::from_writer(Vec::new());
        let columns =
            ["set", "metric", "value", "lower", "upper", "samples", "protocol", "extractor", "undefined_reason"];
        table.write_record(columns)?;
        let real = self.real.iter().map(|number| ("real films", number));
        let sets = self.sets.iter().flat_map(|set| set.measurements.iter().map(|number| (set.name.as_str(), number)));
        for (set, number) in real.chain(sets) {
            let text = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
            table.write_record([
                set,
                &number.metric().to_string(),
                &text(number.value()),
                &text(number.interval().map(|interval| interval.lower)),
                &text(number.interval().map(|interval| interval.upper)),
                &number.sample_count().to_string(),
                number.protocol(),
                &number.extractor().map(ToString::to_string).unwrap_or_default(),
                number.undefined_reason().unwrap_or_default(),
            ])?;
        }
        Ok(table.into_inner()?)
    }

    fn html(&self) -> Result<String> {
        let mut page = String::from(HEAD);
        writeln!(
            page,
            "<h1>Evaluation</h1><p>{} films of {} patients ({}, split {}), held against {}. Seed {}, {}.</p>",
            self.films,
            self.patients,
            escape(&self.data),
            escape(&self.split),
            self.extractor.as_deref().map_or_else(|| "no classifier: no distances, no agreement".to_owned(), escape),
            self.seed,
            self.trainer
        )?;
        page.push_str("<p class=warning>The pictures are synthetic and never for diagnosis.</p>\n");
        self.summary(&mut page)?;
        for set in &self.sets {
            writeln!(
                page,
                "<h2>{}</h2><p>{} pictures from {} prompts.</p>",
                escape(&set.name),
                set.pictures,
                set.prompts
            )?;
            for notice in &set.notices {
                writeln!(page, "<p class=warning>{}</p>", escape(notice))?;
            }
            for sheet in &set.sheets {
                writeln!(
                    page,
                    "<figure><img src=\"{0}\" alt=\"{1}\"><figcaption>{1}</figcaption></figure>",
                    escape(&sheet.file),
                    escape(sheet.title)
                )?;
            }
            memorisation(&mut page, &set.memorisation)?;
            numbers(&mut page, &set.measurements)?;
        }
        page.push_str("<h2>Real films</h2>\n");
        numbers(&mut page, &self.real)?;
        page.push_str("</main></body></html>\n");
        Ok(page)
    }

    /// The paper's Table 2: a row for each set.
    fn summary(&self, page: &mut String) -> Result<()> {
        page.push_str("<table><thead><tr><th>Pictures</th>");
        for column in &COLUMNS {
            write!(page, "<th>{}</th>", column.title)?;
        }
        page.push_str("</tr></thead><tbody>\n");
        for set in &self.sets {
            write!(page, "<tr><th>{}</th>", escape(&set.name))?;
            for column in &COLUMNS {
                let found = set.measurements.iter().find(|number| column.is(number));
                write!(page, "<td>{}</td>", found.map_or_else(|| "–".to_owned(), value))?;
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table>\n<p>With 95 % intervals. Each number's protocol and number of samples stand below; numbers of different protocols, such as those in papers, do not compare.</p>\n");
        Ok(())
    }
}

/// A column of the summary: a metric, and a word that its protocol has.
struct Column {
    title: &'static str,
    metric: fn(&Metric) -> bool,
    protocol: &'static str,
}

const COLUMNS: [Column; 8] = [
    Column { title: "FID", metric: |metric| *metric == Metric::Fid, protocol: "" },
    Column { title: "KID beyond real", metric: |metric| *metric == Metric::Kid, protocol: "beyond real" },
    Column { title: "Precision", metric: |metric| *metric == Metric::Precision, protocol: "" },
    Column { title: "Recall", metric: |metric| *metric == Metric::Recall, protocol: "" },
    Column { title: "MS-SSIM, 1 pair", metric: |metric| *metric == Metric::MsSsim, protocol: "one pair a prompt" },
    Column { title: "MS-SSIM, 6 pairs", metric: |metric| *metric == Metric::MsSsim, protocol: "six pairs" },
    Column {
        title: "MS-SSIM, real pairs",
        metric: |metric| *metric == Metric::MsSsim,
        protocol: "real films of different patients, as they are",
    },
    Column {
        title: "AUROC of what was asked",
        metric: |metric| *metric == Metric::Auroc("macro".to_owned()),
        protocol: "",
    },
];

impl Column {
    fn is(&self, number: &Measurement) -> bool {
        (self.metric)(number.metric()) && number.protocol().contains(self.protocol)
    }
}

fn memorisation(page: &mut String, found: &[Found]) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    page.push_str("<h3>Memorisation</h3><table><thead><tr><th>In</th><th>Verdict</th><th>Far nearer</th><th>Near</th><th>Expected</th><th>p</th></tr></thead><tbody>\n");
    for space in found {
        writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{:.1} %</td><td>{:.1} %</td><td>{:.3}</td></tr>",
            space.space,
            space.verdict,
            space.copies,
            100.0 * space.near_share,
            100.0 * space.expected_share,
            space.p_value
        )?;
    }
    page.push_str("</tbody></table>\n<p>Near: nearer to a training film than the expected share of films that no model saw; far nearer: below half of that distance, and nearer than any of them. Copies are so, but blurred pictures, which are near to all films, may be too: look at the sheets. Not found is no proof.</p>\n");
    Ok(())
}

fn numbers(page: &mut String, numbers: &[Measurement]) -> Result<()> {
    page.push_str(
        "<table><thead><tr><th>Metric</th><th>Value</th><th>Samples</th><th>Protocol</th></tr></thead><tbody>\n",
    );
    for number in numbers {
        writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&number.metric().to_string()),
            value(number),
            number.sample_count(),
            escape(&number.protocol_and_extractor())
        )?;
    }
    page.push_str("</tbody></table>\n");
    Ok(())
}

fn value(number: &Measurement) -> String {
    match (number.value(), number.interval()) {
        (Some(value), Some(interval)) => {
            format!("{} <small>{} to {}</small>", short(value), short(interval.lower), short(interval.upper))
        }
        (Some(value), None) => short(value),
        (None, _) => {
            format!("undefined <small class=why>{}</small>", escape(number.undefined_reason().unwrap_or_default()))
        }
    }
}

/// Three decimals, or more where a number is small.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:.5}") } else { format!("{value:.3}") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>RayGen: evaluation</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums; }
small { opacity: .75; white-space: nowrap; }
.why { display: block; max-width: 11rem; white-space: normal; }
img { max-width: 100%; image-rendering: auto; }
figure { margin: 1rem 0; }
.warning { border-left: 3px solid #c60; padding-left: .75rem; }
</style></head><body><main>
"#;
