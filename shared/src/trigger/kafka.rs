//! An event source mapping on topics of Kafka, for a function that has a queue of its own as well.
//!
//! A partition stands still while a batch of it fails, and whether a partial answer counts depends on a setting, without which
//! a list of failures reads as success. So no answer names records: each one is done, or in the dead-letter queue, or parked in
//! the function's own queue, where it has a queue's back-off, receives and dead-letter queue; or else the invocation fails as
//! a whole, and Kafka keeps all of it. What `Ok` and `Err` mean is written at [`Consumer::consume`].

pub mod event;

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use aws_lambda_events::sqs::SqsBatchResponse;
use aws_sdk_sqs::{error::BuildError, types::MessageAttributeValue};
use futures_util::{StreamExt, stream};
use opentelemetry::{KeyValue, trace::SpanKind};
use serde_json::value::RawValue;
use tokio::time::timeout;
use tracing::{Instrument, Span, error, info, info_span, warn};

use self::event::{Arrived, Place, Record, Unusable};
use crate::{
    client::queue,
    config::ConfigError,
    deadline::Deadline,
    failure::{Failure, Wait},
    json::Object,
    name::{Named, names},
    start::{Function, Parts},
    telemetry::{
        metrics::{Metric, Recorder, Unit},
        trace::{OUTCOME, RecordTrace, TraceContext},
    },
    trigger::{
        Decoded, Done, Message, Processor, Task, Verdict,
        sqs::{
            self, SOURCE, WORKER_EVENTS, WORKER_UNSTARTED, Worker,
            dead_letter::{DeadLetterReason, Letter, string},
            queue::QueueError,
        },
        worked::{self, Handed, TOO_LATE, Together, millis},
    },
};

names! {
    /// The outcomes of records that no processor sees, beside [`sqs::Outcome`].
    pub enum Outcome {
        /// There was nothing in it.
        Ignored = "ignored",
    }
}

names! {
    /// The codes of records that no processor sees.
    enum ErrorCode {
        /// No value that SQS could carry. Processors call it so too.
        MalformedBody = "malformed_body",
    }
}

const PARKED: Metric = Metric { name: "parked_total", unit: Unit::Count, dimensions: &["type"] };

/// The metrics that a consumer writes beside those of its worker. `type` is its processor's name.
pub const METRICS: &[Metric] = &[PARKED];

/// The attribute of a message whose body is not what was there: how it is written.
const ENCODING: &str = "encoding";

/// The attribute of a message whose body is only the beginning of what was there: how many bytes that had.
const CUT_FROM: &str = "value_bytes";

/// Works the batches of a function's own queue, and those of its topics.
#[derive(Debug)]
pub struct Consumer<P> {
    /// What works the queue, and how.
    pub worker: Worker<P>,
    /// Its queue, where records of a topic are parked.
    pub own_queue: Option<String>,
}

/// Why an invocation fails, so that the mapping hands over all of its batch again.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Nothing in it can be told from anything else.
    #[error("the payload is not an event of Kafka, so nothing in it can be acknowledged: {0}")]
    NoEvent(String),
    /// No record was begun.
    #[error(
        "no record could start, because the invocation had {time_ms} ms and one may take {budget_ms} ms: raise the function's \
         timeout above that, or look at its clock"
    )]
    ShortOfTime {
        /// What the invocation had.
        time_ms: u128,
        /// What a record may take.
        budget_ms: u128,
    },
    /// What every record needs.
    #[error("{0}")]
    Away(String),
    /// A record could go nowhere.
    #[error("the record {place} could not be parked, so all of the batch waits: {error}")]
    Unparked {
        /// Where it stands.
        place: Place,
        /// Why not.
        error: String,
    },
}

/// A record that was looked at.
struct Looked {
    place: Place,
    body: String,
    /// What goes along with the body into another queue.
    attributes: Vec<(&'static str, String)>,
    span: Span,
    trace: RecordTrace,
}

/// A record that ended.
struct Ended {
    outcome: &'static str,
    dead_letter_code: Option<&'static str>,
    parked: bool,
}

impl Message for Record {
    fn body(&self) -> &str {
        &self.body
    }

    fn source(&self) -> Cow<'_, str> {
        Cow::Owned(self.place.to_string())
    }

    fn producer(&self, traceparents: &[Option<String>], baggages: &[Option<String>]) -> TraceContext {
        self.headers.producer(traceparents, baggages)
    }
}

impl<P: Processor<sqs::Record> + Processor<Record>> Consumer<P> {
    /// Reads the variables of what a consumer is made of beside its processor. Nothing: what is wrong with them, or with the
    /// processor's, is noted.
    pub fn configured(processor: Option<P>, parts: &mut Parts<'_>) -> Option<Self> {
        let own_queue = queue::url(&mut parts.reader, "QUEUE_URL");
        let worker = Worker::configured(processor, parts);
        Some(Self { worker: worker?, own_queue })
    }
}

impl<P: Processor<Record>> Consumer<P> {
    /// Works every record of an event of Kafka.
    ///
    /// `Ok`: each is done, ignored, in the dead-letter queue or parked, and the mapping may go on behind them.
    ///
    /// # Errors
    /// When that does not hold for each of them. All of the batch comes again, and its partitions wait meanwhile; what was done
    /// is then a duplicate. Nothing was sent to a queue if what every record needs is away.
    pub async fn consume(&self, payload: &str, deadline: Deadline) -> Result<(), Stopped> {
        let arrived = event::read(payload).map_err(Stopped::NoEvent)?;
        let mut recorder = Recorder::default();
        let (all, started) = (arrived.len(), Instant::now());
        let mut ended = 0;
        let result = self.work(arrived, deadline, |record| {
            record.record(self.name(), started.elapsed(), &mut recorder);
            ended += 1;
        });
        let result = result.await;
        if all > ended {
            recorder.count(&WORKER_EVENTS, &[self.name(), sqs::Outcome::Retried.name()], (all - ended) as u64);
            if let Err(Stopped::ShortOfTime { .. }) = &result {
                recorder.count(&WORKER_UNSTARTED, &[self.name()], all as u64);
            }
        }
        self.worker.metrics.write(&recorder);
        result
    }

    async fn work(
        &self,
        arrived: Vec<Arrived>,
        deadline: Deadline,
        mut ended: impl FnMut(Ended),
    ) -> Result<(), Stopped> {
        let (time, budget) = (deadline.remaining(), self.worker.limits.budget);
        if time < budget {
            return Err(Stopped::ShortOfTime { time_ms: time.as_millis(), budget_ms: budget.as_millis() });
        }
        let started = Instant::now();
        let (mut readable, mut tasks, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for arrived in arrived {
            match arrived {
                Arrived::Tombstone(place) => {
                    let _inside = self.span(&place, &TraceContext::default()).entered();
                    let (outcome, latency_ms) = (Outcome::Ignored.name(), millis(started));
                    info!(outcome, latency_ms, note = "it has no value", "record ended: {outcome}");
                    ended(Ended { outcome, dead_letter_code: None, parked: false });
                }
                Arrived::Unusable(unusable) => {
                    let failure = Failure::permanent(ErrorCode::MalformedBody, format!("the {}", unusable.fault));
                    failed.push((self.look_at_unusable(unusable), failure));
                }
                Arrived::Readable(record) => {
                    let producer = record.producer(&[], &[]);
                    let span = self.span(&record.place, &producer);
                    match span.in_scope(|| worked::decode(&self.worker.processor, &record)) {
                        Ok(Decoded { item, span, producer, .. }) => {
                            let looked = self.look_at(&record, span, producer);
                            tasks.push(Task { item, trace: looked.trace.outgoing.clone(), span: looked.span.clone() });
                            readable.push((looked, record));
                        }
                        Err(failure) => failed.push((self.look_at(&record, span, producer), failure)),
                    }
                }
            }
        }

        let handed: Vec<Handed<'_, Record>> = readable
            .iter()
            .map(|(looked, record)| Handed { record, trace: &looked.trace.outgoing, span: &looked.span })
            .collect();
        let Worker { processor, tracing, .. } = &self.worker;
        let verdicts = Together { processor, tracing, budget }.work(tasks, &handed, deadline).await;
        let away = verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Away(why) => Some(why.clone()),
            Verdict::Done(_) | Verdict::Failed(_) | Verdict::Unstarted => None,
        });
        for ((looked, _), verdict) in readable.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done(done) => ended(looked.done(&done, started)),
                Verdict::Failed(failure) => failed.push((looked, failure)),
                Verdict::Away(why) => failed.push((looked, Failure::transient(why))),
                Verdict::Unstarted => {
                    let message = TOO_LATE.to_owned();
                    failed.push((looked, Failure::Transient { message, wait: Wait::BackOff }));
                }
            }
        }
        if let Some(why) = away {
            // Kafka keeps them, and each delivery would send one more copy.
            return Err(Stopped::Away(why));
        }
        let ends = stream::iter(failed).map(|(looked, failure)| {
            let span = looked.span.clone();
            self.end(looked, failure, started, deadline).instrument(span)
        });
        let mut ends = std::pin::pin!(ends.buffer_unordered(self.worker.limits.concurrency));
        while let Some(end) = ends.next().await {
            ended(end?);
        }
        Ok(())
    }

    /// Sends a record to the dead-letter queue, or else to the function's own.
    async fn end(
        &self,
        looked: Looked,
        failure: Failure,
        started: Instant,
        deadline: Deadline,
    ) -> Result<Ended, Stopped> {
        let wait = match &failure {
            Failure::Transient { wait, .. } | Failure::Early { wait, .. } => *wait,
            Failure::Permanent { code, message } => {
                let reason = DeadLetterReason { code, message, event_type: self.name() };
                match in_time(deadline, self.bury(&looked, &reason)).await {
                    Ok(()) => {
                        let outcome = sqs::Outcome::Rejected.name();
                        worked::buried(outcome, code, message, looked.trace, started);
                        return Ok(Ended { outcome, dead_letter_code: Some(code), parked: false });
                    }
                    Err(error) => {
                        warn!(error, error_code = code, "the record could not be sent to the dead-letter queue");
                        Wait::BackOff
                    }
                }
            }
        };
        let delay = self.worker.limits.backoff.wait(1, wait);
        if let Err(error) = in_time(deadline, self.park(&looked, delay)).await {
            return Err(Stopped::Unparked { place: looked.place, error });
        }
        let (outcome, latency_ms, message) = (sqs::Outcome::Retried.name(), millis(started), failure.message());
        warn!(outcome, latency_ms, error = message, "record ended: {outcome}, parked in the function's own queue");
        looked.trace.finish(KeyValue::new(OUTCOME, outcome), Some(message));
        Ok(Ended { outcome, dead_letter_code: None, parked: true })
    }

    async fn bury(&self, looked: &Looked, reason: &DeadLetterReason<'_>) -> Result<(), QueueError> {
        self.worker.queues.bury(&looked.letter()?, reason).await
    }

    async fn park(&self, looked: &Looked, delay: Duration) -> Result<(), QueueError> {
        let url = self.own_queue.as_deref().ok_or(QueueError::NoOwnQueue)?;
        self.worker.queues.send(url, &looked.letter()?, delay).await
    }

    fn look_at(&self, record: &Record, span: Span, producer: TraceContext) -> Looked {
        self.looked(record.place.clone(), record.body.clone(), Vec::new(), span, producer)
    }

    fn look_at_unusable(&self, unusable: Unusable) -> Looked {
        let Unusable { place, body, is_base64, cut_from, headers, .. } = unusable;
        let producer = headers.producer(&[], &[]);
        let span = self.span(&place, &producer);
        let encoding = is_base64.then(|| (ENCODING, "base64".to_owned()));
        let cut = cut_from.map(|bytes| (CUT_FROM, bytes.to_string()));
        self.looked(place, body, encoding.into_iter().chain(cut).collect(), span, producer)
    }

    fn looked(
        &self,
        place: Place,
        body: String,
        mut attributes: Vec<(&'static str, String)>,
        span: Span,
        producer: TraceContext,
    ) -> Looked {
        attributes.push((SOURCE, place.to_string()));
        attributes.extend(producer.traceparent.clone().map(|traceparent| ("traceparent", traceparent)));
        attributes.extend(producer.baggage.clone().map(|baggage| ("baggage", baggage)));
        let trace = [
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", place.topic().to_owned()),
            KeyValue::new("messaging.message.id", place.to_string()),
            KeyValue::new("faas.trigger", "pubsub"),
        ];
        let trace = self.worker.tracing.start(self.name(), SpanKind::Consumer, producer, trace);
        Looked { place, body, attributes, span, trace }
    }

    fn span(&self, place: &Place, producer: &TraceContext) -> Span {
        info_span!("record", event_type = self.name(), message_id = %place, trace_id = producer.trace_id())
    }

    fn name(&self) -> &'static str {
        self.worker.processor.name()
    }
}

impl Looked {
    /// The record as it goes into another queue.
    fn letter(&self) -> Result<Letter<'_>, BuildError> {
        let attribute = |(name, value): &(&'static str, String)| Ok(((*name).to_owned(), string(value)?));
        let attributes: Result<Vec<(String, MessageAttributeValue)>, BuildError> =
            self.attributes.iter().map(attribute).collect();
        let message_id = Cow::Owned(self.place.to_string());
        Ok(Letter { body: &self.body, message_id, group_id: None, attributes: attributes? })
    }

    fn done<O: Named>(self, done: &Done<O>, started: Instant) -> Ended {
        let outcome = self.span.in_scope(|| worked::done(done, self.trace, started));
        Ended { outcome, dead_letter_code: None, parked: false }
    }
}

impl Ended {
    fn record(&self, event_type: &'static str, latency: Duration, recorder: &mut Recorder) {
        worked::count(recorder, event_type, self.outcome, self.dead_letter_code, latency);
        if self.parked {
            recorder.count(&PARKED, &[event_type], 1);
        }
    }
}

/// A call to SQS, if there is time for it: an answer that comes too late would be none.
async fn in_time(deadline: Deadline, call: impl Future<Output = Result<(), QueueError>>) -> Result<(), String> {
    match timeout(deadline.spare(), call).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_elapsed) => Err("no time was left before the invocation's deadline".to_owned()),
    }
}

impl<P: Processor<sqs::Record> + Processor<Record>> Function for Consumer<P> {
    /// That of a queue. An empty list of failures is a success to a mapping of Kafka too, whatever its settings.
    type Response = SqsBatchResponse;

    async fn probe(&self) -> Result<(), ConfigError> {
        self.worker.probe().await
    }

    fn event_type(&self) -> Option<&'static str> {
        self.worker.event_type()
    }

    fn count_start(&self) {
        self.worker.count_start();
    }

    /// The payload says by its name for the records which trigger it comes from.
    async fn invoke(&self, payload: &RawValue, deadline: Deadline) -> Result<SqsBatchResponse, String> {
        let has = |event: &Object<'_>, name| event.raw(name).is_ok_and(|records| records.is_some());
        let event = Object::read(payload.get()).unwrap_or_default();
        let stopped = match (has(&event, "Records"), has(&event, "records")) {
            // What it is not, the queue's worker says.
            (_, false) => return self.worker.invoke(payload, deadline).await,
            (false, true) => match self.consume(payload.get(), deadline).await {
                Ok(()) => return Ok(SqsBatchResponse::default()),
                Err(stopped) => stopped.to_string(),
            },
            (true, true) => "the payload has both Records, of a queue, and records, of topics".to_owned(),
        };
        let event_type = Processor::<Record>::name(&self.worker.processor);
        error!(event_type, error = stopped, "the invocation failed; all of its batch comes again");
        Err(stopped)
    }

    async fn answered(&self, deadline: Deadline) {
        self.worker.answered(deadline).await;
    }
}
