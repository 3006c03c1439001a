//! Any batch: which records are reported, and how many outcomes each has.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use local_stack::{
    aws::AwsEndpoint,
    queue::{Queue, QueueOptions},
};
use proptest::{prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use shared::{
    backoff::Backoff,
    deadline::Deadline,
    failure::{self, Failure},
    settlement::{Outcome, event::ErrorCode},
    telemetry::{
        metrics::Metrics,
        trace::{TraceContext, Tracing},
    },
    trigger::{
        Decoded, Done, Processor,
        sqs::{Limits, Record, Worker, queue::Queues},
    },
};
use tracing::{Event, Metadata, Subscriber, field, span};

use crate::cases;

const LAST_RECEIVE: u32 = 5;

/// What becomes of a record, written in its body.
const FATES: [&str; 7] = ["succeed", "retry", "reject", "panic", "panic in decode", "refuse in decode", ""];

#[derive(Clone, Debug)]
struct Delivered {
    /// Records of one id are copies of one message.
    id: Option<String>,
    fate: &'static str,
    /// Records of one key run one after the other.
    key: u8,
    receive_count: u32,
    /// Junk where the count stands.
    unreadable: bool,
    /// Whether SQS can be told anything about it.
    addressed: bool,
}

fn delivered(ids: usize, junk_ids: bool, addressed: f64) -> impl Strategy<Value = Delivered> {
    let good = (0..ids).prop_map(|number| Some(format!("message-{number}")));
    let junk = select(&[None, Some(""), Some("  ")][..]).prop_map(|id| id.map(str::to_owned));
    let id = if junk_ids { prop_oneof![40 => good, 1 => junk].boxed() } else { good.boxed() };
    let count = prop_oneof![4 => 0..7_u32, 1 => any::<u32>()];
    (id, select(&FATES[..]), any::<u8>(), count, prop::bool::weighted(0.1), prop::bool::weighted(addressed)).prop_map(
        |(id, fate, key, receive_count, unreadable, addressed)| Delivered {
            id,
            fate,
            key,
            receive_count,
            unreadable,
            addressed,
        },
    )
}

impl Delivered {
    fn record(&self, queue: &str) -> Value {
        let body = if self.fate.is_empty() { String::new() } else { format!("{}|{}", self.fate, self.key) };
        let count = if self.unreadable { "junk".to_owned() } else { self.receive_count.to_string() };
        json!({
            "messageId": self.id,
            "receiptHandle": self.addressed.then_some("receipt"),
            "body": body,
            "attributes": {"ApproximateReceiveCount": count},
            "messageAttributes": {},
            "eventSourceARN": if self.addressed { queue } else { "junk" },
            "eventSource": "aws:sqs",
        })
    }

    /// Its outcome, as the table in functions/README.md has it.
    fn outcome(&self, can_dead_letter: bool, in_time: bool) -> &'static str {
        let can_dead_letter = can_dead_letter && !self.fate.is_empty();
        let last = !self.unreadable && self.receive_count >= LAST_RECEIVE;
        match self.fate {
            "succeed" if in_time => "success",
            "reject" | "refuse in decode" | "" if in_time && can_dead_letter => "rejected",
            _ if last && can_dead_letter => "exhausted",
            _ => "retried",
        }
    }
}

/// Does what the body says, and counts.
#[derive(Default)]
struct Script {
    started: AtomicUsize,
}

impl Processor<Record> for Script {
    type Item = &'static str;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        "test"
    }

    /// Nobody asks: the worker's limits are given.
    fn budget(&self) -> Duration {
        Duration::ZERO
    }

    fn decode(&self, record: &Record) -> Result<Decoded<&'static str>, Failure> {
        let (fate, key) = record.body.split_once('|').unwrap_or_default();
        let item = FATES.into_iter().find(|known| *known == fate).expect("a known fate");
        match item {
            // This way a panic prints nothing.
            "panic in decode" => resume_unwind(Box::new("on demand")),
            "refuse in decode" | "" => Err(Failure::permanent(ErrorCode::MalformedBody, "on demand")),
            _ => Ok(Decoded { item, key: key.to_owned(), span: span::Span::none(), producer: TraceContext::default() }),
        }
    }

    async fn process(&self, item: &'static str, _: &TraceContext, _: Deadline) -> Result<Done<Outcome>, Failure> {
        self.started.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        match item {
            "succeed" => Ok(Done::of(Outcome::Success)),
            "retry" => Err(Failure::transient("on demand")),
            "reject" => Err(Failure::permanent(failure::ErrorCode::DownstreamRejected, "on demand")),
            _ => resume_unwind(Box::new("on demand")),
        }
    }
}

/// Counts the lines by which records end.
#[derive(Clone, Default)]
pub(crate) struct Endings(Arc<Mutex<BTreeMap<String, usize>>>);

impl Endings {
    /// How many ended in which way.
    pub(crate) fn seen(&self) -> BTreeMap<String, usize> {
        self.0.lock().unwrap().clone()
    }
}

impl Subscriber for Endings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("shared")
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut |field: &field::Field, value: &dyn std::fmt::Debug| {
            if field.name() == "outcome" {
                let outcome = format!("{value:?}").trim_matches('"').to_owned();
                *self.0.lock().unwrap().entry(outcome).or_default() += 1;
            }
        });
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn check(batch: &[Delivered], can_dead_letter: bool, in_time: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check_in_runtime(batch, can_dead_letter, in_time));
}

async fn check_in_runtime(batch: &[Delivered], can_dead_letter: bool, in_time: bool) {
    let aws = AwsEndpoint::start().await.unwrap();
    let dead_letters = Queue::new("dead", QueueOptions::default());
    aws.add_queue(dead_letters.clone());
    let queue = Queue::new("queue", QueueOptions::default());
    let worker = Worker {
        processor: Script::default(),
        queues: Queues::new(aws.sqs(), can_dead_letter.then(|| dead_letters.url())),
        limits: Limits {
            concurrency: 20,
            max_receives: LAST_RECEIVE,
            budget: Duration::from_secs(100),
            backoff: Backoff::DEFAULT,
        },
        metrics: Metrics::default(),
        tracing: Tracing::default(),
    };
    // None starts with less time than its budget, and this leaves enough for what follows.
    let time_left = Duration::from_secs(if in_time { 1_000 } else { 90 });
    let records: Vec<Value> = batch.iter().map(|record| record.record(&queue.arn())).collect();
    let event = serde_json::from_value(json!({"Records": records})).unwrap();
    let endings = Endings::default();
    let response = {
        let _listening = tracing::subscriber::set_default(endings.clone());
        worker.process(event, Deadline::at(SystemTime::now() + time_left)).await
    };

    if batch.iter().any(|record| record.id.as_ref().is_none_or(|id| id.trim().is_empty())) {
        assert!(response.is_err(), "a record that can't be named fails the invocation");
        assert_eq!(worker.processor.started.into_inner(), 0, "and none was started");
        return;
    }
    let reported: Vec<String> =
        response.unwrap().batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
    let unique: BTreeSet<&str> = reported.iter().map(String::as_str).collect();
    assert_eq!(unique.len(), reported.len(), "no identifier is reported twice");
    let retried = batch.iter().filter(|record| record.outcome(can_dead_letter, in_time) == "retried");
    let expected: BTreeSet<&str> = retried.filter_map(|record| record.id.as_deref()).collect();
    assert_eq!(unique, expected, "reported is exactly what comes back, so nothing empty and nothing foreign");

    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for record in batch {
        *outcomes.entry(record.outcome(can_dead_letter, in_time).to_owned()).or_default() += 1;
    }
    assert_eq!(endings.seen(), outcomes, "each record has one outcome");
    let dead_lettered = ["rejected", "exhausted"].map(|outcome| outcomes.get(outcome).copied().unwrap_or_default());
    assert_eq!(dead_letters.messages().len(), dead_lettered.iter().sum::<usize>());
    let runs = |record: &&Delivered| in_time && ["succeed", "retry", "reject", "panic"].contains(&record.fate);
    assert_eq!(worker.processor.started.into_inner(), batch.iter().filter(runs).count(), "each is worked once");
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn every_record_of_any_batch_has_one_outcome_and_is_reported_once_at_most(
        batch in proptest::collection::vec(delivered(30, true, 0.3), 0..40),
        can_dead_letter in any::<bool>(),
        in_time in prop::bool::weighted(0.8),
    ) {
        check(&batch, can_dead_letter, in_time);
    }
}

/// As many as SQS hands out at most. SQS is told about few of them, because each call takes its time.
#[test]
fn ten_thousand_records_have_one_outcome_each() {
    let mut runner = TestRunner::new(cases(1));
    let strategy = proptest::collection::vec(delivered(9_000, false, 0.01), 10_000);
    let batch = strategy.new_tree(&mut runner).unwrap().current();
    check(&batch, false, true);
    check(&batch, false, false);
}
