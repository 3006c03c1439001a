//! An event source mapping on the stream of a DynamoDB table: batches of changes, in order for each item.
//!
//! An answer is a checkpoint and no set: it names the first record that must come again, and every record after it comes
//! again too. A shard stands still meanwhile, so that what can never succeed must not be reported.

use serde::{Deserialize, Serialize};
use serde_dynamo::Item;
use serde_json::value::RawValue;
use tracing::{error, info, warn};

use crate::{
    config::ConfigError,
    deadline::Deadline,
    name::{Named, names},
    start::{Function, Parts},
    telemetry::metrics::{Metric, Metrics, Recorder, Unit},
    trigger::fault,
};

names! {
    /// What becomes of a record.
    pub enum Outcome {
        /// It is done.
        Done = "done",
        /// It comes again, because it or one before it failed.
        Retried = "retried",
    }
}

const STREAM_RECORDS: Metric =
    Metric { name: "stream_records_total", unit: Unit::Count, dimensions: &["function", "outcome"] };

/// The metrics that a follower's function writes. `function` is its name.
pub const METRICS: &[Metric] = &[STREAM_RECORDS];

/// One change of an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The item as it is since the change; nothing where it was deleted.
    pub item: Option<Item>,
}

/// A record that must come again, and all after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Its place in the batch.
    pub at: usize,
    /// Why, for people.
    pub cause: String,
}

/// What a system does with the changes of a table.
pub trait Follower: Sync {
    /// What it is called in logs and metrics.
    fn name(&self) -> &'static str;

    /// Looks whether what the configuration names is there.
    ///
    /// # Errors
    /// What no waiting can mend.
    fn probe(&self) -> impl Future<Output = Result<(), ConfigError>> + Send;

    /// Works a batch. `Ok`: all of it is done.
    ///
    /// # Errors
    /// The first change that must come again.
    fn follow(&self, changes: &[Change], deadline: Deadline) -> impl Future<Output = Result<(), Stopped>> + Send;
}

/// Hands the batches of a stream to a [`Follower`].
#[derive(Debug)]
pub struct Reader<F> {
    follower: F,
    metrics: Metrics,
}

impl<F: Follower> Reader<F> {
    /// A reader with the variables of what it is made of beside its follower. Nothing: what is wrong with the follower's is
    /// noted.
    pub fn configured(follower: Option<F>, parts: &mut Parts<'_>) -> Option<Self> {
        let metrics = parts.metrics.clone();
        Some(Self { follower: follower?, metrics })
    }

    async fn read(&self, batch: Batch, deadline: Deadline) -> Checkpoint {
        let name = self.follower.name();
        let (numbers, changes): (Vec<String>, Vec<Change>) = batch
            .records
            .into_iter()
            .map(|record| (record.dynamodb.sequence_number, Change { item: record.dynamodb.new_image }))
            .unzip();
        let stopped = self.follower.follow(&changes, deadline).await.err();
        let done = stopped.as_ref().map_or(numbers.len(), |stopped| stopped.at.min(numbers.len()));
        let mut recorder = Recorder::default();
        for (outcome, count) in [(Outcome::Done, done), (Outcome::Retried, numbers.len() - done)] {
            if count > 0 {
                recorder.count(&STREAM_RECORDS, &[name, outcome.name()], count as u64);
            }
        }
        self.metrics.write(&recorder);
        match stopped {
            None => info!(records = done, "batch ended: all of it is done"),
            Some(Stopped { cause, .. }) => {
                warn!(records = done, again = numbers.len() - done, error = cause, "batch ended: a part comes again");
            }
        }
        let first = numbers.into_iter().nth(done);
        Checkpoint { batch_item_failures: first.map(|item_identifier| First { item_identifier }).into_iter().collect() }
    }
}

impl<F: Follower> Function for Reader<F> {
    type Response = Checkpoint;

    async fn probe(&self) -> Result<(), ConfigError> {
        self.follower.probe().await
    }

    /// An error leaves the whole batch in its shard, from its first record on.
    async fn invoke(&self, payload: &RawValue, deadline: Deadline) -> Result<Checkpoint, String> {
        match serde_json::from_str::<Batch>(payload.get()) {
            Ok(batch) => Ok(self.read(batch, deadline).await),
            Err(error) => {
                let error = format!("the payload is not a batch of a DynamoDB stream: {}", fault(&error));
                error!(error, "the invocation failed; the whole batch comes again");
                Err(error)
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    dynamodb: StreamRecord,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamRecord {
    sequence_number: String,
    new_image: Option<Item>,
}

/// The answer to Lambda.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// The first record that must come again; none, where all of the batch is done.
    batch_item_failures: Vec<First>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct First {
    item_identifier: String,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::{Value, json};

    use super::*;

    /// Fails at a place, if it has one.
    struct Stumbling(Option<usize>);

    impl Follower for Stumbling {
        fn name(&self) -> &'static str {
            "test"
        }

        async fn probe(&self) -> Result<(), ConfigError> {
            Ok(())
        }

        async fn follow(&self, changes: &[Change], _deadline: Deadline) -> Result<(), Stopped> {
            assert_eq!(changes[0].item.as_ref().unwrap().get("id"), Some(&serde_dynamo::AttributeValue::S("a".into())));
            assert_eq!(changes[2].item, None, "a deletion");
            self.0.map_or(Ok(()), |at| Err(Stopped { at, cause: "as the test wants".to_owned() }))
        }
    }

    async fn answer(at: Option<usize>, payload: &Value) -> Result<Value, String> {
        let reader = Reader { follower: Stumbling(at), metrics: Metrics::default() };
        let payload = serde_json::value::to_raw_value(payload).unwrap();
        let deadline = Deadline::at(SystemTime::now() + Duration::from_secs(10));
        let answer = reader.invoke(&payload, deadline).await;
        answer.map(|answer| serde_json::to_value(answer).unwrap())
    }

    fn batch() -> Value {
        let record = |number: &str, image: Value| json!({"eventName": "MODIFY", "dynamodb": {"SequenceNumber": number, "NewImage": image}});
        let mut deletion = record("3", Value::Null);
        deletion["dynamodb"].as_object_mut().unwrap().remove("NewImage");
        json!({"Records": [record("1", json!({"id": {"S": "a"}})), record("2", json!({"n": {"N": "7"}})), deletion]})
    }

    #[tokio::test]
    async fn an_answer_names_the_first_record_that_must_come_again() {
        assert_eq!(answer(None, &batch()).await, Ok(json!({"batchItemFailures": []})));
        for (at, number) in [(0, "1"), (1, "2"), (2, "3")] {
            let expected = json!({"batchItemFailures": [{"itemIdentifier": number}]});
            assert_eq!(answer(Some(at), &batch()).await, Ok(expected));
        }
    }

    #[tokio::test]
    async fn what_is_no_batch_fails_as_a_whole_and_is_not_quoted() {
        for payload in [json!({}), json!({"Records": [{"dynamodb": {}}]}), json!({"Records": "jane@example.com"})] {
            let error = answer(None, &payload).await.unwrap_err();
            assert!(
                error.starts_with("the payload is not a batch of a DynamoDB stream") && !error.contains("jane"),
                "{error}"
            );
        }
    }
}
