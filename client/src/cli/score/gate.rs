//! Gates: thresholds on metrics, from a TOML file, and the verdict on a report.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::report::{MetricRow, Report};
use crate::cli::{failure::Failure, files::read};

/// Thresholds by the metric's name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Gate {
    metrics: BTreeMap<String, Thresholds>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Fails below.
    min: Option<f64>,
    /// Fails above.
    max: Option<f64>,
    /// Fails where it is worse than the baseline by more than this.
    max_drop: Option<f64>,
}

/// What a gate says of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Whether every check passed.
    pub(crate) passed: bool,
    /// One for each threshold.
    pub(crate) checks: Vec<Check>,
}

/// One threshold and how the metric stands to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) metric: String,
    /// `min`, `max` or `max_drop`.
    pub(crate) kind: String,
    pub(crate) limit: f64,
    /// The metric; for `max_drop`, by how much it is worse than the baseline.
    pub(crate) value: f64,
    pub(crate) passed: bool,
}

impl Gate {
    /// Reads and checks a gate file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = read(path)?;
        let text =
            String::from_utf8(bytes).map_err(|_| Failure::Usage(format!("{}: is not UTF-8 text", path.display())))?;
        Self::parse(&text).map_err(|problem| Failure::Usage(format!("{}: {problem}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let gate: Self = toml::from_str(text).map_err(|error| format!("is no gate file: {error}"))?;
        if gate.metrics.is_empty() {
            return Err("judges nothing; write a table for each metric, such as [nll] with max = 5.0".to_owned());
        }
        for (name, thresholds) in &gate.metrics {
            let limits = [thresholds.min, thresholds.max, thresholds.max_drop];
            if limits.iter().all(Option::is_none) {
                return Err(format!("[{name}]: has no threshold; write min, max or max_drop"));
            }
            if limits.iter().flatten().any(|limit| !limit.is_finite()) {
                return Err(format!("[{name}]: a threshold must be a number"));
            }
        }
        Ok(gate)
    }

    /// Judges metrics. What is missing or undefined cannot be judged, which is not the same as failing.
    pub(super) fn judge(&self, metrics: &[MetricRow], baseline: Option<&Report>) -> Result<Verdict, Failure> {
        let not_judged = |name: &str, problem: String| Failure::NotJudged(format!("{name}: {problem}"));
        let mut checks = Vec::new();
        for (name, thresholds) in &self.metrics {
            let metric = metrics.iter().find(|metric| metric.name == *name).ok_or_else(|| {
                let there: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
                not_judged(name, format!("the server sent no such metric; it sent {}", there.join(", ")))
            })?;
            let value = metric.value.ok_or_else(|| not_judged(name, format!("is undefined: {}", reason(metric))))?;
            let mut check = |kind: &str, limit: Option<f64>, value: f64, passes: fn(f64, f64) -> bool| {
                if let Some(limit) = limit {
                    let passed = passes(value, limit);
                    checks.push(Check { metric: name.clone(), kind: kind.to_owned(), limit, value, passed });
                }
            };
            check("min", thresholds.min, value, |value, limit| value >= limit);
            check("max", thresholds.max, value, |value, limit| value <= limit);
            if thresholds.max_drop.is_some() {
                let former = former(metric, baseline).map_err(|problem| not_judged(name, problem))?;
                let drop = if metric.higher_is_better { former - value } else { value - former };
                check("max_drop", thresholds.max_drop, drop, |drop, limit| drop <= limit);
            }
        }
        Ok(Verdict { passed: checks.iter().all(|check| check.passed), checks })
    }
}

/// The baseline's value, where it may be compared.
fn former(metric: &MetricRow, baseline: Option<&Report>) -> Result<f64, String> {
    let baseline = baseline.ok_or("max_drop needs a --baseline to compare with")?;
    let former = baseline.metric(&metric.name).ok_or("the baseline does not have it")?;
    if former.protocol != metric.protocol {
        return Err(format!("the baseline's protocol is \"{}\", this one is \"{}\"", former.protocol, metric.protocol));
    }
    former.value.ok_or_else(|| format!("is undefined in the baseline: {}", reason(former)))
}

fn reason(metric: &MetricRow) -> &str {
    if metric.undefined_reason.is_empty() { "the server does not say why" } else { &metric.undefined_reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value: Option<f64>, higher_is_better: bool) -> MetricRow {
        MetricRow {
            name: name.to_owned(),
            value,
            lower: None,
            upper: None,
            protocol: "p".to_owned(),
            sample_count: 10,
            higher_is_better,
            undefined_reason: String::new(),
        }
    }

    fn report(metrics: Vec<MetricRow>) -> Report {
        Report { model: String::new(), against: None, items: Vec::new(), metrics, gate: None }
    }

    fn judge(gate: &str, metrics: &[MetricRow], baseline: Option<&Report>) -> Result<Verdict, String> {
        Gate::parse(gate)?.judge(metrics, baseline).map_err(|failure| failure.message())
    }

    #[test]
    fn a_metric_passes_up_to_its_threshold_and_fails_beyond() -> Result<(), String> {
        let metrics = [metric("nll", Some(5.0), false), metric("accuracy", Some(0.1), true)];
        assert!(judge("[nll]\nmax = 5.0\n[accuracy]\nmin = 0.1", &metrics, None)?.passed);
        let verdict = judge("[nll]\nmax = 4.9\n[accuracy]\nmin = 0.1", &metrics, None)?;
        assert!(!verdict.passed);
        let failed: Vec<&str> =
            verdict.checks.iter().filter(|check| !check.passed).map(|check| check.metric.as_str()).collect();
        assert_eq!(failed, ["nll"]);
        Ok(())
    }

    #[test]
    fn a_drop_is_measured_in_the_direction_that_is_worse() -> Result<(), String> {
        let baseline = report(vec![metric("nll", Some(4.0), false), metric("accuracy", Some(0.5), true)]);
        let better = [metric("nll", Some(3.0), false), metric("accuracy", Some(0.9), true)];
        let worse = [metric("nll", Some(4.2), false), metric("accuracy", Some(0.3), true)];
        let gate = "[nll]\nmax_drop = 0.1\n[accuracy]\nmax_drop = 0.1";
        assert!(judge(gate, &better, Some(&baseline))?.passed);
        assert_eq!(judge(gate, &worse, Some(&baseline))?.checks.iter().filter(|check| !check.passed).count(), 2);
        Ok(())
    }

    #[test]
    fn what_is_missing_undefined_or_of_another_protocol_is_not_judged() {
        let metrics = [metric("nll", None, false), metric("accuracy", Some(0.5), true)];
        let says = |gate, baseline, expected: &str| {
            let message = judge(gate, &metrics, baseline).err().unwrap_or_default();
            assert!(message.contains(expected), "{message}");
        };
        says("[fid]\nmax = 1", None, "no such metric; it sent nll, accuracy");
        says("[nll]\nmax = 1", None, "nll: is undefined");
        says("[accuracy]\nmax_drop = 1", None, "needs a --baseline");
        let mut other = report(vec![metric("accuracy", Some(0.5), true)]);
        other.metrics[0].protocol = "q".to_owned();
        says("[accuracy]\nmax_drop = 1", Some(&other), "protocol is \"q\"");
    }

    #[test]
    fn a_gate_file_that_judges_nothing_or_misspells_is_refused() {
        for (text, expected) in [
            ("", "judges nothing"),
            ("[nll]", "no threshold"),
            ("[nll]\nmaximum = 5", "unknown field `maximum`"),
            ("[nll]\nmax = nan", "must be a number"),
            ("nll = 5", "is no gate file"),
        ] {
            let problem = Gate::parse(text).err().unwrap_or_default();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
