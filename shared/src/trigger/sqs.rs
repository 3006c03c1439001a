//! An event source mapping on an SQS queue, with partial batch responses.
//!
//! [`Worker`] takes a batch and works its records by a [`Processor`]; what `Ok` and `Err` mean to the queue is written at
//! [`Worker::process`].

mod batch;
pub mod dead_letter;
pub mod queue;
mod record;

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use serde_json::value::RawValue;
use tracing::error;

use self::queue::Queues;
pub use self::record::{MissingMessageId, Record, SOURCE};
use crate::{
    backoff::Backoff,
    client::aws::CALL_TIMEOUT,
    config::{ConfigError, Reader},
    deadline::Deadline,
    failure::chain,
    name::names,
    start::{Function, Parts},
    telemetry::{
        metrics::{Metric, Metrics, Recorder, Unit},
        trace::Tracing,
    },
    trigger::{Processor, fault},
};

names! {
    /// The outcomes of records whose processor failed; those of its success are the processor's own.
    pub enum Outcome {
        /// The message comes back.
        Retried = "retried",
        /// It had no receive left, and went to the dead-letter queue.
        Exhausted = "exhausted",
        /// No repeat can succeed, and it went to the dead-letter queue.
        Rejected = "rejected",
    }
}

names! {
    /// The codes of messages that no processor gave a code.
    pub enum ErrorCode {
        /// A transient fault on the last receive.
        RetriesExhausted = "retries_exhausted",
    }
}

pub(super) const WORKER_EVENTS: Metric =
    Metric { name: "worker_events_total", unit: Unit::Count, dimensions: &["type", "outcome"] };
pub(super) const WORKER_DEAD_LETTERS: Metric =
    Metric { name: "worker_dead_letters_total", unit: Unit::Count, dimensions: &["type", "error_code"] };
pub(super) const WORKER_LATENCY: Metric =
    Metric { name: "worker_latency_seconds", unit: Unit::Seconds, dimensions: &["type"] };
const WORKER_COLD_START: Metric = Metric { name: "worker_cold_start", unit: Unit::Count, dimensions: &["type"] };
pub(super) const WORKER_UNSTARTED: Metric =
    Metric { name: "worker_unstarted_total", unit: Unit::Count, dimensions: &["type"] };
const WORKER_EARLY: Metric = Metric { name: "worker_early_for_a_day_total", unit: Unit::Count, dimensions: &["type"] };

/// The metrics that a worker writes. `type` is its processor's name.
pub const METRICS: &[Metric] =
    &[WORKER_EVENTS, WORKER_DEAD_LETTERS, WORKER_LATENCY, WORKER_COLD_START, WORKER_UNSTARTED, WORKER_EARLY];

/// What is kept free of a record's time, for the answer to Lambda and for a clock that is a little off.
const MARGIN: Duration = Duration::from_millis(500);

/// The receive that is the last, by default. With the default back-off an event waits 16 to 32 minutes before it.
const MAX_RECEIVES: u32 = 12;

/// Records at a time, by default.
const CONCURRENCY: u16 = 20;

/// The limits that a batch is worked under.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records at a time.
    pub concurrency: usize,
    /// A record that fails on this receive, or a later one, goes to the dead-letter queue.
    pub max_receives: u32,
    /// The longest that one record may take; none starts when less time is left.
    pub budget: Duration,
    /// The wait between two deliveries.
    pub backoff: Backoff,
}

impl Limits {
    /// `MAX_RETRIES`, `BACKOFF_BASE_MS`, `BACKOFF_CAP_MS` and `WORKER_CONCURRENCY`, for a processor that takes `processing` at
    /// most. Beside it a record takes two calls to SQS: to the dead-letter queue, and the back-off when that one failed.
    pub fn configured(reader: &mut Reader<'_>, processing: Duration) -> Self {
        let base = reader.milliseconds("BACKOFF_BASE_MS", Backoff::DEFAULT_BASE);
        let cap = reader.milliseconds("BACKOFF_CAP_MS", Backoff::DEFAULT_CAP);
        let backoff = Backoff::try_new(base, cap).unwrap_or_else(|error| {
            reader.fault("BACKOFF_CAP_MS", format!("is below BACKOFF_BASE_MS: {error}"));
            Backoff::DEFAULT
        });
        // It counts receives and not retries: the name is older than this code.
        let max_receives = reader.count("MAX_RETRIES", MAX_RECEIVES);
        // More records than a batch can hold would be a typing error that only costs memory.
        let concurrency: u16 = reader.count("WORKER_CONCURRENCY", CONCURRENCY);
        let budget = processing + CALL_TIMEOUT * 2 + MARGIN;
        Self { concurrency: concurrency.into(), max_receives, budget, backoff }
    }
}

/// Works the batches of one queue.
#[derive(Debug)]
pub struct Worker<P> {
    /// What is done with a record.
    pub processor: P,
    /// Where records go that did not end well.
    pub queues: Queues,
    /// Limits.
    pub limits: Limits,
    /// Where counts go.
    pub metrics: Metrics,
    /// Where spans go.
    pub tracing: Tracing,
}

impl<P: Processor<Record>> Worker<P> {
    /// Reads the variables of what a worker is made of beside its processor. Nothing: what is wrong with them, or with the
    /// processor's, is noted.
    pub fn configured(processor: Option<P>, parts: &mut Parts<'_>) -> Option<Self> {
        let queues = Queues::configured(parts);
        let processing = processor.as_ref().map(Processor::budget).unwrap_or_default();
        let limits = Limits::configured(&mut parts.reader, processing);
        let metrics = parts.metrics.clone();
        let tracing = Tracing::configured(&mut parts.reader, parts.name);
        Some(Self { processor: processor?, queues, limits, metrics, tracing: tracing? })
    }
}

impl<P: Processor<Record>> Function for Worker<P> {
    type Response = SqsBatchResponse;

    async fn probe(&self) -> Result<(), ConfigError> {
        self.processor.probe().await
    }

    fn event_type(&self) -> Option<&'static str> {
        Some(self.processor.name())
    }

    fn count_start(&self) {
        let mut recorder = Recorder::default();
        recorder.count(&WORKER_COLD_START, &[self.processor.name()], 1);
        self.metrics.write(&recorder);
    }

    async fn invoke(&self, payload: &RawValue, deadline: Deadline) -> Result<SqsBatchResponse, String> {
        let result = match serde_json::from_str::<SqsEvent>(payload.get()) {
            Ok(batch) => self.process(batch, deadline).await.map_err(|error| chain(&error)),
            Err(error) => {
                Err(format!("the payload is not an SQS event, so nothing in it can be acknowledged: {}", fault(&error)))
            }
        };
        if let Err(error) = &result {
            let event_type = self.processor.name();
            error!(event_type, error, "the invocation failed; the whole batch stays in the queue");
        }
        result
    }

    /// Sends the spans of the records.
    async fn answered(&self, deadline: Deadline) {
        self.tracing.flush_before(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_default_limits_are_those_of_the_design() {
        let environment = BTreeMap::new();
        let mut reader = Reader::new(&environment);
        let limits = Limits::configured(&mut reader, Duration::from_secs(12));
        assert_eq!((limits.max_receives, limits.concurrency), (12, 20));
        assert_eq!(limits.backoff, Backoff::DEFAULT);
        assert_eq!(limits.budget, Duration::from_millis(16_500), "12 s, two calls to SQS of 2 s, and 0.5 s");
    }
}
