//! One SQS batch: every record gets exactly one outcome, and SQS hears exactly which ones failed.
//!
//! What `Ok` and `Err` mean to the queue is written at [`Worker::process`].

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use futures_util::{StreamExt, stream};
use opentelemetry::{KeyValue, trace::SpanKind};
use tokio::time::timeout;
use tracing::{Instrument, Span, error, info_span, warn};

use super::{
    ErrorCode, Outcome, WORKER_EARLY, WORKER_UNSTARTED, Worker,
    dead_letter::DeadLetterReason,
    queue::joined,
    record::{MissingMessageId, Record},
};
use crate::{
    deadline::Deadline,
    failure::{Failure, Wait, isolated},
    name::Named,
    telemetry::{
        metrics::Recorder,
        trace::{OUTCOME, RecordTrace, TraceContext},
    },
    trigger::{
        Decoded, Done, Message, Portion, Processor, Task, Verdict,
        worked::{self, Handed, TOO_LATE, Together, millis},
    },
};

/// A message that only waits for its time is sent anew once it is so old. A queue keeps it for ten days, and between two
/// deliveries lie up to eleven hours.
const RENEWED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// An event that has come before its time for so long is none that merely waits: somebody has to look.
const LONG_EARLY: Duration = Duration::from_secs(24 * 60 * 60);

/// How a record ended, as its log line and the batch response say it.
struct Ending {
    outcome: &'static str,
    /// Whether the message must stay in its queue. One that was sent there anew must not.
    report: bool,
    /// The `error_code` that it carries in the dead-letter queue, if it was sent there.
    dead_letter_code: Option<&'static str>,
    /// Whether it has been too early for longer than an event is.
    long_early: bool,
}

impl Ending {
    /// The message comes back.
    fn retried() -> Self {
        Self { outcome: Outcome::Retried.name(), report: true, dead_letter_code: None, long_early: false }
    }

    fn record(&self, event_type: &'static str, latency: Duration, recorder: &mut Recorder) {
        worked::count(recorder, event_type, self.outcome, self.dead_letter_code, latency);
        if self.long_early {
            recorder.count(&WORKER_EARLY, &[event_type], 1);
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
struct Looked {
    record: Record,
    span: Span,
    producer: TraceContext,
}

/// What its look came to.
struct Prepared<T> {
    looked: Looked,
    item: Result<T, Failure>,
}

/// Records in the order of the batch: those of one key, or all that could be read, for a processor of whole batches.
type Group<T> = Vec<Prepared<T>>;

/// What became of a group: how records ended and how long they took, and those that did not start.
#[derive(Default)]
struct Worked {
    ended: Vec<(String, Ending, Duration)>,
    unstarted: Vec<Looked>,
}

impl<P: Processor<Record>> Worker<P> {
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

        let event_type = self.processor.name();
        let time_in_all = deadline.remaining();
        let groups = self.group(records);
        let worked = stream::iter(groups)
            .map(|group| self.work_group(group, deadline))
            .buffer_unordered(self.limits.concurrency)
            .collect::<Vec<_>>()
            .await;

        let mut recorder = Recorder::default();
        let mut reported: HashMap<String, bool> = HashMap::with_capacity(order.len());
        let mut unstarted = Vec::new();
        for Worked { ended, unstarted: left } in worked {
            for (message_id, ending, latency) in ended {
                ending.record(event_type, latency, &mut recorder);
                // One message twice in one batch must be deleted only if both copies may be.
                *reported.entry(message_id).or_default() |= ending.report;
            }
            unstarted.extend(left);
        }
        let short_of_time = ShortOfTime { time_in_all, nothing_started: reported.is_empty() };
        if short_of_time.nothing_started && (time_in_all < self.limits.budget || !unstarted.is_empty()) {
            let (time_ms, budget_ms) = (time_in_all.as_millis(), self.limits.budget.as_millis());
            error!(
                event_type,
                %time_ms,
                %budget_ms,
                records = unstarted.len(),
                "no record could start, because the invocation had less time than one record's calls may take: raise the \
                 function's timeout above the budget, or look at its clock; the messages come back by back-off"
            );
            recorder.count(&WORKER_UNSTARTED, &[event_type], unstarted.len() as u64);
        }
        for (message_id, ending) in self.give_back(unstarted, short_of_time, deadline).await {
            ending.record(event_type, Duration::ZERO, &mut recorder);
            *reported.entry(message_id).or_default() |= ending.report;
        }
        self.metrics.write(&recorder);

        let mut response = SqsBatchResponse::default();
        for message_id in order {
            if reported.remove(&message_id) == Some(true) {
                response.add_failure(message_id);
            }
        }
        Ok(response)
    }

    /// Decodes every record and puts those together that are worked in turn, or at once.
    fn group(&self, records: Vec<Record>) -> Vec<Group<P::Item>> {
        let mut groups: Vec<Group<P::Item>> = Vec::with_capacity(records.len());
        let mut by_key: HashMap<String, usize> = HashMap::new();
        for record in records {
            let span = self.span(&record);
            let decoded = span.in_scope(|| worked::decode(&self.processor, &record));
            let index = match (&decoded, P::PORTION) {
                (Ok(decoded), Portion::Record) => *by_key.entry(decoded.key.clone()).or_insert(groups.len()),
                (Ok(_), Portion::Batch) => *by_key.entry(String::new()).or_insert(groups.len()),
                (Err(_), Portion::Record | Portion::Batch) => groups.len(),
            };
            if index == groups.len() {
                groups.push(Vec::new());
            }
            groups[index].push(match decoded {
                Ok(Decoded { item, span, producer, .. }) => {
                    Prepared { looked: Looked { record, span, producer }, item: Ok(item) }
                }
                Err(failure) => {
                    let producer = record.producer(&[], &[]);
                    Prepared { looked: Looked { record, span, producer }, item: Err(failure) }
                }
            });
        }
        groups
    }

    /// Works a group. What is not started before the deadline is to be handed back.
    async fn work_group(&self, group: Group<P::Item>, deadline: Deadline) -> Worked {
        match P::PORTION {
            Portion::Record => self.work_in_turn(group, deadline).await,
            Portion::Batch => self.work_at_once(group, deadline).await,
        }
    }

    async fn work_in_turn(&self, group: Group<P::Item>, deadline: Deadline) -> Worked {
        let mut worked = Worked::default();
        for Prepared { looked, item } in group {
            if deadline.remaining() < self.limits.budget {
                worked.unstarted.push(looked);
                continue;
            }
            let started = Instant::now();
            let Looked { record, span, producer } = looked;
            let trace = self.start_trace(&record, producer);
            let work = async {
                let result = match item {
                    Ok(item) => isolated(self.processor.process(item, &trace.outgoing, deadline)).await,
                    Err(failure) => Err(failure),
                };
                self.end(&record, result, trace, started).await
            };
            let ending = work.instrument(span).await;
            worked.ended.push((record.message_id, ending, started.elapsed()));
        }
        worked
    }

    /// Hands all records of a group to the processor.
    async fn work_at_once(&self, group: Group<P::Item>, deadline: Deadline) -> Worked {
        let mut worked = Worked::default();
        if deadline.remaining() < self.limits.budget {
            worked.unstarted.extend(group.into_iter().map(|prepared| prepared.looked));
            return worked;
        }
        let started = Instant::now();
        let mut tasks = Vec::with_capacity(group.len());
        let mut begun = Vec::with_capacity(group.len());
        for Prepared { looked, item } in group {
            let trace = self.start_trace(&looked.record, looked.producer.clone());
            let failed = match item {
                Ok(item) => {
                    tasks.push(Task { item, trace: trace.outgoing.clone(), span: looked.span.clone() });
                    None
                }
                Err(failure) => Some(Verdict::Failed(failure)),
            };
            begun.push((looked, trace, failed));
        }
        let handed: Vec<Handed<'_, Record>> = begun
            .iter()
            .filter(|(_, _, failed)| failed.is_none())
            .map(|(looked, trace, _)| Handed { record: &looked.record, trace: &trace.outgoing, span: &looked.span })
            .collect();
        let together = Together { processor: &self.processor, tracing: &self.tracing, budget: self.limits.budget };
        let mut verdicts = together.work(tasks, &handed, deadline).await.into_iter();

        let mut endings = Vec::with_capacity(begun.len());
        for (looked, trace, failed) in begun {
            let verdict = failed.or_else(|| verdicts.next());
            let result = match verdict.unwrap_or(Verdict::Unstarted) {
                Verdict::Done(done) => Ok(done),
                Verdict::Failed(failure) => Err(failure),
                Verdict::Away(message) => Err(Failure::transient(message)),
                Verdict::Unstarted => {
                    worked.unstarted.push(looked);
                    continue;
                }
            };
            endings.push((looked, trace, result));
        }
        let ended = stream::iter(endings).map(|(Looked { record, span, .. }, trace, result)| async move {
            let ending = self.end(&record, result, trace, started).instrument(span).await;
            (record.message_id, ending, started.elapsed())
        });
        worked.ended = ended.buffer_unordered(self.limits.concurrency).collect().await;
        worked
    }

    /// Does with the message what its result asks for, and writes the record's line.
    async fn end(
        &self,
        record: &Record,
        result: Result<Done<P::Outcome>, Failure>,
        trace: RecordTrace,
        started: Instant,
    ) -> Ending {
        let (ending, error) = match result {
            Ok(done) => {
                let outcome = worked::done(&done, trace, started);
                return Ending { outcome, report: false, dead_letter_code: None, long_early: false };
            }
            Err(failure) => (self.dispose(record, &failure).await, failure),
        };
        let (outcome, latency_ms, text) = (ending.outcome, millis(started), error.message());
        let error_code = match &error {
            Failure::Permanent { code, .. } => Some(*code),
            Failure::Transient { .. } | Failure::Early { .. } => ending.dead_letter_code,
        };
        match (ending.report, ending.dead_letter_code) {
            (true, _) => warn!(outcome, latency_ms, error = text, error_code, "record ended: {outcome}"),
            (false, Some(code)) => {
                worked::buried(outcome, code, text, trace, started);
                return ending;
            }
            (false, None) => {
                warn!(outcome, latency_ms, error = text, "record ended: {outcome}, sent to its own queue once more")
            }
        }
        trace.finish(KeyValue::new(OUTCOME, outcome), Some(text));
        ending
    }

    /// Postpones or dead-letters a message that did not end well.
    async fn dispose(&self, record: &Record, failure: &Failure) -> Ending {
        let last = self.limits.max_receives;
        let (code, outcome, wait) = match failure {
            Failure::Early { wait, .. } => {
                let long_early = record.waiting(SystemTime::now()) > LONG_EARLY;
                return Ending { long_early, ..self.wait_for(record, *wait).await };
            }
            Failure::Transient { wait, .. } if P::NEVER_GIVEN_UP.is_some() => {
                return self.wait_for(record, *wait).await;
            }
            Failure::Permanent { code, .. } => (*code, Outcome::Rejected.name(), Wait::BackOff),
            Failure::Transient { wait, .. } if record.receive_count < last => {
                return self.postpone(record, *wait).await;
            }
            // Its receives are used up by another worker that may be about to succeed. One more shows what became of it.
            Failure::Transient { wait: wait @ Wait::Claimed(_), .. } if record.receive_count == last => {
                return self.postpone(record, *wait).await;
            }
            Failure::Transient { wait, .. } => (ErrorCode::RetriesExhausted.name(), Outcome::Exhausted.name(), *wait),
        };
        let reason = DeadLetterReason { code, message: failure.message(), event_type: self.processor.name() };
        match self.queues.dead_letter(record, &reason).await {
            Ok(()) => Ending { outcome, report: false, dead_letter_code: Some(code), long_early: false },
            Err(error) => {
                warn!(error = %error, error_code = code, "the message could not be sent to the dead-letter queue");
                self.postpone(record, wait).await
            }
        }
    }

    /// Lets a message wait that came before its time, or that is never given up: it must not run out of receives, nor of the
    /// time that its queue keeps it. Before either happens it is sent anew.
    async fn wait_for(&self, record: &Record, wait: Wait) -> Ending {
        let wait = self.wait(record, wait);
        let runs_out =
            record.receive_count >= self.limits.max_receives || record.age(SystemTime::now()) > RENEWED_AFTER;
        if runs_out {
            match self.queues.send_anew(record, wait).await {
                Ok(()) => return Ending { report: false, ..Ending::retried() },
                Err(error) => warn!(error = %error, "the message could not be sent anew, so it waits as it is"),
            }
        }
        self.hide(record, wait).await
    }

    async fn postpone(&self, record: &Record, wait: Wait) -> Ending {
        self.hide(record, self.wait(record, wait)).await
    }

    fn wait(&self, record: &Record, wait: Wait) -> Duration {
        let wait = self.limits.backoff.wait(record.receive_count, wait);
        P::NEVER_GIVEN_UP.map_or(wait, |longest| wait.min(longest))
    }

    async fn hide(&self, record: &Record, wait: Duration) -> Ending {
        if let Err(error) = self.queues.postpone(record, wait).await {
            warn!(error = %error, "the message's back-off could not be set, so it comes back when its visibility ends");
        }
        Ending::retried()
    }

    /// Ends the records that were not started. Those on their last receive are dead-lettered, because SQS would otherwise
    /// move them without a reason, or sent anew where the processor gives none up. The others are made visible again, all in
    /// one call: at once, because another environment may have the time; by back-off where nothing could start, because then
    /// none will have. What the time does not allow is left to the queue's visibility: an answer that comes too late would put
    /// the whole batch back.
    async fn give_back(&self, unstarted: Vec<Looked>, short: ShortOfTime, deadline: Deadline) -> Vec<(String, Ending)> {
        let late = Failure::transient(if short.nothing_started {
            format!(
                "not started: the invocation had {} ms in all, and this may take {} ms; raise the function's timeout, or \
                 look at its clock",
                short.time_in_all.as_millis(),
                self.limits.budget.as_millis(),
            )
        } else {
            TOO_LATE.to_owned()
        });
        let (last, returning): (Vec<_>, Vec<_>) =
            unstarted.into_iter().partition(|looked| looked.record.receive_count >= self.limits.max_receives);
        let mut ended = Vec::with_capacity(last.len() + returning.len());

        let wait = |record: &Record| match short.nothing_started {
            true => self.wait(record, Wait::BackOff),
            false => Duration::ZERO,
        };
        let (spans, records): (Vec<_>, Vec<_>) = returning
            .into_iter()
            .map(|Looked { span, record, .. }| {
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
            warn!(outcome = Outcome::Retried.name(), latency_ms = 0, error = late.message(), "record ended: retried");
            ended.push((record.message_id, Ending::retried()));
        }

        let disposed = stream::iter(last).map(|Looked { record, span, producer }| {
            let late = late.clone();
            async move {
                let trace = self.start_trace(&record, producer);
                let end = self.end(&record, Err(late), trace, Instant::now()).instrument(span.clone());
                let ending = timeout(deadline.spare(), end).await.unwrap_or_else(|_elapsed| {
                    span.in_scope(|| warn!(outcome = Outcome::Retried.name(), latency_ms = 0, "record ended: retried"));
                    Ending::retried()
                });
                (record.message_id, ending)
            }
        });
        ended.extend(disposed.buffer_unordered(self.limits.concurrency).collect::<Vec<_>>().await);
        ended
    }

    fn start_trace(&self, record: &Record, producer: TraceContext) -> RecordTrace {
        let attributes = [
            KeyValue::new("messaging.system", "aws_sqs"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.message.id", record.message_id.clone()),
            KeyValue::new("faas.trigger", "pubsub"),
        ];
        self.tracing.start(self.processor.name(), SpanKind::Consumer, producer, attributes)
    }

    fn span(&self, record: &Record) -> Span {
        info_span!(
            "record",
            event_type = self.processor.name(),
            message_id = record.message_id,
            attempt = record.receive_count,
            // What the body says of the trace comes with the decoded record's own fields.
            trace_id = record.producer(&[], &[]).trace_id(),
        )
    }
}
