//! What must hold of any event of Kafka: each of its records arrives as one that can be read, one without a value or one that a
//! dead-letter queue takes, and an invocation succeeds only if none of them is lost.

use std::{
    mem::take,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_sqs::{Client, Config, config::BehaviorVersion};
use data_encoding::BASE64;
use serde_json::{Value, json, value::RawValue};
use shared::{
    backoff::Backoff,
    booking::{
        Outcome,
        event::{BookingEvent, Cancelled, Contexts, Created},
    },
    deadline::Deadline,
    failure::Failure,
    start::Function,
    telemetry::{
        metrics::Metrics,
        trace::{TraceContext, Tracing},
    },
    trigger::{
        Decoded, Done, Message, Portion, Processor,
        kafka::{
            Consumer,
            event::{self, Arrived, Headers, Unusable},
        },
        sqs::{
            Limits, Worker,
            dead_letter::{LARGEST_BODY, is_text_for_sqs},
            queue::Queues,
        },
    },
};
use tokio::runtime::Runtime;
use tracing::Span;

/// The longest text that says what is wrong: of our own words, and of little that was sent.
const LONGEST_MESSAGE: usize = 400;

/// The function under the fuzzer. It has no queue to send anything to, so that an invocation with a record that is not done
/// fails, and nothing goes over a network.
struct Judge {
    runtime: Runtime,
    consumer: Consumer<Reader>,
}

thread_local! {
    static JUDGE: Judge = Judge::new();
}

impl Judge {
    fn new() -> Self {
        let config = Config::builder().behavior_version(BehaviorVersion::latest()).build();
        let worker = Worker {
            processor: Reader::default(),
            queues: Queues::new(Client::from_conf(config), None),
            limits: Limits {
                concurrency: 20,
                max_receives: 12,
                budget: Duration::from_secs(1),
                backoff: Backoff::DEFAULT,
            },
            metrics: Metrics::default(),
            tracing: Tracing::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
        Self { runtime, consumer: Consumer { worker, own_queue: None } }
    }

    /// Whether the invocation succeeded, and the bodies that were read in it.
    fn invoke(&self, payload: &RawValue) -> (bool, Vec<String>) {
        let deadline = Deadline::at(SystemTime::now() + Duration::from_secs(30));
        let answer = self.runtime.block_on(self.consumer.invoke(payload, deadline));
        let read = take(&mut *self.consumer.worker.processor.read.lock().unwrap_or_else(PoisonError::into_inner));
        match answer {
            Ok(answer) => {
                let answer = serde_json::to_value(answer).unwrap_or_default();
                assert_eq!(answer, json!({"batchItemFailures": []}), "no answer names a record");
                (true, read)
            }
            Err(why) => {
                check_message(&why);
                (false, read)
            }
        }
    }
}

/// Takes every event about a booking, and notes what it was asked to read.
#[derive(Default)]
struct Reader {
    read: Mutex<Vec<String>>,
}

impl<R: Message + Sync> Processor<R> for Reader {
    type Item = ();
    type Outcome = Outcome;

    const PORTION: Portion = Portion::Batch;

    fn name(&self) -> &'static str {
        "fuzz"
    }

    fn budget(&self) -> Duration {
        Duration::ZERO
    }

    fn decode(&self, record: &R) -> Result<Decoded<()>, Failure> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).push(record.body().to_owned());
        let (key, Contexts { traceparents, baggages }) = booking(record.body())?;
        let producer = record.producer(&traceparents, &baggages);
        Ok(Decoded { key, span: Span::none(), producer, item: () })
    }

    async fn process(&self, (): (), _: &TraceContext, _: Deadline) -> Result<Done<Outcome>, Failure> {
        Ok(Done::of(Outcome::Success))
    }
}

/// The booking of an event, and its trace.
fn booking(body: &str) -> Result<(String, Contexts), Failure> {
    let (id, contexts) = match Created::parse(body) {
        Ok(created) => {
            check_booking(&created);
            (created.booking_id, created.contexts)
        }
        Err(failure) => match Cancelled::parse(body) {
            Ok(cancelled) => (cancelled.booking_id, cancelled.contexts),
            Err(_) => return Err(failure),
        },
    };
    assert!((1..=256).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    Ok((id, contexts))
}

/// Every accepted booking is a row.
fn check_booking(created: &Created) {
    assert!((1..=1_000).contains(&created.guests), "{created:?}");
    assert!(created.stay.start_date < created.stay.end_date, "{created:?}");
    let years = [created.stay.start_date, created.stay.end_date].map(|date| date.year());
    assert!(years.iter().all(|year| (1..=9_999).contains(year)), "{created:?}");
    assert!(!created.room.trim().is_empty() && created.room.chars().count() <= 256, "{created:?}");
    let texts = [Some(created.room.as_str()), Some(created.user.text()), created.payment_id.as_deref()];
    assert!(texts.iter().flatten().all(|text| !text.contains('\0')), "no column of PostgreSQL takes it: {created:?}");
}

/// Has an event worked. An input that is no JSON is a record: a header on a line, then its value.
///
/// # Panics
/// When something does not hold.
pub(crate) fn judge(input: &str) {
    match RawValue::from_string(input.to_owned()) {
        Ok(event) => check(&event),
        Err(_) => {
            let sent = Sent::read(input);
            match RawValue::from_string(sent.event().to_string()) {
                Ok(event) => {
                    check(&event);
                    sent.check(&event);
                }
                Err(error) => panic!("what was written as JSON is none: {error}"),
            }
        }
    }
}

fn check(payload: &RawValue) {
    let arrived = match event::read(payload.get()) {
        Ok(arrived) => arrived,
        Err(why) => return check_message(&why),
    };
    let mut readable = Vec::new();
    let mut is_lossless = true;
    for arrived in arrived {
        match arrived {
            Arrived::Tombstone(_) => {}
            Arrived::Unusable(unusable) => {
                check_unusable(&unusable);
                is_lossless = false;
            }
            Arrived::Readable(record) => {
                check_for_sqs(&record.body);
                check_headers(&record.headers);
                is_lossless &= booking(&record.body).is_ok();
                readable.push(record.body);
            }
        }
    }
    if has(payload.get(), "Records") {
        return; // It is the queue's, or nobody's.
    }
    let (is_done, read) = JUDGE.with(|judge| judge.invoke(payload));
    assert_eq!(is_done, is_lossless, "an invocation succeeds if all of its records are done");
    assert_eq!(read, readable, "each record is read once, and in its order");
}

/// Whether an object has a field, under whatever value.
fn has(object: &str, name: &str) -> bool {
    let fields: serde_json::Map<String, Value> = match serde_json::from_str(object) {
        Ok(fields) => fields,
        Err(_) => return object.contains(name),
    };
    fields.contains_key(name)
}

fn check_message(message: &str) {
    assert!((5..LONGEST_MESSAGE).contains(&message.chars().count()), "{message:?}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

fn check_for_sqs(body: &str) {
    assert!((1..=LARGEST_BODY).contains(&body.len()) && is_text_for_sqs(body), "{body:?}");
}

fn check_unusable(unusable: &Unusable) {
    check_for_sqs(&unusable.body);
    check_message(&unusable.fault);
    check_headers(&unusable.headers);
    if unusable.is_base64 {
        let bytes = BASE64.decode(unusable.body.as_bytes());
        assert!(bytes.is_ok_and(|bytes| !bytes.is_empty()), "{unusable:?}");
    }
}

/// What goes on to other services stands in a header there.
fn check_headers(headers: &Headers) {
    let TraceContext { traceparent, baggage, .. } = headers.producer(&[], &[]);
    for text in [traceparent, baggage].into_iter().flatten() {
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
        assert!(text.len() <= 8_192, "{text:?}");
    }
}

/// A record as a producer might send it.
struct Sent<'a> {
    header: (&'a str, &'a str),
    value: &'a str,
}

impl<'a> Sent<'a> {
    fn read(input: &'a str) -> Self {
        let (header, value) = input.split_once('\n').unwrap_or(("", input));
        Self { header: header.split_once(':').unwrap_or((header, "")), value }
    }

    fn event(&self) -> Value {
        let (name, value) = self.header;
        let signed: Vec<i8> = value.bytes().map(u8::cast_signed).collect();
        let headers = [Value::Object([(name.to_owned(), json!(signed))].into_iter().collect())];
        let record = json!({"offset": 5, "value": BASE64.encode(self.value.as_bytes()), "headers": headers});
        json!({"eventSource": "aws:kafka", "records": {"bookings-0": [record]}})
    }

    /// What was sent has arrived, whatever stands in it.
    fn check(&self, event: &RawValue) {
        let Ok(arrived) = event::read(event.get()) else { panic!("an event of ours is one: {event}") };
        match (arrived.as_slice(), self.value.is_empty()) {
            ([Arrived::Tombstone(place)], true) => assert_eq!(place.to_string(), "bookings-0@5"),
            ([Arrived::Readable(record)], false) => {
                assert_eq!((record.body.as_str(), record.source().as_ref()), (self.value, "bookings-0@5"));
            }
            ([Arrived::Unusable(unusable)], false) => {
                assert!(!is_text_for_sqs(self.value), "{unusable:?}");
                assert_eq!(BASE64.decode(unusable.body.as_bytes()).ok().as_deref(), Some(self.value.as_bytes()));
            }
            _ => panic!("{arrived:?} of {event}"),
        }
    }
}
