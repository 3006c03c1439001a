//! Metrics in CloudWatch's embedded metric format: CloudWatch reads them from the log, so they cost no call.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::write_line;

/// The CloudWatch namespace.
pub const NAMESPACE: &str = "Holdfast";

/// CloudWatch takes at most this many values of one metric in one line.
const VALUES_PER_LINE: usize = 100;

/// What one invocation counted and measured.
#[derive(Debug, Default)]
pub struct Measurements {
    outcomes: BTreeMap<&'static str, u64>,
    latencies: Vec<f64>,
}

impl Measurements {
    /// One record ended.
    pub fn record(&mut self, outcome: &'static str, latency: Duration) {
        *self.outcomes.entry(outcome).or_default() += 1;
        self.latencies.push(latency.as_secs_f64());
    }

    /// Writes the lines of one invocation.
    pub fn write(&self, event_type: &str) {
        for line in self.lines(event_type) {
            write_line(&line);
        }
    }

    fn lines(&self, event_type: &str) -> Vec<Value> {
        let counts = self.outcomes.iter().map(|(outcome, count)| {
            let mut line = line(event_type, "worker_events_total", "Count", json!(count), &["type", "outcome"]);
            line["outcome"] = json!(outcome);
            line
        });
        let latencies = self
            .latencies
            .chunks(VALUES_PER_LINE)
            .map(|values| line(event_type, "worker_latency_seconds", "Seconds", json!(values), &["type"]));
        counts.chain(latencies).collect()
    }
}

/// Counts one cold start.
pub fn cold_start(event_type: &str) {
    write_line(&line(event_type, "worker_cold_start", "Count", json!(1), &["type"]));
}

fn line(event_type: &str, metric: &str, unit: &str, value: Value, dimensions: &[&str]) -> Value {
    let timestamp = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    json!({
        "_aws": {
            "Timestamp": i64::try_from(timestamp).unwrap_or_default(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [dimensions],
                "Metrics": [{"Name": metric, "Unit": unit}],
            }],
        },
        "type": event_type,
        metric: value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_a_line_and_latencies_come_by_the_hundred() {
        let mut measurements = Measurements::default();
        for _ in 0..101 {
            measurements.record("success", Duration::from_millis(5));
        }
        measurements.record("rejected", Duration::from_millis(5));
        let lines = measurements.lines("payment.failed");
        assert_eq!(lines.len(), 4, "two outcomes, two chunks of latencies");
        assert_eq!(lines[0]["outcome"], "rejected");
        assert_eq!(lines[1]["worker_events_total"], 101);
        assert_eq!(lines[1]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["type", "outcome"]]));
        assert_eq!(lines[2]["worker_latency_seconds"].as_array().map(Vec::len), Some(100));
        assert_eq!(lines[3]["type"], "payment.failed");
    }
}
