//! One SQS batch: every record gets exactly one outcome, and SQS hears exactly which ones failed.
//!
//! What `Ok` and `Err` mean to the queue is written at [`Worker::process`].

use std::{
    collections::HashMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant, SystemTime},
};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::timeout;
use tracing::{Instrument, Span, error, info, info_span, warn};

pub use crate::queue::{MissingMessageId, Record};
use crate::{
    backoff::{Backoff, in_seconds},
    deadline::Deadline,
    failure::{Failure, Wait},
    queue::{DeathNote, Queues, joined},
    telemetry::{
        metrics::{Measurements, Metrics},
        trace::{RecordTrace, TraceContext, Tracing},
    },
};

/// The outcomes that a record has when its processor failed; those of its success are the processor's own.
const RETRIED: &str = "retried";
const EXHAUSTED: &str = "exhausted";
const REJECTED: &str = "rejected";

/// `error_code` of a message that ran out of receives.
const RETRIES_EXHAUSTED: &str = "retries_exhausted";

/// A message that only waits for its time is sent anew once it is so old. A queue keeps it for ten days, and between two
/// deliveries lie up to eleven hours.
const RENEWED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What the reservations layer, or any other, does with one record.
pub trait Processor: Sync {
    /// A decoded record.
    type Item: Send;

    /// Reads a record. It does not wait for anything, and a panic in it fails this record alone.
    ///
    /// # Errors
    /// What the queue has to do with a record that can't be read.
    fn decode(&self, record: &Record) -> Result<Decoded<Self::Item>, Failure>;

    /// Does the work. `Ok` acknowledges the message.
    ///
    /// # Errors
    /// What the queue has to do with the record.
    fn process(
        &self,
        item: Self::Item,
        trace: &TraceContext,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Done, Failure>> + Send;
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

/// A record that ended well, under the outcome that its metric and its log line carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The outcome's name.
    pub outcome: &'static str,
    /// What a person wants to know of it beyond its name.
    pub note: Option<String>,
}

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

/// Works batches of one event type.
#[derive(Debug)]
pub struct Worker<P> {
    /// The function's own event type: the name in logs and metrics.
    pub event_type: &'static str,
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

/// How a record ended, as its log line and the batch response say it.
struct Ending {
    outcome: &'static str,
    /// Whether the message must stay in its queue. One that was sent there anew must not.
    report: bool,
    /// The `error_code` that it carries in the dead-letter queue, if it was sent there.
    buried_as: Option<&'static str>,
}

impl Ending {
    /// The message comes back.
    const RETRIED: Self = Self { outcome: RETRIED, report: true, buried_as: None };

    fn measure(&self, latency: Duration, measurements: &mut Measurements) {
        measurements.record(self.outcome, latency);
        if let Some(error_code) = self.buried_as {
            measurements.dead_letter(error_code);
        }
    }
}

/// Why records of a batch did not start.
#[derive(Debug, Clone, Copy)]
struct ShortOfTime {
    /// What the invocation had when it began.
    time_in_all: Duration,
    /// No record of the batch could start, so that to deliver them at once would only use up their receives.
    nothing_started: bool,
}

/// A record that was looked at, with the span that its log lines are written in.
struct Prepared<T> {
    record: Record,
    span: Span,
    producer: TraceContext,
    item: Result<T, Failure>,
}

/// Records of one key, in the order of the batch.
type Group<T> = Vec<Prepared<T>>;

impl<P: Processor> Worker<P> {
    /// Works every record of a batch.
    ///
    /// `Ok` names the records that must stay in the queue; SQS deletes all others. Whatever one record does, a panic
    /// included, the others go on.
    ///
    /// # Errors
    /// When a record has no id. Lambda then leaves the whole batch in the queue: an empty identifier in the answer
    /// would mean the same, only silently.
    pub async fn process(&self, event: SqsEvent, deadline: Deadline) -> Result<SqsBatchResponse, MissingMessageId> {
        let records = event.records.into_iter().map(Record::try_from).collect::<Result<Vec<_>, _>>()?;
        let order: Vec<String> = records.iter().map(|record| record.message_id.clone()).collect();

        let time_in_all = deadline.remaining();
        let groups = self.group(records);
        let worked = stream::iter(groups)
            .map(|group| self.work_group(group, deadline))
            .buffer_unordered(self.limits.concurrency)
            .collect::<Vec<_>>()
            .await;

        let mut measurements = Measurements::default();
        let mut reported: HashMap<String, bool> = HashMap::with_capacity(order.len());
        let mut unstarted = Vec::new();
        for (ended, left) in worked {
            for (message_id, ending, latency) in ended {
                ending.measure(latency, &mut measurements);
                // One message twice in one batch must be deleted only if both copies may be.
                *reported.entry(message_id).or_default() |= ending.report;
            }
            unstarted.extend(left);
        }
        let short_of_time = ShortOfTime { time_in_all, nothing_started: reported.is_empty() };
        if short_of_time.nothing_started && (time_in_all < self.limits.budget || !unstarted.is_empty()) {
            let (time_ms, budget_ms) = (time_in_all.as_millis(), self.limits.budget.as_millis());
            error!(
                event_type = self.event_type,
                %time_ms,
                %budget_ms,
                records = unstarted.len(),
                "no record could start, because the invocation had less time than one record's calls may take: raise the \
                 function's timeout above the budget, or look at its clock; the messages come back by back-off"
            );
            measurements.unstarted(unstarted.len());
        }
        for (message_id, ending) in self.give_back(unstarted, short_of_time, deadline).await {
            ending.measure(Duration::ZERO, &mut measurements);
            *reported.entry(message_id).or_default() |= ending.report;
        }
        self.metrics.write(self.event_type, &measurements);
        match timeout(deadline.spare(), self.tracing.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error, "the spans of this invocation could not be exported"),
            Err(_elapsed) => warn!("the spans of this invocation could not be exported before its deadline"),
        }

        let mut response = SqsBatchResponse::default();
        for message_id in order {
            if reported.remove(&message_id) == Some(true) {
                response.add_failure(message_id);
            }
        }
        Ok(response)
    }

    /// Decodes every record and puts those of one key together.
    fn group(&self, records: Vec<Record>) -> Vec<Group<P::Item>> {
        let mut groups: Vec<Group<P::Item>> = Vec::with_capacity(records.len());
        let mut by_key: HashMap<String, usize> = HashMap::new();
        for record in records {
            let span = self.span(&record);
            let decoded = span
                .in_scope(|| catch_unwind(AssertUnwindSafe(|| self.processor.decode(&record))))
                .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            let index = match &decoded {
                Ok(decoded) => *by_key.entry(decoded.key.clone()).or_insert(groups.len()),
                Err(_) => groups.len(),
            };
            if index == groups.len() {
                groups.push(Vec::new());
            }
            groups[index].push(match decoded {
                Ok(Decoded { item, span, producer, .. }) => Prepared { record, span, producer, item: Ok(item) },
                Err(failure) => {
                    let producer = record.producer(&[], &[]);
                    Prepared { record, span, producer, item: Err(failure) }
                }
            });
        }
        groups
    }

    /// Works the records of one key in turn. What is not started before the deadline is handed back.
    async fn work_group(
        &self,
        group: Group<P::Item>,
        deadline: Deadline,
    ) -> (Vec<(String, Ending, Duration)>, Vec<Prepared<P::Item>>) {
        let mut ended = Vec::with_capacity(group.len());
        let mut unstarted = Vec::new();
        for prepared in group {
            if deadline.remaining() < self.limits.budget {
                unstarted.push(prepared);
                continue;
            }
            let started = Instant::now();
            let span = prepared.span.clone();
            let (message_id, ending) = self.work_record(prepared, deadline, started).instrument(span).await;
            ended.push((message_id, ending, started.elapsed()));
        }
        (ended, unstarted)
    }

    async fn work_record(&self, prepared: Prepared<P::Item>, deadline: Deadline, started: Instant) -> (String, Ending) {
        let Prepared { record, producer, item, .. } = prepared;
        let trace = self.tracing.start(self.event_type, &record.message_id, producer);
        let result = match item {
            Ok(item) => isolated(self.processor.process(item, &trace.outgoing, deadline)).await,
            Err(failure) => Err(failure),
        };
        let ending = self.end(&record, result, trace, started).await;
        (record.message_id, ending)
    }

    /// Does with the message what its result asks for, and writes the record's line.
    async fn end(
        &self,
        record: &Record,
        result: Result<Done, Failure>,
        trace: RecordTrace,
        started: Instant,
    ) -> Ending {
        let (ending, error) = match result {
            Ok(done) => {
                let latency_ms = millis(started);
                info!(outcome = done.outcome, latency_ms, note = done.note, "record ended: {}", done.outcome);
                trace.finish(done.outcome, None);
                return Ending { outcome: done.outcome, report: false, buried_as: None };
            }
            Err(failure) => (self.dispose(record, &failure).await, failure),
        };
        let (outcome, latency_ms, text) = (ending.outcome, millis(started), error.message());
        let error_code = match &error {
            Failure::Permanent { code, .. } => Some(*code),
            Failure::Transient { .. } | Failure::Early { .. } => ending.buried_as,
        };
        match (ending.report, ending.buried_as) {
            (true, _) => warn!(outcome, latency_ms, error = text, error_code, "record ended: {outcome}"),
            (false, Some(_)) => error!(
                outcome,
                latency_ms,
                error = text,
                error_code,
                "record ended: {outcome}, sent to the dead-letter queue"
            ),
            (false, None) => {
                warn!(outcome, latency_ms, error = text, "record ended: {outcome}, sent to its own queue once more")
            }
        }
        trace.finish(outcome, Some(text));
        ending
    }

    /// Postpones or buries a message that did not end well.
    async fn dispose(&self, record: &Record, failure: &Failure) -> Ending {
        let last = self.limits.max_receives;
        let (code, outcome, wait) = match failure {
            Failure::Early { rest, .. } => return self.wait_for(record, *rest).await,
            Failure::Permanent { code, .. } => (*code, REJECTED, Wait::BackOff),
            Failure::Transient { wait, .. } if record.receive_count < last => {
                return self.postpone(record, *wait).await;
            }
            // Its receives are used up by another worker that may be about to succeed. One more shows what became of it.
            Failure::Transient { wait: wait @ Wait::Claimed(_), .. } if record.receive_count == last => {
                return self.postpone(record, *wait).await;
            }
            Failure::Transient { wait, .. } => (RETRIES_EXHAUSTED, EXHAUSTED, *wait),
        };
        let note = DeathNote { code, message: failure.message(), event_type: self.event_type };
        match self.queues.bury(record, &note).await {
            Ok(()) => Ending { outcome, report: false, buried_as: Some(code) },
            Err(error) => {
                warn!(error = %error, error_code = code, "the message could not be sent to the dead-letter queue");
                self.postpone(record, wait).await
            }
        }
    }

    /// Lets a message wait that came before its time, and that is no failure: it must not run out of receives, nor of the
    /// time that its queue keeps it. Before either happens it is sent anew.
    async fn wait_for(&self, record: &Record, rest: Duration) -> Ending {
        let runs_out =
            record.receive_count >= self.limits.max_receives || record.age(SystemTime::now()) > RENEWED_AFTER;
        if runs_out {
            match self.queues.send_anew(record, in_seconds(rest)).await {
                Ok(()) => return Ending { report: false, ..Ending::RETRIED },
                Err(error) => warn!(error = %error, "the message could not be sent anew, so it waits as it is"),
            }
        }
        self.hide(record, in_seconds(rest)).await
    }

    async fn postpone(&self, record: &Record, wait: Wait) -> Ending {
        self.hide(record, self.limits.backoff.wait(record.receive_count, wait)).await
    }

    async fn hide(&self, record: &Record, wait: Duration) -> Ending {
        if let Err(error) = self.queues.postpone(record, wait).await {
            warn!(error = %error, "the message's back-off could not be set, so it comes back when its visibility ends");
        }
        Ending::RETRIED
    }

    /// Ends the records that were not started. Those on their last receive are buried, because SQS would otherwise move them
    /// without a reason. The others are made visible again, all in one call: at once, because another environment may have
    /// the time; by back-off where nothing could start, because then none will have. What the time does not allow is left
    /// to the queue's visibility: an answer that comes too late would put the whole batch back.
    async fn give_back(
        &self,
        unstarted: Vec<Prepared<P::Item>>,
        short: ShortOfTime,
        deadline: Deadline,
    ) -> Vec<(String, Ending)> {
        let late = Failure::transient(if short.nothing_started {
            format!(
                "not started: the invocation had {} ms in all, and this may take {} ms; raise the function's timeout, or \
                 look at its clock",
                short.time_in_all.as_millis(),
                self.limits.budget.as_millis(),
            )
        } else {
            "not started: too little time was left before the invocation's deadline".to_owned()
        });
        let (last, returning): (Vec<_>, Vec<_>) =
            unstarted.into_iter().partition(|prepared| prepared.record.receive_count >= self.limits.max_receives);
        let mut ended = Vec::with_capacity(last.len() + returning.len());

        let wait = |record: &Record| match short.nothing_started {
            true => self.limits.backoff.wait(record.receive_count, Wait::BackOff),
            false => Duration::ZERO,
        };
        let (spans, records): (Vec<_>, Vec<_>) = returning
            .into_iter()
            .map(|Prepared { span, record, .. }| {
                let wait = wait(&record);
                (span, (record, wait))
            })
            .unzip();
        match timeout(deadline.spare(), self.queues.postpone_all(&records)).await {
            Ok(errors) if errors.is_empty() => {}
            Ok(errors) => warn!(
                error = joined(&errors),
                "messages could not be handed back; they come back when their visibility ends"
            ),
            Err(_elapsed) => warn!("no time was left to hand messages back; they come back when their visibility ends"),
        }
        for (span, (record, _)) in spans.into_iter().zip(records) {
            let _inside = span.entered();
            warn!(outcome = RETRIED, latency_ms = 0, error = late.message(), "record ended: retried");
            ended.push((record.message_id, Ending::RETRIED));
        }

        let buried = stream::iter(last).map(|Prepared { record, span, producer, .. }| {
            let late = late.clone();
            async move {
                let trace = self.tracing.start(self.event_type, &record.message_id, producer);
                let end = self.end(&record, Err(late), trace, Instant::now()).instrument(span.clone());
                let ending = timeout(deadline.spare(), end).await.unwrap_or_else(|_elapsed| {
                    span.in_scope(|| warn!(outcome = RETRIED, latency_ms = 0, "record ended: retried"));
                    Ending::RETRIED
                });
                (record.message_id, ending)
            }
        });
        ended.extend(buried.buffer_unordered(self.limits.concurrency).collect::<Vec<_>>().await);
        ended
    }

    fn span(&self, record: &Record) -> Span {
        info_span!(
            "record",
            event_type = self.event_type,
            message_id = record.message_id,
            attempt = record.receive_count,
            // What the body says of the trace comes with the decoded record's own fields.
            trace_id = record.producer(&[], &[]).trace_id(),
        )
    }
}

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Turns a panic of `work` into a failure of its record.
///
/// It is no `async fn`, which would hold `work` twice: as its argument and as what it waits for.
///
/// # Errors
/// The failure of `work` itself, or its panic.
pub fn isolated<T>(work: impl Future<Output = Result<T, Failure>>) -> impl Future<Output = Result<T, Failure>> {
    let caught = AssertUnwindSafe(work).catch_unwind();
    caught.map(|ended| ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))))
}

/// A panic is a fault of this code, not of the event: it is retried, and ends in the dead-letter queue if it persists.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::transient(format!("the code panicked on this record: {}", text.unwrap_or("without a message")))
}

#[cfg(test)]
mod tests {
    use std::{future::ready, mem::size_of_val};

    use super::*;

    #[test]
    fn isolated_work_is_held_once() {
        let work = || async {
            let held = [1_u8; 4_096];
            ready(()).await;
            Ok(held.len())
        };
        let (bare, isolated) = (size_of_val(&work()), size_of_val(&isolated(work())));
        assert!(bare >= 4_096 && isolated < bare + 64, "{bare} bytes of work take {isolated}");
    }
}
