//! The report as JUnit XML: each check of the gate is a test case; without a gate, each metric is one.

use super::report::Report;

/// The XML document.
pub(super) fn xml(report: &Report) -> String {
    let mut cases = Vec::new();
    match &report.gate {
        Some(gate) => {
            for check in &gate.checks {
                let name = escaped(&format!("{} {} {}", check.metric, check.kind, check.limit));
                let detail = format!("{:.6}, limit {} ({})", check.value, check.limit, check.kind);
                let failure =
                    if check.passed { String::new() } else { format!("<failure message=\"{}\"/>", escaped(&detail)) };
                cases.push((name, failure));
            }
        }
        None => {
            for metric in &report.metrics {
                let skipped = match metric.value {
                    Some(_) => String::new(),
                    None => format!("<skipped message=\"{}\"/>", escaped(&metric.undefined_reason)),
                };
                cases.push((escaped(&metric.name), skipped));
            }
        }
    }
    let count = |tag: &str| cases.iter().filter(|(_, inner)| inner.starts_with(tag)).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"raygen score\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
        cases.len(),
        count("<failure"),
        count("<skipped"),
    );
    let model = escaped(&report.model);
    for (name, inner) in &cases {
        xml.push_str(&format!("    <testcase classname=\"{model}\" name=\"{name}\">{inner}</testcase>\n"));
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Text in an attribute. XML 1.0 has no way to write most control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::score::gate::{Check, Verdict};

    #[test]
    fn a_failed_check_is_a_failed_test_case_and_names_are_escaped() {
        let check = |metric: &str, passed| Check {
            metric: metric.to_owned(),
            kind: "max".to_owned(),
            limit: 1.0,
            value: 2.0,
            passed,
        };
        let gate = Verdict { passed: false, checks: vec![check("nll", false), check("a<\"b\">", true)] };
        let report =
            Report { model: "m&m".to_owned(), against: None, items: Vec::new(), metrics: Vec::new(), gate: Some(gate) };
        let xml = xml(&report);
        assert!(xml.contains("tests=\"2\" failures=\"1\" skipped=\"0\""), "{xml}");
        assert!(
            xml.contains(
                "<testcase classname=\"m&amp;m\" name=\"nll max 1\"><failure message=\"2.000000, limit 1 (max)\"/>"
            ),
            "{xml}"
        );
        assert!(xml.contains("name=\"a&lt;&quot;b&quot;&gt; max 1\"></testcase>"), "{xml}");
    }
}
