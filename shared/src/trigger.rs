//! How Lambda hands work over, and what an answer means there: a module for each kind of trigger, which knows nothing of any
//! system. What the triggers share is here: what a system does with records, each by itself or all of an invocation together,
//! and what is said of a payload that can't be read.

pub mod http;
pub mod kafka;
pub mod sqs;
pub mod stream;

mod worked;

use std::{borrow::Cow, fmt::Debug, future::ready, time::Duration};

use tracing::{Instrument, Span};

use crate::{
    config::ConfigError,
    deadline::Deadline,
    failure::Failure,
    name::Named,
    telemetry::trace::{TraceContext, Tracing},
};

/// What a system does with the records `R` of a trigger.
pub trait Processor<R>: Sync {
    /// A decoded record.
    type Item: Send;
    /// The outcomes of records that ended well.
    type Outcome: Named + Debug + Send;

    /// What its records are called in logs, metrics and traces: their event type.
    fn name(&self) -> &'static str;

    /// How many records it wants to see at once.
    const PORTION: Portion = Portion::Record;

    /// For records that nothing which may pass ever ends, however often they come: the longest that one waits for its next
    /// delivery. Nothing: a record is given up on its last receive, and waits as the back-off has it.
    const NEVER_GIVEN_UP: Option<Duration> = None;

    /// The longest that [`Processor::process`] takes: the sum of the time-outs of the calls that it makes one after the other.
    /// For a processor of whole batches: the longest from one look at the deadline to the next.
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

    /// Does the work of several records, whose verdicts it gives in their order. The keys of some may be equal: the processor
    /// works those in turn, and starts nothing that the deadline leaves less time for than its budget. What it does for several
    /// of them in one go may have a span of its own. A queue's trigger calls it for [`Portion::Batch`] only.
    fn process_all(
        &self,
        tasks: Vec<Task<Self::Item>>,
        _tracing: &Tracing,
        deadline: Deadline,
    ) -> impl Future<Output = Vec<Verdict<Self::Outcome>>> + Send {
        async move {
            let mut verdicts = Vec::with_capacity(tasks.len());
            for Task { item, trace, span } in tasks {
                verdicts.push(match deadline.remaining() < self.budget() {
                    true => Verdict::Unstarted,
                    false => self.process(item, &trace, deadline).instrument(span).await.into(),
                });
            }
            verdicts
        }
    }
}

/// How many records a processor wants to see at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// One: records of different keys run side by side.
    Record,
    /// All that could be read of an invocation's records, in one call of [`Processor::process_all`]: together they cost less.
    Batch,
}

/// What a processor of any trigger may ask of a record.
pub trait Message {
    /// The text that holds the event.
    fn body(&self) -> &str;

    /// Where the record came from, for people: `sqs`, or topic, partition and offset as `t-0@5`.
    fn source(&self) -> Cow<'_, str>;

    /// The producer's trace context: as the record carries it first, then as its body says it (outermost first).
    fn producer(&self, traceparents: &[Option<String>], baggages: &[Option<String>]) -> TraceContext;
}

/// One of several records that are worked together.
#[derive(Debug)]
pub struct Task<T> {
    /// What was decoded.
    pub item: T,
    /// What goes on to the services that are called for it.
    pub trace: TraceContext,
    /// The span that its log lines are written in.
    pub span: Span,
}

/// What became of one of several records.
#[derive(Debug)]
pub enum Verdict<O> {
    /// It is done.
    Done(Done<O>),
    /// What has to be done with it.
    Failed(Failure),
    /// What every record needs is away, so that no other could have been done in its place: a queue takes it for a transient
    /// failure, and a partition waits. Why, for people.
    Away(String),
    /// It was not begun, because too little time was left.
    Unstarted,
}

impl<O> From<Result<Done<O>, Failure>> for Verdict<O> {
    fn from(result: Result<Done<O>, Failure>) -> Self {
        result.map_or_else(Self::Failed, Self::Done)
    }
}

/// A record that could be read.
#[derive(Debug)]
pub struct Decoded<T> {
    /// What the processor works on.
    pub item: T,
    /// Records of one batch with equal keys run one after the other, also in a processor of whole batches.
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
