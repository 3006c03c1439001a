//! Metrics in CloudWatch's embedded metric format: CloudWatch reads them from the log, so they cost no call.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::write_line;

/// The CloudWatch namespace, unless the configuration names another.
const NAMESPACE: &str = "Holdfast";

/// CloudWatch takes at most this many characters as a namespace.
const LONGEST_NAMESPACE: usize = 255;

/// CloudWatch takes at most this many values of one metric in one line.
const VALUES_PER_LINE: usize = 100;

/// Writes metrics into one CloudWatch namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    namespace: String,
}

/// A namespace that CloudWatch does not take, or keeps for AWS itself. The text fits after the variable's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to {LONGEST_NAMESPACE} characters of A-Z a-z 0-9 . - _ / # : and must begin with neither AWS/ nor a colon"
)]
pub struct NamespaceError;

impl Default for Metrics {
    fn default() -> Self {
        Self { namespace: NAMESPACE.to_owned() }
    }
}

impl Metrics {
    /// Metrics in a namespace of one's own, so that two deployments in one account count apart.
    ///
    /// # Errors
    /// When `namespace` breaks CloudWatch's rule: the lines would be written and never be counted.
    pub fn in_namespace(namespace: impl Into<String>) -> Result<Self, NamespaceError> {
        let namespace = namespace.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_/#:".contains(c);
        let fits = (1..=LONGEST_NAMESPACE).contains(&namespace.len()) && namespace.chars().all(allowed);
        let reserved = namespace.starts_with("AWS/") || namespace.starts_with(':');
        if fits && !reserved { Ok(Self { namespace }) } else { Err(NamespaceError) }
    }

    /// Counts one cold start.
    pub fn cold_start(&self, event_type: &str) {
        write_line(&self.line(event_type, "worker_cold_start", "Count", json!(1), &["type"]));
    }

    /// Writes the lines of one invocation.
    pub fn write(&self, event_type: &str, measurements: &Measurements) {
        for line in self.lines(event_type, measurements) {
            write_line(&line);
        }
    }

    fn lines(&self, event_type: &str, measurements: &Measurements) -> Vec<Value> {
        let counted = |metric: &'static str, dimension: &'static str, counts: &BTreeMap<&'static str, u64>| {
            let line = |(value, count): (&&str, &u64)| {
                let mut line = self.line(event_type, metric, "Count", json!(count), &["type", dimension]);
                line[dimension] = json!(value);
                line
            };
            counts.iter().map(line).collect::<Vec<_>>()
        };
        let mut lines = counted("worker_events_total", "outcome", &measurements.outcomes);
        lines.extend(counted("worker_dead_letters_total", "error_code", &measurements.dead_letters));
        let latencies = |values| self.line(event_type, "worker_latency_seconds", "Seconds", json!(values), &["type"]);
        if measurements.unstarted > 0 {
            let count = json!(measurements.unstarted);
            lines.push(self.line(event_type, "worker_unstarted_total", "Count", count, &["type"]));
        }
        lines.extend(measurements.latencies.chunks(VALUES_PER_LINE).map(latencies));
        lines
    }

    fn line(&self, event_type: &str, metric: &str, unit: &str, value: Value, dimensions: &[&str]) -> Value {
        let timestamp = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        json!({
            "_aws": {
                "Timestamp": i64::try_from(timestamp).unwrap_or_default(),
                "CloudWatchMetrics": [{
                    "Namespace": self.namespace,
                    "Dimensions": [dimensions],
                    "Metrics": [{"Name": metric, "Unit": unit}],
                }],
            },
            "type": event_type,
            metric: value,
        })
    }
}

/// What one invocation counted and measured.
#[derive(Debug, Default)]
pub struct Measurements {
    outcomes: BTreeMap<&'static str, u64>,
    dead_letters: BTreeMap<&'static str, u64>,
    unstarted: u64,
    latencies: Vec<f64>,
}

impl Measurements {
    /// One record ended.
    pub fn record(&mut self, outcome: &'static str, latency: Duration) {
        *self.outcomes.entry(outcome).or_default() += 1;
        self.latencies.push(latency.as_secs_f64());
    }

    /// So many records could not start, in an invocation in which none could.
    pub fn unstarted(&mut self, records: usize) {
        self.unstarted += records as u64;
    }

    /// One record was sent to the dead-letter queue, under this `error_code`.
    pub fn dead_letter(&mut self, error_code: &'static str) {
        *self.dead_letters.entry(error_code).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_and_each_error_code_is_a_line_and_latencies_come_by_the_hundred() {
        let mut measurements = Measurements::default();
        for _ in 0..101 {
            measurements.record("success", Duration::from_millis(5));
        }
        for code in ["malformed_body", "inventory_conflict", "inventory_conflict"] {
            measurements.record("rejected", Duration::from_millis(5));
            measurements.dead_letter(code);
        }
        let lines = Metrics::default().lines("payment.failed", &measurements);
        assert_eq!(lines.len(), 6, "two outcomes, two error codes, two chunks of latencies");
        assert_eq!(lines[0]["outcome"], "rejected");
        assert_eq!(lines[1]["worker_events_total"], 101);
        assert_eq!(lines[1]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["type", "outcome"]]));
        assert_eq!(lines[2]["error_code"], "inventory_conflict");
        assert_eq!(lines[2]["worker_dead_letters_total"], 2);
        assert_eq!(lines[2]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["type", "error_code"]]));
        assert_eq!(lines[3]["error_code"], "malformed_body");
        assert_eq!(lines[4]["worker_latency_seconds"].as_array().map(Vec::len), Some(100));
        assert!(lines.iter().all(|line| line["type"] == "payment.failed"));
    }

    #[test]
    fn records_that_could_not_start_are_a_line_where_there_are_any() {
        let mut measurements = Measurements::default();
        assert!(Metrics::default().lines("payment.failed", &measurements).is_empty());
        measurements.unstarted(10);
        let lines = Metrics::default().lines("payment.failed", &measurements);
        assert_eq!((lines.len(), &lines[0]["worker_unstarted_total"]), (1, &json!(10)));
    }

    #[test]
    fn a_line_says_when_in_milliseconds_since_the_epoch() {
        let line = Metrics::default().line("payment.failed", "worker_cold_start", "Count", json!(1), &["type"]);
        let now = crate::deadline::epoch_ms(std::time::SystemTime::now());
        let stated = line["_aws"]["Timestamp"].as_u64().unwrap();
        assert!((now - 60_000..=now).contains(&stated), "{stated} is not {now}");
    }

    #[test]
    fn a_namespace_is_what_cloudwatch_takes_from_a_function() {
        let longest = "x".repeat(255);
        for namespace in ["H", "Holdfast/dev", "A-z_0.9/#:", "AWSome", longest.as_str()] {
            let metrics = Metrics::in_namespace(namespace).unwrap();
            let line = metrics.line("payment.failed", "worker_cold_start", "Count", json!(1), &["type"]);
            assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], namespace);
        }
        for namespace in ["", "Hold fast", "Holdfäst", "Holdfast\n", "AWS/Lambda", ":dev", &format!("{longest}x")] {
            assert_eq!(Metrics::in_namespace(namespace), Err(NamespaceError), "{namespace:?}");
        }
    }
}
