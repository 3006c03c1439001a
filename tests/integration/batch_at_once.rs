//! A batch whose processor works all of its records together: a verdict for each, panics, deadlines, and what is away.

use std::{sync::Mutex, time::Duration};

use shared::{
    deadline::Deadline,
    failure::Failure,
    settlement::{Outcome, event::ErrorCode},
    telemetry::trace::{TraceContext, Tracing},
    trigger::{Decoded, Done, Portion, Processor, Task, Verdict, sqs::Record},
};

use crate::{
    harness::attribute,
    scripted::{self, PLENTY},
};

/// What the processor may take, and what the worker keeps beside it for its calls to SQS.
const PROCESSING: Duration = Duration::from_secs(10);
const CALLS: Duration = Duration::from_secs(2);

/// Gives the verdicts that the bodies name, and notes what it was handed.
#[derive(Default)]
struct Script {
    handed: Mutex<Vec<Vec<String>>>,
    time_left: Mutex<Duration>,
}

impl Script {
    fn note(&self, handed: Vec<String>) {
        self.handed.lock().unwrap().push(handed);
    }
}

impl Processor<Record> for Script {
    type Item = String;
    type Outcome = Outcome;

    const PORTION: Portion = Portion::Batch;

    fn name(&self) -> &'static str {
        "test"
    }

    fn budget(&self) -> Duration {
        PROCESSING
    }

    fn decode(&self, record: &Record) -> Result<Decoded<String>, Failure> {
        assert!(record.body != "panic in decode", "this record panics");
        if record.body == "malformed" {
            return Err(Failure::permanent(ErrorCode::MalformedBody, "as the test wants"));
        }
        let item = record.body.clone();
        Ok(Decoded { key: item.clone(), item, span: tracing::Span::none(), producer: TraceContext::default() })
    }

    async fn process(&self, item: String, _: &TraceContext, _: Deadline) -> Result<Done<Outcome>, Failure> {
        self.note(vec![item.clone()]);
        assert!(item != "panic", "this record panics");
        Ok(Done::of(Outcome::Success))
    }

    async fn process_all(&self, tasks: Vec<Task<String>>, _: &Tracing, deadline: Deadline) -> Vec<Verdict<Outcome>> {
        let items: Vec<String> = tasks.into_iter().map(|task| task.item).collect();
        *self.time_left.lock().unwrap() = deadline.remaining();
        self.note(items.clone());
        assert!(!items.iter().any(|item| item == "panic"), "one of these records panics");
        let verdict = |item: String| match item.as_str() {
            "transient" => Verdict::Failed(Failure::transient("as the test wants")),
            "permanent" => Verdict::Failed(Failure::permanent(ErrorCode::InvalidField, "as the test wants")),
            "away" => Verdict::Away("as the test wants".to_owned()),
            "unstarted" => Verdict::Unstarted,
            _ => Verdict::Done(Done::of(Outcome::Success)),
        };
        items.into_iter().filter(|item| item != "forgotten").map(verdict).collect()
    }
}

/// A worker with the script, on real queues.
type Bench = scripted::Bench<Script>;

async fn bench() -> Bench {
    Bench::with(3, PROCESSING + CALLS).await
}

impl Bench {
    fn handed(&self) -> Vec<Vec<String>> {
        self.worker.processor.handed.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn every_record_has_its_own_verdict() {
    let bench = bench().await;
    let failed = bench.work(&["a", "malformed", "transient", "permanent", "away", "b"], PLENTY).await;
    assert_eq!(failed, ["transient", "away"]);
    assert_eq!(bench.handed(), [["a", "transient", "permanent", "away", "b"]], "all that could be read, at once");
    let mut codes: Vec<String> = bench
        .stack
        .dead_letters("payment-failed")
        .messages()
        .iter()
        .map(|dead| attribute(dead, "error_code").to_owned())
        .collect();
    codes.sort();
    assert_eq!(codes, ["invalid_field", "malformed_body"]);
    assert_eq!(bench.waits(), [1, 1], "the back-off of a first receive");
}

#[tokio::test]
async fn a_panic_among_many_fails_the_record_that_panics_alone() {
    let bench = bench().await;
    assert_eq!(bench.work(&["a", "panic in decode", "panic", "b"], PLENTY).await, ["panic in decode", "panic"]);
    let handed: [&[&str]; 4] = [&["a", "panic", "b"], &["a"], &["panic"], &["b"]];
    assert_eq!(bench.handed(), handed, "first together, then each by itself");
}

#[tokio::test]
async fn what_the_processor_did_not_start_is_given_back_at_once() {
    let bench = bench().await;
    assert_eq!(bench.work(&["a", "unstarted"], PLENTY).await, ["unstarted"]);
    assert_eq!(bench.waits(), [0]);
}

#[tokio::test]
async fn a_record_without_a_verdict_is_retried() {
    let bench = bench().await;
    let failed = bench.work(&["forgotten"], PLENTY).await;
    assert_eq!((failed, bench.waits()), (vec!["forgotten".to_owned()], vec![1]));
}

#[tokio::test]
async fn the_processor_is_told_the_time_without_that_of_the_calls_that_follow() {
    let bench = bench().await;
    assert!(bench.work(&["a"], PLENTY).await.is_empty());
    let told = *bench.worker.processor.time_left.lock().unwrap();
    assert!(told <= PLENTY - CALLS && told > PLENTY - CALLS - Duration::from_secs(5), "{told:?}");
    assert_eq!(bench.work(&["b"], PROCESSING).await, ["b"], "it leaves no time for the calls to SQS");
    assert_eq!(bench.handed(), [["a"]]);
    assert_eq!(bench.waits(), [1], "by back-off, because nothing could start");
}
