//! Metrics in CloudWatch's embedded metric format: CloudWatch reads them from the log, so they cost no call.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Serialize, Serializer, ser::SerializeMap};
use time::OffsetDateTime;

use super::Lines;
use crate::config::Reader;

/// The CloudWatch namespace, unless the configuration names another.
const NAMESPACE: &str = "Holdfast";

/// CloudWatch takes at most this many characters as a namespace.
const LONGEST_NAMESPACE: usize = 255;

/// CloudWatch takes at most this many values of one metric in one line.
const VALUES_PER_LINE: usize = 100;

/// A metric: its name, its unit and its dimensions, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// What its values are.
    pub unit: Unit,
    /// What its values are told apart by.
    pub dimensions: &'static [&'static str],
}

/// What the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number: of events, which one line adds up, or of what there is at a moment.
    Count,
    /// Durations, each kept.
    Seconds,
}

/// Writes metrics into one CloudWatch namespace. Clones share what waits to be written.
#[derive(Debug, Clone)]
pub struct Metrics {
    namespace: String,
    waiting: Arc<Mutex<Recorder>>,
}

/// A namespace that CloudWatch does not take, or keeps for AWS itself. The text fits after the variable's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to {LONGEST_NAMESPACE} characters of A-Z a-z 0-9 . - _ / # : and must begin with neither AWS/ nor a colon"
)]
pub struct NamespaceError;

impl Default for Metrics {
    fn default() -> Self {
        Self { namespace: NAMESPACE.to_owned(), waiting: Arc::default() }
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
        if fits && !reserved { Ok(Self { namespace, ..Self::default() }) } else { Err(NamespaceError) }
    }

    /// The namespace that `METRICS_NAMESPACE` names.
    pub fn configured(reader: &mut Reader<'_>) -> Self {
        const NAME: &str = "METRICS_NAMESPACE";
        let Some(namespace) = reader.optional(NAME) else {
            return Self::default();
        };
        Self::in_namespace(namespace).unwrap_or_else(|error| {
            reader.fault(NAME, error);
            Self::default()
        })
    }

    /// Records what belongs to no answer of its own, such as a call that is made on the way to one. It waits for the next
    /// write, which is that of the same invocation.
    pub fn record(&self, record: impl FnOnce(&mut Recorder)) {
        record(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes what was recorded, here and by [`Metrics::record`]: a line for each set of dimensions and their values, and a
    /// further one for each further hundred values of a metric.
    pub fn write(&self, recorder: &Recorder) {
        let mut waiting = Recorder::default();
        self.record(|shared| waiting = mem::take(shared));
        let mut lines = Lines::default();
        for line in self.lines(recorder).chain(self.lines(&waiting)) {
            lines.add(&line);
        }
        lines.write();
    }

    fn lines<'a>(&'a self, recorder: &'a Recorder) -> impl Iterator<Item = Line<'a>> {
        let counts = recorder.counts.iter().map(|(series, count)| (series, Amount::Count(*count)));
        let values = recorder.values.iter().flat_map(|(series, values)| {
            values.chunks(VALUES_PER_LINE).map(move |values| (series, Amount::Values(values)))
        });
        let mut lines: Vec<Vec<(&Series, Amount<'_>)>> = Vec::new();
        for (series, amount) in counts.chain(values) {
            let has_room = |line: &&mut Vec<(&Series, Amount<'_>)>| {
                line.iter().all(|(other, _)| other.stands_beside(series) && other.metric != series.metric)
            };
            match lines.iter_mut().find(has_room) {
                Some(line) => line.push((series, amount)),
                None => lines.push(vec![(series, amount)]),
            }
        }
        lines.into_iter().map(|series| Line { namespace: &self.namespace, series })
    }
}

/// A line, with series that stand beside each other.
struct Line<'a> {
    namespace: &'a str,
    series: Vec<(&'a Series, Amount<'a>)>,
}

/// What a line says of a metric.
#[derive(Serialize)]
#[serde(untagged)]
enum Amount<'a> {
    Count(u64),
    Values(&'a [f64]),
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Metadata<'a> {
            timestamp: i64,
            cloud_watch_metrics: [Directive<'a>; 1],
        }

        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Directive<'a> {
            namespace: &'a str,
            dimensions: [&'a [&'a str]; 1],
            metrics: Vec<Definition>,
        }

        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Definition {
            name: &'static str,
            unit: &'static str,
        }

        // All of them have the same.
        let (dimensions, values) = match self.series.first() {
            Some((Series { metric, values }, _)) => (metric.dimensions, values.as_slice()),
            None => (&[][..], &[][..]),
        };
        let definition =
            |(Series { metric, .. }, _): &(&Series, _)| Definition { name: metric.name, unit: metric.unit.name() };
        let metrics = self.series.iter().map(definition).collect();
        let millis = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;

        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry(
            "_aws",
            &Metadata {
                timestamp: i64::try_from(millis).unwrap_or_default(),
                cloud_watch_metrics: [Directive { namespace: self.namespace, dimensions: [dimensions], metrics }],
            },
        )?;
        for (dimension, value) in dimensions.iter().zip(values) {
            line.serialize_entry(dimension, value)?;
        }
        for (Series { metric, .. }, amount) in &self.series {
            line.serialize_entry(metric.name, amount)?;
        }
        line.end()
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Seconds => "Seconds",
        }
    }
}

/// A metric with one value for each of its dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Series {
    metric: &'static Metric,
    values: Vec<String>,
}

impl Series {
    /// Whether one line may hold both: it has one value for each dimension.
    fn stands_beside(&self, other: &Self) -> bool {
        (self.metric.dimensions, &self.values) == (other.metric.dimensions, &other.values)
    }
}

/// What was counted and measured, until it is written.
#[derive(Debug, Default)]
pub struct Recorder {
    counts: Vec<(Series, u64)>,
    values: Vec<(Series, Vec<f64>)>,
}

impl Recorder {
    /// Adds to a count. `values` are those of the metric's dimensions, in their order. Each set of them is a metric of its own
    /// that is paid for, so that they are never ids.
    pub fn count(&mut self, metric: &'static Metric, values: &[&str], by: u64) {
        *entry(&mut self.counts, metric, values) += by;
    }

    /// Takes over what another has recorded.
    pub fn add(&mut self, other: Self) {
        for (Series { metric, values }, count) in other.counts {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            *entry(&mut self.counts, metric, &values) += count;
        }
        for (Series { metric, values }, kept) in other.values {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            entry(&mut self.values, metric, &values).extend(kept);
        }
    }

    /// Keeps how many there are at this moment. `values` are those of the metric's dimensions, in their order.
    pub fn gauge(&mut self, metric: &'static Metric, values: &[&str], level: u32) {
        entry(&mut self.values, metric, values).push(level.into());
    }

    /// Keeps a duration. `values` are those of the metric's dimensions, in their order.
    pub fn duration(&mut self, metric: &'static Metric, values: &[&str], duration: Duration) {
        entry(&mut self.values, metric, values).push(duration.as_secs_f64());
    }
}

/// The entry of a series. There are a few in one invocation, so that they are looked through.
fn entry<'a, T: Default>(of: &'a mut Vec<(Series, T)>, metric: &'static Metric, values: &[&str]) -> &'a mut T {
    debug_assert_eq!(values.len(), metric.dimensions.len(), "{}", metric.name);
    let found = of.iter().position(|(series, _)| series.metric == metric && series.values == values);
    let index = found.unwrap_or_else(|| {
        of.push((Series { metric, values: values.iter().map(|value| (*value).to_owned()).collect() }, T::default()));
        of.len() - 1
    });
    &mut of[index].1
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const EVENTS: Metric = Metric { name: "events_total", unit: Unit::Count, dimensions: &["type", "outcome"] };
    const LATENCY: Metric = Metric { name: "latency_seconds", unit: Unit::Seconds, dimensions: &["type"] };

    /// The lines of what was recorded, as they are written.
    fn lines(metrics: &Metrics, recorder: &Recorder) -> Vec<Value> {
        metrics.lines(recorder).map(|line| serde_json::to_value(line).unwrap()).collect()
    }

    #[test]
    fn each_set_of_values_is_a_line_and_durations_come_by_the_hundred() {
        let mut recorder = Recorder::default();
        for outcome in ["success", "rejected"].into_iter().cycle().take(101) {
            recorder.count(&EVENTS, &["payment.failed", outcome], 2);
            recorder.duration(&LATENCY, &["payment.failed"], Duration::from_millis(5));
        }
        let lines = lines(&Metrics::default(), &recorder);
        assert_eq!(lines.len(), 4, "two outcomes, two chunks of latencies");
        assert_eq!((&lines[0]["outcome"], &lines[0]["events_total"]), (&json!("success"), &json!(102)));
        assert_eq!((&lines[1]["outcome"], &lines[1]["events_total"]), (&json!("rejected"), &json!(100)));
        assert_eq!(lines[1]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["type", "outcome"]]));
        assert_eq!(
            lines[1]["_aws"]["CloudWatchMetrics"][0]["Metrics"],
            json!([{"Name": "events_total", "Unit": "Count"}])
        );
        assert_eq!(lines[2]["latency_seconds"].as_array().map(Vec::len), Some(100));
        assert_eq!((&lines[3]["latency_seconds"], &lines[3]["type"]), (&json!([0.005]), &json!("payment.failed")));
        assert_eq!(lines[3]["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Unit"], "Seconds");
    }

    #[test]
    fn metrics_of_the_same_dimensions_and_values_share_a_line() {
        const SLOWEST: Metric = Metric { name: "slowest_seconds", unit: Unit::Seconds, dimensions: &["type"] };
        let mut recorder = Recorder::default();
        for event_type in ["payment.failed", "payment.approved"] {
            recorder.duration(&LATENCY, &[event_type], Duration::from_millis(5));
            recorder.duration(&SLOWEST, &[event_type], Duration::from_millis(6));
        }
        recorder.count(&EVENTS, &["payment.failed", "success"], 1);
        let lines = lines(&Metrics::default(), &recorder);
        let of =
            |line: &Value| [&line["type"], &line["latency_seconds"], &line["slowest_seconds"]].map(Value::to_string);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(of(&lines[1]), [r#""payment.failed""#, "[0.005]", "[0.006]"]);
        assert_eq!(of(&lines[2]), [r#""payment.approved""#, "[0.005]", "[0.006]"]);
        let metrics =
            json!([{"Name": "latency_seconds", "Unit": "Seconds"}, {"Name": "slowest_seconds", "Unit": "Seconds"}]);
        assert_eq!(lines[1]["_aws"]["CloudWatchMetrics"][0]["Metrics"], metrics);
    }

    #[test]
    fn nothing_recorded_is_no_line() {
        assert!(lines(&Metrics::default(), &Recorder::default()).is_empty());
    }

    #[test]
    fn what_clones_have_recorded_waits_for_one_write_of_any_of_them() {
        let metrics = Metrics::default();
        let of_a_client = metrics.clone();
        for _ in 0..2 {
            of_a_client.record(|recorder| recorder.count(&EVENTS, &["payment.failed", "success"], 1));
        }
        let waiting = |metrics: &Metrics| lines(metrics, &metrics.waiting.lock().unwrap());
        assert_eq!(waiting(&metrics)[0]["events_total"], json!(2));
        metrics.write(&Recorder::default());
        assert_eq!(waiting(&of_a_client), Vec::<Value>::new(), "nothing is written twice");
    }

    /// The line of one count, as it is written.
    fn text_of(metrics: &Metrics) -> String {
        let mut recorder = Recorder::default();
        recorder.count(&EVENTS, &["payment.failed", "success"], 1);
        serde_json::to_string(&metrics.lines(&recorder).next().unwrap()).unwrap()
    }

    fn line_of(metrics: &Metrics) -> Value {
        serde_json::from_str(&text_of(metrics)).unwrap()
    }

    #[test]
    fn a_line_says_each_thing_once() {
        let line = text_of(&Metrics::default());
        let (_timestamp, others) = line.split_once(',').unwrap();
        let about = r#""CloudWatchMetrics":[{"Namespace":"Holdfast","Dimensions":[["type","outcome"]],"#;
        let definition = r#""Metrics":[{"Name":"events_total","Unit":"Count"}]}]},"#;
        let values = r#""type":"payment.failed","outcome":"success","events_total":1}"#;
        assert_eq!(others, format!("{about}{definition}{values}"));
    }

    #[test]
    fn a_line_says_when_in_milliseconds_since_the_epoch() {
        let line = line_of(&Metrics::default());
        let now = crate::deadline::epoch_ms(std::time::SystemTime::now());
        let stated = line["_aws"]["Timestamp"].as_u64().unwrap();
        assert!((now - 60_000..=now).contains(&stated), "{stated} is not {now}");
    }

    #[test]
    fn a_namespace_is_what_cloudwatch_takes_from_a_function() {
        let longest = "x".repeat(255);
        for namespace in ["H", "Holdfast/dev", "A-z_0.9/#:", "AWSome", longest.as_str()] {
            let metrics = Metrics::in_namespace(namespace).unwrap();
            let line = line_of(&metrics);
            assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], namespace);
        }
        for namespace in ["", "Hold fast", "Holdfäst", "Holdfast\n", "AWS/Lambda", ":dev", &format!("{longest}x")] {
            assert_eq!(Metrics::in_namespace(namespace).err(), Some(NamespaceError), "{namespace:?}");
        }
    }
}
