//! The report as a table: for the terminal, and in Markdown.

use super::report::{MetricRow, Report};
use crate::cli::output::printable;

/// What each column is called.
const HEADER: [&str; 6] = ["metric", "value", "95 % interval", "films", "baseline", "change"];

/// The table for a terminal.
pub(super) fn words(report: &Report, baseline: Option<&Report>) -> String {
    let columns = if baseline.is_some() { HEADER.len() } else { HEADER.len() - 2 };
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(report.metrics.iter().map(|metric| row(metric, baseline)));
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut lines = vec![printable(&report.model)];
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        lines.push(format!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end()));
    }
    for metric in report.metrics.iter().filter(|metric| metric.value.is_none()) {
        lines.push(format!("  {} is undefined: {}", printable(&metric.name), printable(&metric.undefined_reason)));
    }
    lines.extend(verdict(report));
    lines.join("\n")
}

/// The table in Markdown.
pub(super) fn markdown(report: &Report, baseline: Option<&Report>) -> String {
    let columns = if baseline.is_some() { HEADER.len() } else { HEADER.len() - 2 };
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("### {}\n\n", escaped(&report.model));
    text.push_str(&line(&HEADER.map(str::to_owned)[..columns]));
    text.push_str(&line(&vec!["---".to_owned(); columns]));
    for metric in &report.metrics {
        text.push_str(&line(&row(metric, baseline).map(|cell| escaped(&cell))[..columns]));
    }
    let verdict = verdict(report);
    if !verdict.is_empty() {
        let lines: Vec<String> = verdict.iter().map(|line| escaped(line.trim())).collect();
        text.push_str(&format!("\n{}\n", lines.join("  \n")));
    }
    text
}

fn row(metric: &MetricRow, baseline: Option<&Report>) -> [String; HEADER.len()] {
    let number = |value: Option<f64>| value.map_or_else(|| "undefined".to_owned(), |value| format!("{value:.4}"));
    let interval = match (metric.lower, metric.upper) {
        (Some(lower), Some(upper)) => format!("{lower:.4} to {upper:.4}"),
        _ => String::new(),
    };
    let former = baseline.and_then(|baseline| baseline.metric(&metric.name));
    let change = match (metric.value, former) {
        (_, Some(former)) if former.protocol != metric.protocol => "another protocol".to_owned(),
        (Some(value), Some(MetricRow { value: Some(former), .. })) => {
            let better = if metric.higher_is_better { value > *former } else { value < *former };
            let word = if value == *former {
                ""
            } else if better {
                " better"
            } else {
                " worse"
            };
            format!("{:+.4}{word}", value - former)
        }
        _ => String::new(),
    };
    [
        printable(&metric.name),
        number(metric.value),
        interval,
        metric.sample_count.to_string(),
        former.map_or_else(String::new, |former| number(former.value)),
        change,
    ]
}

/// One line for each check, then the verdict.
fn verdict(report: &Report) -> Vec<String> {
    let Some(gate) = &report.gate else { return Vec::new() };
    let mut lines: Vec<String> = (gate.checks.iter())
        .map(|check| {
            let word = if check.passed { "passed" } else { "FAILED" };
            format!("  {word}  {} {} {}: {:.4}", check.metric, check.kind, check.limit, check.value)
        })
        .collect();
    lines.push(format!("gate {}", if gate.passed { "passed" } else { "failed" }));
    lines
}

fn escaped(text: &str) -> String {
    printable(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::score::gate::{Check, Verdict};

    fn report(value: f64) -> Report {
        let metric = MetricRow {
            name: "nll".to_owned(),
            value: Some(value),
            lower: Some(3.9),
            upper: Some(4.1),
            protocol: "p".to_owned(),
            sample_count: 98,
            higher_is_better: false,
            undefined_reason: String::new(),
        };
        let undefined = MetricRow {
            name: "a|b".to_owned(),
            value: None,
            undefined_reason: "no films".to_owned(),
            lower: None,
            ..metric.clone()
        };
        Report {
            model: "models/m/versions/1".to_owned(),
            against: None,
            items: Vec::new(),
            metrics: vec![metric, undefined],
            gate: None,
        }
    }

    #[test]
    fn the_terminal_shows_values_intervals_and_what_is_undefined() {
        let words = words(&report(4.0), None);
        assert!(words.contains("nll     4.0000     3.9000 to 4.1000  98"), "{words}");
        assert!(words.contains("a|b is undefined: no films"), "{words}");
        assert!(!words.contains("baseline"), "{words}");
    }

    #[test]
    fn markdown_compares_with_the_baseline_and_lists_the_checks() {
        let mut new = report(4.5);
        let check = Check { metric: "nll".to_owned(), kind: "max".to_owned(), limit: 4.2, value: 4.5, passed: false };
        new.gate = Some(Verdict { passed: false, checks: vec![check] });
        let text = markdown(&new, Some(&report(4.0)));
        assert!(text.contains("| nll | 4.5000 | 3.9000 to 4.1000 | 98 | 4.0000 | +0.5000 worse |"), "{text}");
        assert!(text.contains("| a\\|b | undefined |"), "{text}");
        assert!(text.contains("FAILED  nll max 4.2: 4.5000  \ngate failed"), "{text}");
    }
}
