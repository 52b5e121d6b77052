//! A number with all that is needed to compare it, and the refusal to compare what does not compare.

mod metric;
mod of_metrics;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::metric::{Metric, UnknownMetric};

use crate::features::Extractor;
use crate::statistics::Interval;

/// A number, as it leaves: JSON with the field names of the wire's `Metric`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct Measurement {
    metric: Metric,
    /// What it is, or why it has no value.
    value: Result<f64, String>,
    interval: Option<Interval>,
    protocol: String,
    extractor: Option<Extractor>,
    sample_count: u64,
}

/// Second minus first of two comparable measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasurementDifference {
    /// The difference.
    pub difference: f64,
    /// Whether the second is the better one.
    pub better: bool,
    /// Whether the intervals have nothing in common: sufficient for a difference, not necessary (a paired test finds more).
    pub intervals_apart: bool,
}

/// Two numbers that do not compare, and all that they differ in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these numbers do not compare: {}", self.mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Incomparable {
    /// What they differ in; at least one.
    pub mismatches: Vec<Mismatch>,
}

/// What two numbers differ in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// They measure different things.
    Metric(Metric, Metric),
    /// They were measured differently.
    Protocol(String, String),
    /// Their features are of different networks or preprocessings.
    Extractor(Option<Extractor>, Option<Extractor>),
    /// They rest on different numbers of samples, and the metric depends on that.
    SampleCount(u64, u64),
    /// One has no value, for this reason.
    Undefined(String),
}

// === impl Measurement ===

impl Measurement {
    /// A value from `sample_count` samples. A value that is no number is undefined.
    #[must_use]
    pub fn new(metric: Metric, value: f64, protocol: impl Into<String>, sample_count: u64) -> Self {
        let value = if value.is_finite() { Ok(value) } else { Err(format!("the value is {value}")) };
        Self { metric, value, interval: None, protocol: protocol.into(), extractor: None, sample_count }
    }

    /// No value, and why.
    #[must_use]
    pub fn undefined(
        metric: Metric,
        reason: impl Into<String>,
        protocol: impl Into<String>,
        sample_count: u64,
    ) -> Self {
        let value = Err(reason.into());
        Self { metric, value, interval: None, protocol: protocol.into(), extractor: None, sample_count }
    }

    /// With its 95 % interval, where there is one; ends that are no numbers are none.
    #[must_use]
    pub fn with_interval(mut self, interval: Option<Interval>) -> Self {
        self.interval = interval.filter(|interval| interval.lower.is_finite() && interval.upper.is_finite());
        self
    }

    /// With what made its features or probabilities.
    #[must_use]
    pub fn with_extractor(mut self, extractor: Extractor) -> Self {
        self.extractor = Some(extractor);
        self
    }

    /// What is measured.
    #[must_use]
    pub fn metric(&self) -> &Metric {
        &self.metric
    }

    /// The value; `None` where it is undefined.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.value.as_ref().ok().copied()
    }

    /// Why there is no value.
    #[must_use]
    pub fn undefined_reason(&self) -> Option<&str> {
        self.value.as_ref().err().map(String::as_str)
    }

    /// The 95 % interval.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        self.interval
    }

    /// How it was measured.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// What made its features or probabilities.
    #[must_use]
    pub fn extractor(&self) -> Option<&Extractor> {
        self.extractor.as_ref()
    }

    /// Samples that it rests on.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.sample_count
    }

    /// Protocol and extractor in one string: the wire has one field for both.
    #[must_use]
    pub fn protocol_and_extractor(&self) -> String {
        match &self.extractor {
            Some(extractor) => format!("{}; {extractor}", self.protocol),
            None => self.protocol.clone(),
        }
    }

    /// What `other`, the later one, has more than this.
    ///
    /// # Errors
    /// [`Incomparable`] if metric, protocol or extractor differ, if one is undefined, or, for metrics that depend on it, if
    /// the number of samples differs.
    pub fn compare(&self, other: &Self) -> Result<MeasurementDifference, Incomparable> {
        let mut mismatches = Vec::new();
        if self.metric != other.metric {
            mismatches.push(Mismatch::Metric(self.metric.clone(), other.metric.clone()));
        }
        if self.protocol != other.protocol {
            mismatches.push(Mismatch::Protocol(self.protocol.clone(), other.protocol.clone()));
        }
        if self.extractor != other.extractor {
            mismatches.push(Mismatch::Extractor(self.extractor.clone(), other.extractor.clone()));
        }
        if self.metric.depends_on_sample_count() && self.sample_count != other.sample_count {
            mismatches.push(Mismatch::SampleCount(self.sample_count, other.sample_count));
        }
        let reasons = [self, other].into_iter().filter_map(Self::undefined_reason);
        mismatches.extend(reasons.map(|reason| Mismatch::Undefined(reason.to_owned())));
        match (self.value(), other.value()) {
            (Some(first), Some(second)) if mismatches.is_empty() => {
                let better = if self.metric.higher_is_better() { second > first } else { second < first };
                let apart = |(a, b): (Interval, Interval)| a.upper < b.lower || b.upper < a.lower;
                let intervals_apart = self.interval.zip(other.interval).is_some_and(apart);
                Ok(MeasurementDifference { difference: second - first, better, intervals_apart })
            }
            _ => Err(Incomparable { mismatches }),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |extractor: &Option<Extractor>| match extractor {
            Some(extractor) => extractor.to_string(),
            None => "none".to_owned(),
        };
        match self {
            Self::Metric(first, second) => write!(f, "metrics {first} and {second}"),
            Self::Protocol(first, second) => write!(f, "protocols \"{first}\" and \"{second}\""),
            Self::Extractor(first, second) => write!(f, "extractors {} and {}", named(first), named(second)),
            Self::SampleCount(first, second) => write!(f, "{first} and {second} samples, on which this metric depends"),
            Self::Undefined(reason) => write!(f, "undefined: {reason}"),
        }
    }
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
struct Record {
    name: Metric,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lower: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upper: Option<f64>,
    protocol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extractor: Option<Extractor>,
    sample_count: u64,
    higher_is_better: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undefined_reason: Option<String>,
}

impl From<Measurement> for Record {
    fn from(measurement: Measurement) -> Self {
        let higher_is_better = measurement.metric.higher_is_better();
        let (value, undefined_reason) = match measurement.value {
            Ok(value) => (Some(value), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            name: measurement.metric,
            value,
            lower: measurement.interval.map(|interval| interval.lower),
            upper: measurement.interval.map(|interval| interval.upper),
            protocol: measurement.protocol,
            extractor: measurement.extractor,
            sample_count: measurement.sample_count,
            higher_is_better,
            undefined_reason,
        }
    }
}

impl TryFrom<Record> for Measurement {
    type Error = String;

    fn try_from(record: Record) -> Result<Self, String> {
        let Record { name: metric, value, lower, upper, protocol, extractor, sample_count, .. } = record;
        if record.higher_is_better != metric.higher_is_better() {
            return Err(format!(
                "the file says that {} of {metric} is better",
                if record.higher_is_better { "more" } else { "less" }
            ));
        }
        let measurement = match (value, record.undefined_reason) {
            (Some(value), None) => Self::new(metric, value, protocol, sample_count),
            (None, Some(reason)) => Self::undefined(metric, reason, protocol, sample_count),
            (None, None) => return Err(format!("{metric} has neither a value nor a reason why it has none")),
            (Some(_), Some(_)) => return Err(format!("{metric} has both a value and a reason why it has none")),
        };
        let interval = lower.zip(upper).map(|(lower, upper)| Interval { lower, upper });
        Ok(Self { extractor, ..measurement.with_interval(interval) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fid(value: f64, samples: u64) -> Measurement {
        let extractor = Extractor { name: "chex".to_owned(), preprocessing: "224; ReLU".to_owned() };
        Measurement::new(Metric::Fid, value, "Fréchet distance, N-1", samples).with_extractor(extractor)
    }

    #[test]
    fn numbers_of_another_protocol_extractor_or_sample_count_refuse_to_be_compared() {
        let ours = fid(7.9, 2568);
        let theirs = Measurement::new(Metric::Fid, 3.6, "clean-fid", 5000)
            .with_extractor(Extractor { name: "all".to_owned(), preprocessing: "224".to_owned() });
        let refused = ours.compare(&theirs).expect_err("refused");
        assert_eq!(refused.mismatches.len(), 3);
        let message = refused.to_string();
        for part in ["\"clean-fid\"", "chex (224; ReLU) and all (224)", "2568 and 5000 samples"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(
            ours.compare(&fid(8.9, 2568)).map(|difference| (difference.difference, difference.better)),
            Ok((1.0, false))
        );
        // What does not depend on the number of samples compares.
        let kid = |samples| Measurement::new(Metric::Kid, 0.1, "all samples", samples);
        assert!(kid(10).compare(&kid(20)).is_ok());
    }

    #[test]
    fn what_is_undefined_is_compared_with_nothing() {
        let none = Measurement::undefined(Metric::Auroc("Fracture".to_owned()), "no positive", "all films", 200);
        let refused = none.compare(&none).expect_err("refused");
        assert_eq!(refused.mismatches[0], Mismatch::Undefined("no positive".to_owned()));
        assert_eq!(fid(f64::NAN, 3).undefined_reason(), Some("the value is NaN"));
    }

    #[test]
    fn intervals_that_touch_are_not_apart() {
        let within =
            |value: f64| fid(value, 9).with_interval(Some(Interval { lower: value - 1.0, upper: value + 1.0 }));
        assert_eq!(within(1.0).compare(&within(3.0)).map(|difference| difference.intervals_apart), Ok(false));
        assert_eq!(within(1.0).compare(&within(3.1)).map(|difference| difference.intervals_apart), Ok(true));
    }

    #[test]
    fn the_json_has_the_wires_field_names_and_comes_back() -> Result<(), serde_json::Error> {
        let measured = fid(7.5, 100).with_interval(Some(Interval { lower: 7.0, upper: 8.0 }));
        let json = serde_json::to_value(&measured)?;
        let expected = serde_json::json!({
            "name": "fid", "value": 7.5, "lower": 7.0, "upper": 8.0, "protocol": "Fréchet distance, N-1",
            "extractor": {"name": "chex", "preprocessing": "224; ReLU"}, "sample_count": 100, "higher_is_better": false,
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Measurement>(json)?, measured);
        let undefined = Measurement::undefined(Metric::auroc_macro(), "no class", "p", 0);
        let json = serde_json::to_value(&undefined)?;
        assert_eq!((&json["name"], &json["undefined_reason"]), (&"auroc/macro".into(), &"no class".into()));
        assert!(json.get("value").is_none());
        assert_eq!(serde_json::from_value::<Measurement>(json)?, undefined);
        let neither = serde_json::json!({"name": "fid", "protocol": "p", "sample_count": 1, "higher_is_better": false});
        assert!(serde_json::from_value::<Measurement>(neither).is_err());
        Ok(())
    }
}
