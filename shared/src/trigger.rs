//! How Lambda hands work over, and what an answer means there: a module for each kind of trigger, which knows nothing of any
//! system. What the triggers share is here: what a system does with one record, and what is said of a payload that is none.

pub mod http;
pub mod sqs;
pub mod stream;

use std::{fmt::Debug, future::ready, time::Duration};

use tracing::Span;

use crate::{config::ConfigError, deadline::Deadline, failure::Failure, name::Named, telemetry::trace::TraceContext};

/// What a system does with the records `R` of a trigger.
pub trait Processor<R>: Sync {
    /// A decoded record.
    type Item: Send;
    /// The outcomes of records that ended well.
    type Outcome: Named + Debug + Send;

    /// What its records are called in logs, metrics and traces: their event type.
    fn name(&self) -> &'static str;

    /// The longest that [`Processor::process`] takes: the sum of the time-outs of the calls that it makes one after the other.
    fn budget(&self) -> Duration;

    /// Looks whether what the configuration names is there, once per environment and before the first record. One that names
    /// nothing has nothing to look at.
    ///
    /// # Errors
    /// What no waiting can mend, so that no record could ever be worked.
    fn probe(&self) -> impl Future<Output = Result<(), ConfigError>> + Send {
        ready(Ok(()))
    }

    /// Reads a record. It does not wait for anything, and a panic in it fails this record alone.
    ///
    /// # Errors
    /// What has to be done with a record that can't be read.
    fn decode(&self, record: &R) -> Result<Decoded<Self::Item>, Failure>;

    /// Does the work. `Ok`: the record is done.
    ///
    /// # Errors
    /// What has to be done with the record.
    fn process(
        &self,
        item: Self::Item,
        trace: &TraceContext,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Done<Self::Outcome>, Failure>> + Send;
}

/// A record that could be read.
#[derive(Debug)]
pub struct Decoded<T> {
    /// What the processor works on.
    pub item: T,
    /// Records of one batch with equal keys run one after the other.
    pub key: String,
    /// The log fields of this record, as a span.
    pub span: Span,
    /// The producer's trace context.
    pub producer: TraceContext,
}

/// A record that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<O> {
    /// How, as its metric and its log line say it.
    pub outcome: O,
    /// What a person wants to know of it beyond its name.
    pub note: Option<String>,
}

impl<O: Named> Done<O> {
    /// An outcome that says all.
    pub fn of(outcome: O) -> Self {
        Self { outcome, note: None }
    }

    /// An outcome with what a person wants to know of it.
    pub fn noted(outcome: O, note: String) -> Self {
        Self { outcome, note: Some(note) }
    }

    /// The outcome's name.
    pub fn name(&self) -> &'static str {
        self.outcome.name()
    }
}

/// What is wrong with a payload. serde quotes values of the wrong type, and no payload belongs into a log.
fn fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") {
        return text;
    }
    format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::sqs::SqsEvent;

    use super::*;

    #[test]
    fn a_payload_that_is_no_event_is_described_and_never_quoted() {
        let fault_of = |payload| fault(&serde_json::from_str::<SqsEvent>(payload).unwrap_err());
        assert_eq!(fault_of("{}"), "missing field `Records` at line 1 column 2");
        assert_eq!(fault_of(r#"{"Records": "jane@example.com"}"#), "data error at line 1, column 30");
        assert_eq!(fault_of("{"), "eof error at line 1, column 1");
    }
}
