//! A function behind topics and behind a queue of its own: through the mapping of a topic, with queues that keep SQS's rules.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use local_stack::{
    kafka::{Cluster, KafkaDelivery, KafkaMapping, KafkaOptions, Place, Record},
    mapping,
    queue::{Queue, Snapshot},
    stack::Stack,
};
use serde_json::{Value, json, value::RawValue};
use shared::{
    deadline::Deadline,
    failure::Failure,
    settlement::{Outcome, event::ErrorCode},
    start::Function,
    telemetry::trace::{TraceContext, Tracing},
    trigger::{Decoded, Done, Message, Portion, Processor, Task, Verdict, kafka::Consumer, sqs::queue::Queues},
};

use crate::{harness::attribute, scripted};

const TOPIC: &str = "bookings";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Gives the verdicts that the bodies name, and notes what it was handed and from where.
#[derive(Default)]
struct Script {
    handed: Mutex<Vec<String>>,
    is_away: AtomicBool,
}

impl<R: Message + Sync> Processor<R> for Script {
    type Item = String;
    type Outcome = Outcome;

    const PORTION: Portion = Portion::Batch;

    fn name(&self) -> &'static str {
        "test"
    }

    fn budget(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn decode(&self, record: &R) -> Result<Decoded<String>, Failure> {
        let item = record.body().to_owned();
        if item == "poison" {
            return Err(Failure::permanent(ErrorCode::MalformedBody, "as the test wants"));
        }
        assert!(item != "panic in decode", "this record panics");
        self.handed.lock().unwrap().push(format!("{} of {}", item, record.source()));
        let producer = record.producer(&[], &[]);
        Ok(Decoded { key: item.clone(), item, span: tracing::Span::none(), producer })
    }

    async fn process(&self, _: String, _: &TraceContext, _: Deadline) -> Result<Done<Outcome>, Failure> {
        Err(Failure::transient("nobody works one record alone here"))
    }

    async fn process_all(&self, tasks: Vec<Task<String>>, _: &Tracing, _: Deadline) -> Vec<Verdict<Outcome>> {
        let is_away = self.is_away.load(Relaxed);
        assert!(!tasks.iter().any(|task| task.item == "panic"), "one of these records panics");
        let verdict = |task: Task<String>| match task.item.as_str() {
            _ if is_away => Verdict::Away("the database is away".to_owned()),
            "transient" => Verdict::Failed(Failure::transient("as the test wants")),
            "permanent" => Verdict::Failed(Failure::permanent(ErrorCode::InvalidField, "as the test wants")),
            "unstarted" => Verdict::Unstarted,
            _ => Verdict::Done(Done::of(Outcome::Success)),
        };
        tasks.into_iter().map(verdict).collect()
    }
}

/// A consumer of the script, between a topic and real queues.
struct Bench {
    stack: Stack,
    queue: Queue,
    cluster: Cluster,
    consumer: Consumer<Script>,
}

impl Bench {
    async fn new() -> Self {
        let scripted::Bench { stack, queue, worker } = scripted::Bench::with(3, Duration::from_secs(3)).await;
        let consumer = Consumer { worker, own_queue: Some(queue.url()) };
        let cluster = Cluster::default();
        cluster.create(TOPIC, 2);
        Self { stack, queue, cluster, consumer }
    }

    fn produce(&self, values: &[&str]) {
        for value in values {
            self.cluster.produce(TOPIC, Record::new([0], *value));
        }
    }

    async fn invoke(&self, event: String) -> Result<Vec<u8>, String> {
        let deadline = Deadline::at(SystemTime::now() + Duration::from_secs(30));
        let answer = self.consumer.invoke(&RawValue::from_string(event).unwrap(), deadline).await;
        answer.map(|answer| serde_json::to_vec(&answer).unwrap())
    }

    /// Delivers what the topic holds, and answers with the offsets that are committed then.
    async fn drain(&self, options: KafkaOptions) -> (Vec<KafkaDelivery>, Vec<usize>) {
        let mut mapping = KafkaMapping::new(self.cluster.clone(), TOPIC, |event| self.invoke(event), options);
        let deliveries = mapping.drain().await;
        (deliveries, mapping.committed().to_vec())
    }

    fn dead(&self) -> Vec<Snapshot> {
        self.stack.dead_letters("payment-failed").messages()
    }

    fn handed(&self) -> Vec<String> {
        self.consumer.worker.processor.handed.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn poison_in_the_middle_is_buried_and_its_neighbours_and_its_partition_go_on() {
    let bench = Bench::new().await;
    bench.produce(&["a", "poison", "b", "permanent", "panic in decode", "c"]);
    let (deliveries, committed) = bench.drain(KafkaOptions { batch_size: 4, ..KafkaOptions::default() }).await;
    assert_eq!((deliveries.len(), committed), (2, vec![6, 0]), "each batch came once");
    let told = |dead: &Snapshot| [attribute(dead, "error_code"), attribute(dead, "source_message_id")].join(" of ");
    let mut dead: Vec<String> = bench.dead().iter().map(told).collect();
    dead.sort();
    assert_eq!(dead, ["invalid_field of bookings-0@3", "malformed_body of bookings-0@1"]);
    assert_eq!(bench.queue.messages().len(), 1, "what the code panicked on is tried once more, from the queue");
}

#[tokio::test]
async fn what_may_pass_is_parked_and_its_queue_goes_on_with_it() {
    let bench = Bench::new().await;
    let headers = vec![
        ("TraceParent".to_owned(), Some(PARENT.into())),
        ("Baggage".to_owned(), Some("trace-id=abc123".into())),
        ("odd".to_owned(), None),
    ];
    bench.cluster.produce(TOPIC, Record { headers, ..Record::new([1], "transient") });
    let (_, committed) = bench.drain(KafkaOptions::default()).await;
    assert_eq!(committed, [0, 1], "the partition goes on");
    let [parked] = <[Snapshot; 1]>::try_from(bench.queue.messages()).unwrap();
    let attributes = ["traceparent", "baggage", "kafka_source"].map(|name| attribute(&parked, name));
    assert_eq!((parked.body.as_str(), attributes), ("transient", [PARENT, "trace-id=abc123", "bookings-1@0"]));
    assert_eq!(parked.visible_in.as_millis().div_ceil(1_000), 1, "the back-off of a first receive");

    bench.queue.skip_wait();
    let received = bench.queue.receive(10);
    let event = mapping::event(&bench.queue, &received);
    let answer: Value = serde_json::from_slice(&bench.invoke(event.to_string()).await.unwrap()).unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": received[0].id}]}), "the queue's own answer");
    assert_eq!(bench.handed(), ["transient of bookings-1@0", "transient of bookings-1@0"], "wherever it came from");
}

#[tokio::test]
async fn what_every_record_needs_makes_the_partition_wait_and_sends_nothing() {
    let bench = Bench::new().await;
    bench.produce(&["a", "poison", "transient"]);
    bench.consumer.worker.processor.is_away.store(true, Relaxed);
    let (deliveries, committed) = bench.drain(KafkaOptions::default()).await;
    assert_eq!(deliveries[0].answer, Err("the database is away".to_owned()));
    assert_eq!((committed, bench.dead().len(), bench.queue.messages().len()), (vec![0, 0], 0, 0));
    bench.consumer.worker.processor.is_away.store(false, Relaxed);
    let (_, committed) = bench.drain(KafkaOptions::default()).await;
    assert_eq!((committed, bench.dead().len(), bench.queue.messages().len()), (vec![3, 0], 1, 1));
}

#[tokio::test]
async fn a_record_that_no_queue_takes_makes_the_partition_wait() {
    let mut bench = Bench::new().await;
    bench.consumer.own_queue = None;
    bench.produce(&["a", "transient"]);
    let (deliveries, committed) = bench.drain(KafkaOptions::default()).await;
    let error = "the record bookings-0@1 could not be parked, so all of the batch waits: QUEUE_URL is not set";
    assert!(deliveries[0].answer.as_ref().is_err_and(|text| text.starts_with(error)), "{:?}", deliveries[0].answer);
    assert_eq!(committed, [0, 0]);
    bench.consumer.own_queue = Some(bench.queue.url().replace("payment-failed", "nobodys"));
    assert!(bench.drain(KafkaOptions::default()).await.0[0].answer.is_err(), "there is no such queue");
}

#[tokio::test]
async fn a_poison_record_is_parked_where_the_dead_letter_queue_takes_nothing() {
    let mut bench = Bench::new().await;
    bench.consumer.worker.queues = Queues::new(bench.stack.aws.sqs(), None);
    bench.produce(&["poison"]);
    assert_eq!(bench.drain(KafkaOptions::default()).await.1, [1, 0]);
    assert_eq!(bench.queue.messages()[0].body, "poison");
}

#[tokio::test]
async fn what_the_time_did_not_suffice_for_is_parked_and_does_not_hold_the_rest_up() {
    let bench = Bench::new().await;
    bench.produce(&["a", "unstarted"]);
    assert_eq!(bench.drain(KafkaOptions::default()).await.1, [2, 0]);
    assert_eq!(bench.queue.messages()[0].body, "unstarted");
}

#[tokio::test]
async fn a_panic_among_many_fails_the_record_that_panics_alone() {
    let bench = Bench::new().await;
    bench.produce(&["a", "panic", "b", "permanent"]);
    assert_eq!(bench.drain(KafkaOptions::default()).await.1, [4, 0]);
    assert_eq!((bench.queue.messages()[0].body.as_str(), bench.queue.messages().len()), ("panic", 1));
    assert_eq!(bench.dead().len(), 1);
}

#[tokio::test]
async fn a_value_that_is_no_text_is_buried_as_base64_and_nothing_is_buried_for_a_tombstone() {
    let bench = Bench::new().await;
    let tombstone = Record { key: None, ..Record::default() };
    for record in [tombstone, Record::new([0], [0x7b, 0xff]), Record::new([0], vec![b'x'; 2_000_000])] {
        bench.cluster.produce(TOPIC, record);
    }
    let (deliveries, _) = bench.drain(KafkaOptions::default()).await;
    assert!(deliveries.iter().all(|delivery| delivery.answer.is_ok()), "{:?}", deliveries[0].answer);
    let dead = bench.dead();
    let small = dead.iter().find(|dead| dead.body.len() < 10).unwrap();
    assert_eq!(BASE64_STANDARD.decode(&small.body).unwrap(), [0x7b, 0xff]);
    assert_eq!(attribute(small, "encoding"), "base64");
    assert_eq!(attribute(small, "error_message"), "the value is not UTF-8");
    let large = dead.iter().find(|dead| dead.body.len() > 10).unwrap();
    assert_eq!((attribute(large, "value_bytes"), attribute(large, "encoding")), ("2000000", ""));
    assert_eq!((dead.len(), bench.queue.messages().len()), (2, 0));
}

#[tokio::test]
async fn too_little_time_fails_the_invocation_before_any_record_is_begun() {
    let bench = Bench::new().await;
    let event = json!({"records": {"t-0": [{"value": "YQ=="}]}}).to_string();
    let answer = bench.consumer.consume(&event, Deadline::at(SystemTime::now() + Duration::from_secs(2))).await;
    assert!(answer.unwrap_err().to_string().starts_with("no record could start"));
    assert_eq!(bench.handed().len(), 0);
}

#[tokio::test]
async fn what_is_neither_an_event_of_a_queue_nor_of_topics_fails_the_invocation() {
    let bench = Bench::new().await;
    for (event, error) in [
        ("{}", "the payload is not an SQS event"),
        ("[]", "the payload is not an SQS event"),
        (r#"{"Records": [], "records": {}}"#, "the payload has both Records, of a queue, and records, of topics"),
        (r#"{"records": ["jane@example.com"]}"#, "the payload is not an event of Kafka"),
    ] {
        let answer = bench.invoke(event.to_owned()).await.unwrap_err();
        assert!(answer.starts_with(error) && !answer.contains("jane"), "{answer}");
    }
    for nothing in [r#"{"Records": []}"#, r#"{"records": {}}"#] {
        assert_eq!(bench.invoke(nothing.to_owned()).await.unwrap(), br#"{"batchItemFailures":[]}"#);
    }
}

#[tokio::test]
async fn an_answer_is_a_success_whether_the_mapping_reads_it_or_not() {
    for report_batch_item_failures in [true, false] {
        let bench = Bench::new().await;
        bench.produce(&["a", "transient", "permanent"]);
        let options = KafkaOptions { report_batch_item_failures, ..KafkaOptions::default() };
        let (deliveries, committed) = bench.drain(options).await;
        assert_eq!((deliveries.len(), committed), (1, vec![3, 0]));
        assert_eq!(deliveries[0].batch[2], Place { partition: 0, offset: 2 });
    }
}
