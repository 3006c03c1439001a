//! A batch as a whole: panics, deadlines, order and concurrency.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use local_stack::{
    aws,
    inventory::SeatState,
    lambda::{Function, FunctionOptions},
    reservations::Status,
};
use serde_json::{Value, json};
use shared::{
    deadline::Deadline,
    failure::Failure,
    settlement::Outcome,
    telemetry::trace::TraceContext,
    trigger::{Decoded, Done, Processor, sqs::Record},
};

use crate::{
    harness::{World, attribute, event, event_with, log_lines},
    scripted::{self, PLENTY},
};

/// What a record of the script may take.
const BUDGET: Duration = Duration::from_secs(10);
/// Enough for one record to start, also on a busy machine.
const ENOUGH_FOR_ONE: Duration = Duration::from_secs(12);
/// A record that takes until no other can start.
const SLOW: &str = "slow";

/// Does what a body says, and notes what it did.
#[derive(Default)]
struct Script {
    running: AtomicUsize,
    most_running: AtomicUsize,
    finished: Mutex<Vec<String>>,
}

impl Processor<Record> for Script {
    type Item = String;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        "test"
    }

    /// Nobody asks: the worker's limits are given.
    fn budget(&self) -> Duration {
        Duration::ZERO
    }

    fn decode(&self, record: &Record) -> Result<Decoded<String>, Failure> {
        assert!(record.body != "panic in decode", "this record panics");
        let key = record.body.split(' ').next().unwrap_or_default().to_owned();
        let item = record.body.clone();
        Ok(Decoded { item, key, span: tracing::Span::none(), producer: TraceContext::default() })
    }

    async fn process(&self, item: String, _trace: &TraceContext, deadline: Deadline) -> Result<Done<Outcome>, Failure> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if item == SLOW {
            tokio::time::sleep(deadline.remaining().saturating_sub(BUDGET) + Duration::from_millis(1)).await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        assert!(item != "panic in process", "this record panics");
        self.finished.lock().unwrap().push(item);
        Ok(Done::of(Outcome::Success))
    }
}

/// A worker with the script, on real queues.
type Bench = scripted::Bench<Script>;

#[tokio::test]
async fn a_record_that_panics_fails_alone() {
    let bench = Bench::with(20, BUDGET).await;
    let failed = bench.work(&["a", "panic in decode", "b", "panic in process", "c"], PLENTY).await;
    assert_eq!(failed, ["panic in decode", "panic in process"]);
    let mut finished = bench.worker.processor.finished.lock().unwrap().clone();
    finished.sort();
    assert_eq!(finished, ["a", "b", "c"]);
    assert_eq!(bench.queue.visibility_changes().len(), 2, "both come back after a back-off");
}

#[tokio::test]
async fn a_record_that_panics_every_time_ends_in_the_dead_letter_queue() {
    let bench = Bench::with(20, BUDGET).await;
    let message =
        local_stack::queue::Message { received_before: 4, ..local_stack::queue::Message::new("panic in process") };
    let id = bench.queue.send(message).unwrap();
    let failed = bench.work_waiting(&BTreeMap::from([(id, "panic".to_owned())]), PLENTY).await;
    assert!(failed.is_empty(), "it is acknowledged, because it lies in the dead-letter queue");
    let dead = bench.stack.dead_letters("payment-failed").messages();
    assert!(attribute(&dead[0], "error_message").contains("this record panics"), "{dead:?}");
}

#[tokio::test]
async fn records_run_side_by_side_up_to_the_limit() {
    let bench = Bench::with(3, BUDGET).await;
    let bodies: Vec<String> = (0..12).map(|number| format!("key-{number}")).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    assert!(bench.work(&bodies, PLENTY).await.is_empty());
    assert_eq!(bench.worker.processor.most_running.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn records_of_one_key_run_one_after_the_other_in_their_order() {
    let bench = Bench::with(20, BUDGET).await;
    assert!(bench.work(&["same 1", "same 2", "same 3"], PLENTY).await.is_empty());
    assert_eq!(bench.worker.processor.most_running.load(Ordering::SeqCst), 1);
    assert_eq!(*bench.worker.processor.finished.lock().unwrap(), ["same 1", "same 2", "same 3"]);
}

#[tokio::test]
async fn what_can_not_finish_before_the_deadline_is_given_back_at_once_in_one_call() {
    let bench = Bench::with(1, BUDGET).await;
    let failed = bench.work(&[SLOW, "b", "c"], ENOUGH_FOR_ONE).await;
    assert_eq!(failed, ["b", "c"]);
    assert_eq!(*bench.worker.processor.finished.lock().unwrap(), [SLOW], "the others were not started");
    let operations: Vec<String> =
        bench.stack.aws.requests().iter().map(|request| request.operation().to_owned()).collect();
    let visibility: Vec<_> = operations.iter().filter(|operation| operation.contains("Visibility")).collect();
    assert_eq!(visibility, ["ChangeMessageVisibilityBatch"]);
    assert_eq!(bench.waits(), [0, 0], "visible again at once, because another environment may have the time");
}

#[tokio::test]
async fn where_nothing_can_start_all_wait_by_back_off_in_calls_of_ten() {
    let bench = Bench::with(20, BUDGET).await;
    let bodies: Vec<String> = (0..25).map(|number| format!("key-{number}")).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    assert_eq!(bench.work(&bodies, Duration::from_secs(9)).await.len(), 25);
    assert!(bench.worker.processor.finished.lock().unwrap().is_empty(), "nothing was started");
    let requests = bench.stack.aws.requests();
    assert_eq!(requests.iter().filter(|request| request.operation().contains("Visibility")).count(), 3);
    assert_eq!(bench.waits(), [1; 25], "the back-off of a first receive");
}

#[tokio::test]
async fn what_was_not_started_on_its_last_receive_is_dead_lettered_with_the_reason() {
    let bench = Bench::with(20, BUDGET).await;
    let message = local_stack::queue::Message { received_before: 4, ..local_stack::queue::Message::new("a") };
    let id = bench.queue.send(message).unwrap();
    let failed = bench.work_waiting(&BTreeMap::from([(id, "a".to_owned())]), Duration::from_secs(9)).await;
    assert!(failed.is_empty());
    let dead = bench.stack.dead_letters("payment-failed").messages();
    assert_eq!(attribute(&dead[0], "error_code"), "retries_exhausted");
    let reason = attribute(&dead[0], "error_message");
    assert!(reason.contains("this may take 10000 ms") && reason.contains("timeout"), "{reason}");
}

#[tokio::test]
async fn a_dead_letter_without_an_answer_before_the_deadline_leaves_the_message_in_its_queue() {
    let bench = Bench::with(20, BUDGET).await;
    bench.stack.aws.fail_next("AmazonSQS.SendMessage", aws::Injected::Silence);
    let message = local_stack::queue::Message { received_before: 4, ..local_stack::queue::Message::new("a") };
    let id = bench.queue.send(message).unwrap();
    let failed = bench.work_waiting(&BTreeMap::from([(id, "a".to_owned())]), Duration::from_millis(700)).await;
    assert_eq!(failed, ["a"], "nobody knows whether it lies in the dead-letter queue");
}

#[tokio::test]
async fn a_timeout_in_which_no_record_can_start_is_said_in_the_log() {
    let world = World::of("payment-failed").await;
    let says = |world: &World, part: &str| world.function.all_logs().iter().any(|line| line.contains(part));
    let (too_short, stays) = ("no record could start", "messages could not be handed back");
    world.warm_up().await;
    assert!(!says(&world, too_short), "there is time enough");

    let options = FunctionOptions { timeout: Duration::from_secs(10), ..world.function.options().clone() };
    let world = World { function: Function::start(options).unwrap(), ..world };
    world.deliver([event("payment.failed"), event("payment.failed")]).await[0].is("retried").says("timeout");
    assert!(says(&world, too_short) && !says(&world, stays), "{:#?}", world.function.all_logs());
    let lines = log_lines(&world.function.all_logs());
    let line = lines.iter().find(|line| line["msg"].as_str().is_some_and(|said| said.starts_with(too_short))).unwrap();
    assert_eq!((line["level"].as_str(), line["budget_ms"].as_str()), (Some("error"), Some("15500")), "{line:#}");
    let time: u64 = line["time_ms"].as_str().unwrap().parse().unwrap();
    assert!((1..=10_000).contains(&time), "{line:#}");
    let counted: Vec<&Value> = lines.iter().filter_map(|line| line.get("worker_unstarted_total")).collect();
    assert_eq!(counted, [2], "the metric that the alarm watches");

    // The SDK tries twice.
    for _ in 0..2 {
        let (kind, message) = ("InternalFailure".to_owned(), "on demand".to_owned());
        let failure = aws::Injected::Answer { status: 500, kind, message };
        world.stack.aws.fail_next("AmazonSQS.ChangeMessageVisibilityBatch", failure);
    }
    world.redeliver().await[0].is("retried");
    assert!(says(&world, stays) && says(&world, "on demand"), "{:#?}", world.function.all_logs());
}

#[tokio::test]
async fn ten_records_take_little_longer_than_one() {
    let world = World::of("payment-failed").await;
    world.stack.reservations.set_latency(Duration::from_millis(500));
    world.stack.inventory.set_latency(Duration::from_millis(500));
    world.stack.aws.set_latency(Duration::from_millis(500));
    let ids: Vec<String> = (0..11).map(|number| format!("rsv_{number}")).collect();
    for (number, id) in ids.iter().enumerate() {
        let seats = [format!("A-{number}"), format!("B-{number}")];
        world.seed(id, &[&seats[0], &seats[1]], Status::Hold, SeatState::Held, None);
    }
    let event =
        |id: &String| event_with("payment.failed", json!({"reservation_id": id, "seat_ids": null, "qty": null}));
    // The first one also starts the process and opens the connections.
    world.deliver_one(event(&ids[10])).await.is("success");
    let started = std::time::Instant::now();
    let ended = world.deliver(ids[..10].iter().map(event)).await;
    let elapsed = started.elapsed();
    for (id, ended) in ids.iter().zip(&ended) {
        ended.is("success");
        assert_eq!(world.state_of(id), "CANCELLED, free");
        let latency = ended.line["latency_ms"].as_u64().unwrap();
        assert!((2_000..10_000).contains(&latency), "its line says how long it took: {latency} ms");
    }
    // One record waits four times for half a second; ten in turn would wait for twenty seconds.
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}
