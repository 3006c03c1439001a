//! What the triggers do alike with records, whatever they came by: reading one, working several at once, and telling how one
//! ended.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use opentelemetry::KeyValue;
use tracing::{Span, error, info};

use super::{
    Decoded, Done, Processor, Task, Verdict,
    sqs::{WORKER_DEAD_LETTERS, WORKER_EVENTS, WORKER_LATENCY},
};
use crate::{
    deadline::Deadline,
    failure::{Failure, isolated, panicked},
    name::Named,
    telemetry::{
        metrics::Recorder,
        trace::{OUTCOME, RecordTrace, TraceContext, Tracing},
    },
};

/// What is said of a record that was not begun, because others took the time.
pub(super) const TOO_LATE: &str = "not started: too little time was left before the invocation's deadline";

/// Reads a record; a panic fails it alone.
pub(super) fn decode<R, P: Processor<R>>(processor: &P, record: &R) -> Result<Decoded<P::Item>, Failure> {
    catch_unwind(AssertUnwindSafe(|| processor.decode(record))).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// A record that was handed over with others.
pub(super) struct Handed<'a, R> {
    pub(super) record: &'a R,
    pub(super) trace: &'a TraceContext,
    pub(super) span: &'a Span,
}

/// What works the records of a trigger at once, and the longest that a record may take in all.
pub(super) struct Together<'a, P> {
    pub(super) processor: &'a P,
    pub(super) tracing: &'a Tracing,
    pub(super) budget: Duration,
}

impl<P> Together<'_, P> {
    /// Hands all records to the processor, which leaves the time that follows its work. If its code panics, each of them is
    /// worked by itself, so that the one that it panics on fails alone. A verdict for each, in their order.
    pub(super) async fn work<R>(
        &self,
        tasks: Vec<Task<P::Item>>,
        handed: &[Handed<'_, R>],
        deadline: Deadline,
    ) -> Vec<Verdict<P::Outcome>>
    where
        P: Processor<R>,
    {
        if tasks.is_empty() {
            return Vec::new();
        }
        let for_processing = deadline.earlier_by(self.budget.saturating_sub(self.processor.budget()));
        let at_once = self.processor.process_all(tasks, self.tracing, for_processing);
        if let Ok(mut verdicts) = AssertUnwindSafe(at_once).catch_unwind().await {
            let missing = "the code gave no verdict on this record, which is a fault of it";
            verdicts.resize_with(handed.len(), || Verdict::Failed(Failure::transient(missing)));
            return verdicts;
        }
        let mut verdicts = Vec::with_capacity(handed.len());
        for handed in handed {
            verdicts.push(if deadline.remaining() < self.budget {
                Verdict::Unstarted
            } else {
                self.work_alone(handed, for_processing).await
            });
        }
        verdicts
    }

    async fn work_alone<R>(
        &self,
        Handed { record, trace, span }: &Handed<'_, R>,
        deadline: Deadline,
    ) -> Verdict<P::Outcome>
    where
        P: Processor<R>,
    {
        let item = match decode(self.processor, *record) {
            Ok(Decoded { item, .. }) => item,
            Err(failure) => return Verdict::Failed(failure),
        };
        let task = Task { item, trace: (*trace).clone(), span: (*span).clone() };
        match isolated(self.processor.process_all(vec![task], self.tracing, deadline).map(Ok)).await {
            Ok(mut verdicts) => verdicts.pop().unwrap_or(Verdict::Unstarted),
            Err(failure) => Verdict::Failed(failure),
        }
    }
}

/// Writes the line of a record that ended well, in the span of whoever calls, and ends its trace. The answer is its outcome.
pub(super) fn done<O: Named>(done: &Done<O>, trace: RecordTrace, started: Instant) -> &'static str {
    let (outcome, latency_ms) = (done.name(), millis(started));
    info!(outcome, latency_ms, note = done.note, "record ended: {outcome}");
    trace.finish(KeyValue::new(OUTCOME, outcome), None);
    outcome
}

/// Writes the line of a record that is in the dead-letter queue now, and ends its trace.
pub(super) fn buried(outcome: &'static str, error_code: &str, why: &str, trace: RecordTrace, started: Instant) {
    let latency_ms = millis(started);
    error!(outcome, latency_ms, error = why, error_code, "record ended: {outcome}, sent to the dead-letter queue");
    trace.finish(KeyValue::new(OUTCOME, outcome), Some(why));
}

/// Counts how a record ended, how long it took, and the code that it is in the dead-letter queue with.
pub(super) fn count(
    recorder: &mut Recorder,
    event_type: &'static str,
    outcome: &'static str,
    dead_letter_code: Option<&'static str>,
    latency: Duration,
) {
    recorder.count(&WORKER_EVENTS, &[event_type, outcome], 1);
    recorder.duration(&WORKER_LATENCY, &[event_type], latency);
    if let Some(error_code) = dead_letter_code {
        recorder.count(&WORKER_DEAD_LETTERS, &[event_type, error_code], 1);
    }
}

/// The time since then, as a log line has it.
pub(super) fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
