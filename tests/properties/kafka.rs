//! Any event of Kafka: each record of it is done, ignored, in the dead-letter queue or parked, or the invocation fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    time::{Duration, SystemTime},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use local_stack::{
    aws::AwsEndpoint,
    queue::{Queue, QueueOptions},
};
use proptest::{prelude::*, sample::select};
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
        Decoded, Done, Message, Portion, Processor, Task, Verdict,
        kafka::{Consumer, event},
        sqs::{Limits, SOURCE, Worker, queue::Queues},
    },
};
use tracing::span;

use crate::{batch::Endings, cases};

/// What becomes of a record that can be read, written in its value.
const READABLE: [&str; 7] = ["succeed", "retry", "reject", "panic", "panic in decode", "refuse in decode", "away"];

/// Records that nobody can work, as the event has them.
const UNUSABLE: [&str; 7] = [
    r#"{"value": "/w=="}"#,
    r#"{"value": "AA=="}"#,
    r#"{"value": "e30"}"#,
    "7",
    "null",
    r#"["x"]"#,
    r#"{"value": "e30=", "value": 1}"#,
];

/// Records with nothing in them.
const EMPTY: [&str; 3] = [r#"{"value": null}"#, "{}", r#"{"value": "", "headers": [{"baggage": [-1, 300]}]}"#];

/// Headers that decide nothing.
const HEADERS: [&str; 6] =
    ["[]", "null", "7", r#"[null, {"a": null}]"#, r#"[{"Baggage": [107, 61, 118]}]"#, r#"[{"baggage": [-61, -68]}]"#];

#[derive(Clone, Debug)]
enum Sent {
    Readable { fate: &'static str, headers: &'static str },
    Unusable(&'static str),
    Empty(&'static str),
}

fn sent() -> impl Strategy<Value = Sent> {
    let fate = prop_oneof![40 => select(&READABLE[..6]), 1 => Just(READABLE[6])];
    prop_oneof![
        4 => (fate, select(&HEADERS[..])).prop_map(|(fate, headers)| Sent::Readable { fate, headers }),
        1 => select(&UNUSABLE[..]).prop_map(Sent::Unusable),
        1 => select(&EMPTY[..]).prop_map(Sent::Empty),
    ]
}

impl Sent {
    fn json(&self, offset: usize) -> String {
        match self {
            Self::Readable { fate, headers } => {
                let value = BASE64_STANDARD.encode(fate);
                format!(
                    r#"{{"offset": {offset}, "timestamp": -1, "key": null, "value": "{value}", "headers": {headers}}}"#
                )
            }
            Self::Unusable(json) | Self::Empty(json) => (*json).to_owned(),
        }
    }

    /// Where it goes if there is a way: the dead-letter queue or the function's own.
    fn goes(&self, can_dead_letter: bool) -> Option<&'static str> {
        match self {
            Self::Readable { fate: "succeed", .. } | Self::Empty(_) => None,
            Self::Readable { fate: "retry" | "panic" | "panic in decode", .. } => Some("parked"),
            Self::Readable { .. } | Self::Unusable(_) => Some(if can_dead_letter { "dead" } else { "parked" }),
        }
    }

    fn outcome(&self, can_dead_letter: bool) -> &'static str {
        match (self.goes(can_dead_letter), self) {
            (Some("dead"), _) => "rejected",
            (Some(_), _) => "retried",
            (None, Self::Empty(_)) => "ignored",
            (None, Self::Readable { .. } | Self::Unusable(_)) => "success",
        }
    }
}

/// Does what the body says.
struct Script;

impl<R: Message + Sync> Processor<R> for Script {
    type Item = &'static str;
    type Outcome = Outcome;

    const PORTION: Portion = Portion::Batch;

    fn name(&self) -> &'static str {
        "test"
    }

    fn budget(&self) -> Duration {
        Duration::ZERO
    }

    fn decode(&self, record: &R) -> Result<Decoded<&'static str>, Failure> {
        let item = READABLE.into_iter().find(|known| *known == record.body()).expect("a known fate");
        match item {
            // This way a panic prints nothing.
            "panic in decode" => resume_unwind(Box::new("on demand")),
            "refuse in decode" => Err(Failure::permanent(ErrorCode::MalformedBody, "on demand")),
            _ => {
                let producer = record.producer(&[], &[]);
                Ok(Decoded { item, key: String::new(), span: span::Span::none(), producer })
            }
        }
    }

    async fn process(&self, item: &'static str, _: &TraceContext, _: Deadline) -> Result<Done<Outcome>, Failure> {
        match item {
            "succeed" => Ok(Done::of(Outcome::Success)),
            "retry" => Err(Failure::transient("on demand")),
            "reject" => Err(Failure::permanent(failure::ErrorCode::DownstreamRejected, "on demand")),
            _ => resume_unwind(Box::new("on demand")),
        }
    }

    async fn process_all(
        &self,
        tasks: Vec<Task<&'static str>>,
        _: &Tracing,
        deadline: Deadline,
    ) -> Vec<Verdict<Outcome>> {
        if tasks.iter().any(|task| task.item == "away") {
            return tasks.iter().map(|_| Verdict::Away("on demand".to_owned())).collect();
        }
        let mut verdicts = Vec::new();
        for Task { item, trace, .. } in tasks {
            verdicts.push(Processor::<R>::process(self, item, &trace, deadline).await.into());
        }
        verdicts
    }
}

#[derive(Clone, Copy, Debug)]
struct Ways {
    can_dead_letter: bool,
    can_park: bool,
    in_time: bool,
}

fn check(partitions: &[Vec<Sent>], ways: Ways) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check_in_runtime(partitions, ways));
}

async fn check_in_runtime(partitions: &[Vec<Sent>], Ways { can_dead_letter, can_park, in_time }: Ways) {
    let aws = AwsEndpoint::start().await.unwrap();
    let [dead, parked] = ["dead", "parked"].map(|name| Queue::new(name, QueueOptions::default()));
    aws.add_queue(dead.clone());
    aws.add_queue(parked.clone());
    let worker = Worker {
        processor: Script,
        queues: Queues::new(aws.sqs(), can_dead_letter.then(|| dead.url())),
        limits: Limits {
            concurrency: 20,
            max_receives: 5,
            budget: Duration::from_secs(100),
            backoff: Backoff::DEFAULT,
        },
        metrics: Metrics::default(),
        tracing: Tracing::default(),
    };
    let consumer = Consumer { worker, own_queue: can_park.then(|| parked.url()) };
    let partition = |(index, records): (usize, &Vec<Sent>)| {
        let records: Vec<String> = records.iter().enumerate().map(|(offset, record)| record.json(offset)).collect();
        format!(r#""topic-{index}": [{}]"#, records.join(","))
    };
    let partitions_json: Vec<String> = partitions.iter().enumerate().map(partition).collect();
    let payload = format!(r#"{{"eventSource": "aws:kafka", "records": {{{}}}}}"#, partitions_json.join(","));
    let all: Vec<&Sent> = partitions.iter().flatten().collect();

    let endings = Endings::default();
    let result = {
        let _listening = tracing::subscriber::set_default(endings.clone());
        let time = Duration::from_secs(if in_time { 1_000 } else { 90 });
        consumer.consume(&payload, Deadline::at(SystemTime::now() + time)).await
    };
    let [dead, parked] = [dead, parked].map(|queue| queue.messages());
    let goes = |way: &str| all.iter().filter(|record| record.goes(can_dead_letter) == Some(way)).count();
    let is_away = all.iter().any(|record| matches!(record, Sent::Readable { fate: "away", .. }));
    if !in_time || is_away {
        assert!(result.is_err(), "nothing of it may be taken for done");
        assert_eq!((dead.len(), parked.len()), (0, 0), "each delivery would send one more copy");
        return;
    }
    let can_go = goes("parked") == 0 || can_park;
    assert_eq!(result.is_ok(), can_go, "{result:?}");
    if !can_go {
        return;
    }
    assert_eq!((dead.len(), parked.len()), (goes("dead"), goes("parked")));
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for record in &all {
        *outcomes.entry(record.outcome(can_dead_letter).to_owned()).or_default() += 1;
    }
    assert_eq!(endings.seen(), outcomes, "each record has one outcome");
    let places = dead.iter().chain(&parked).filter_map(|message| message.attributes[SOURCE].string_value.clone());
    let known: BTreeSet<String> = places.filter(|place| !place.ends_with('?')).collect();
    let readable = |record: &&&Sent| matches!(record, Sent::Readable { .. });
    let expected = all.iter().filter(readable).filter(|record| record.goes(can_dead_letter).is_some()).count();
    assert_eq!(known.len(), expected, "each message says where its record stands");
    for message in &parked {
        let is_fate = READABLE.contains(&message.body.as_str());
        assert!(is_fate || !can_dead_letter, "a value is parked byte for byte: {:?}", message.body);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn every_record_of_any_event_has_one_end_or_the_invocation_fails(
        partitions in proptest::collection::vec(proptest::collection::vec(sent(), 0..15), 0..4),
        can_dead_letter in any::<bool>(),
        can_park in prop::bool::weighted(0.8),
        in_time in prop::bool::weighted(0.9),
    ) {
        check(&partitions, Ways { can_dead_letter, can_park, in_time });
    }

    /// What is no event is an error and never a panic, and what is one loses no record.
    #[test]
    fn any_json_is_an_event_or_is_none(value in json_value(), nested in any::<bool>()) {
        let event = if nested { json!({"records": {"t-0": [value]}}) } else { value };
        let read = event::read(&event.to_string());
        let lists = event["records"].as_object().filter(|partitions| partitions.values().all(Value::is_array));
        let records = lists.map(|partitions| partitions.values().filter_map(Value::as_array).map(Vec::len).sum::<usize>());
        prop_assert_eq!(read.ok().map(|arrived| arrived.len()), records);
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-zA-Z0-9+/=]{0,12}".prop_map(Value::from),
    ];
    let name = select(&["records", "value", "headers", "offset", "baggage", "traceparent", "key", "t-0"][..]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}
