//! `curves.png`: the numbers of `metrics.jsonl` as curves, a panel a metric.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use raygen_eval::plot::{Colour, Figure, Panel, Series, Style};
use serde_json::{Map, Value};

use super::disk::write_synced;
use super::metrics::ROLL_BACK;

/// Panels in a row.
const COLUMNS: usize = 2;
/// Below so many points a curve is not smoothed.
const LEAST_SMOOTHED: usize = 20;
/// So many windows of the moving mean lie side by side in a curve.
const WINDOWS: usize = 50;
/// What is set and not measured has no noise to smooth.
const SET: &str = "learning_rate";

type Points = Vec<(f64, f64)>;

/// Draws `folder/metrics.jsonl` as `folder/curves.png`.
///
/// # Errors
/// Where the metrics cannot be read or the picture not be written.
pub(super) fn draw(folder: &Path, title: &str) -> Result<()> {
    let curves = Curves::read(&folder.join("metrics.jsonl"))?;
    let path = folder.join("curves.png");
    write_synced(&path, &curves.figure(title).to_png()?).with_context(|| path.display().to_string())
}

/// Points by event and metric.
#[derive(Default)]
struct Curves {
    train: BTreeMap<String, Points>,
    /// Of the events `validate` and `epoch`.
    validation: BTreeMap<String, Points>,
    marks: Vec<f64>,
}

// === impl Curves ===

impl Curves {
    fn read(path: &Path) -> io::Result<Self> {
        let mut curves = Self::default();
        for line in BufReader::new(File::open(path)?).lines() {
            // The line that is being written may be a half one.
            if let Ok(line) = serde_json::from_str::<Map<String, Value>>(&line?) {
                curves.take(&line);
            }
        }
        Ok(curves)
    }

    fn take(&mut self, line: &Map<String, Value>) {
        let Some(step) = line.get("step").and_then(Value::as_f64) else { return };
        let event = line.get("event").and_then(Value::as_str).unwrap_or_default();
        if event == ROLL_BACK {
            self.marks.push(step);
            return;
        }
        for (name, value) in line.iter().filter(|(name, _)| *name != "step" && *name != "event") {
            let curves = match event {
                "train" => &mut self.train,
                // The same number stands in the lines of training.
                _ if name == SET => continue,
                _ => &mut self.validation,
            };
            // null stands for what is no number: the curve breaks there.
            curves.entry(name.clone()).or_default().push((step, value.as_f64().unwrap_or(f64::NAN)));
        }
    }

    /// The loss, then what was validated, then the rest.
    fn figure(&self, title: &str) -> Figure {
        let mut panels = Vec::new();
        panels.extend(self.train.get("loss").map(|points| trained("loss", points)));
        for (name, points) in &self.validation {
            // `nll_without_text` is drawn beside `nll`: their difference is what one looks for.
            let is_variant = self.validation.keys().any(|other| variant(name, other).is_some());
            // What was never a number, such as the AUROC of a class without films, has no curve.
            let is_measured = points.iter().any(|(_, y)| y.is_finite());
            if !is_variant && is_measured {
                panels.push(self.validated(name, points));
            }
        }
        panels
            .extend(self.train.iter().filter(|(name, _)| *name != "loss").map(|(name, points)| trained(name, points)));
        let empty = Figure::new(title, COLUMNS);
        let all = self.train.values().chain(self.validation.values()).flatten();
        let last = all.map(|(step, _)| *step).fold(1.0, f64::max);
        panels
            .into_iter()
            .fold(empty, |figure, panel| figure.with(panel.x_range(0.0, last).marks("rolled back", self.marks.clone())))
    }

    fn validated(&self, name: &str, points: &Points) -> Panel {
        let variants = self.validation.iter().filter_map(|(other, points)| Some((variant(other, name)?, points)));
        let curves: Vec<(&str, &Points)> = std::iter::once(("validation", points)).chain(variants).collect();
        let colours = Colour::DISTINCT.iter().skip(1).cycle();
        curves.into_iter().zip(colours).fold(Panel::new(readable(name), "step"), |panel, ((label, points), colour)| {
            panel.with(Series::new(readable(label), points.clone(), *colour, Style::Dots))
        })
    }
}

/// What `name` says beyond `of`, where it is that metric under another condition.
fn variant<'n>(name: &'n str, of: &str) -> Option<&'n str> {
    name.strip_prefix(of)?.strip_prefix('_')
}

/// As measured, pale, and its moving mean.
fn trained(name: &str, points: &Points) -> Panel {
    let panel = Panel::new(readable(name), "step");
    let colour = Colour::BLUE;
    if name == SET || points.len() < LEAST_SMOOTHED {
        return panel.with(Series::new("train", points.clone(), colour, Style::Line));
    }
    let window = (points.len() / WINDOWS).max(LEAST_SMOOTHED / 4);
    panel.with(Series::new("train", points.clone(), colour, Style::Faint)).with(Series::new(
        format!("mean of {window} steps"),
        smoothed(points, window),
        colour,
        Style::Line,
    ))
}

/// The mean of each point and those up to `window - 1` before it; what is no number is left out.
fn smoothed(points: &Points, window: usize) -> Points {
    let (mut sum, mut count) = (0.0, 0usize);
    let number = |value: f64| if value.is_finite() { (value, 1) } else { (0.0, 0) };
    points
        .iter()
        .enumerate()
        .map(|(place, (x, y))| {
            let (value, one) = number(*y);
            (sum, count) = (sum + value, count + one);
            if let Some(gone) = place.checked_sub(window) {
                let (value, one) = number(points[gone].1);
                (sum, count) = (sum - value, count - one);
            }
            (*x, if count > 0 { sum / count as f64 } else { f64::NAN })
        })
        .collect()
}

fn readable(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    /// Lines as a transformer writes them.
    fn metrics(steps: u64) -> String {
        let mut text = String::new();
        for step in 1..=steps {
            let x = step as f64;
            // Noise without a generator.
            let noise = (x * 12.9898).sin() * (x * 78.233).cos();
            let loss = 3.6 + 2.8 * (-x / 700.0).exp() + 0.35 * noise;
            let norm = 0.6 + 0.5 * noise.abs() + if step % 311 == 0 { 40.0 } else { 0.0 };
            let rate = 8e-4 * (x / 200.0).min(1.0) * 0.5 * (1.0 + (x / steps as f64 * 3.1).cos());
            text += &format!(
                "{{\"event\":\"train\",\"step\":{step},\"loss\":{loss},\"gradient_norm\":{norm},\"learning_rate\":{rate}}}\n"
            );
            if step % 250 == 0 {
                let nll = 3.9 + 2.1 * (-x / 900.0).exp();
                let without = nll + 0.12 * (1.0 - (-x / 1500.0).exp());
                let accuracy = 0.19 * (1.0 - (-x / 1200.0).exp());
                text += &format!(
                    "{{\"event\":\"validate\",\"step\":{step},\"nll\":{nll},\"nll_without_text\":{without},\"accuracy\":{accuracy}}}\n"
                );
            }
            if step == steps * 2 / 5 {
                text += &format!("{{\"event\":\"roll_back\",\"step\":{step},\"loss\":null}}\n");
            }
        }
        text + "{\"event\":\"tra"
    }

    #[test]
    fn every_metric_has_a_panel_and_variants_share_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("metrics.jsonl"), metrics(3000)).unwrap();
        draw(folder.path(), "nih-128: transformer").unwrap();
        let bytes = fs::read(folder.path().join("curves.png")).unwrap();
        let info = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap().info().size();
        // loss, accuracy, nll with its variant, gradient norm, learning rate: five panels in three rows of two.
        let rows = |panels: u32| panels.div_ceil(2) * 400;
        assert_eq!(info.0, 2 * 720 + 32);
        assert!(info.1 > rows(5) && info.1 < rows(7), "{info:?}");
        let curves = Curves::read(&folder.path().join("metrics.jsonl")).unwrap();
        assert_eq!((curves.train.len(), curves.validation.len(), curves.marks.len()), (3, 3, 1));
    }

    #[test]
    fn the_moving_mean_looks_back_and_passes_over_what_is_no_number() {
        let points: Points = [2.0, 4.0, f64::NAN, 8.0, 2.0].iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
        let ys: Vec<f64> = smoothed(&points, 2).into_iter().map(|(_, y)| y).collect();
        assert_eq!(ys, [2.0, 3.0, 4.0, 8.0, 5.0]);
    }
}
