//! The SQS event source mapping: polls a queue, hands a batch to a function, and decides by the bytes of the answer which
//! messages are deleted. Emulators tend to get this table wrong, and a wrong reading hides lost messages, so the decision
//! is a pure function with a test per row. Filter criteria, batching windows and FIFO are absent because Holdfast never uses
//! them, and so is the pace at which Lambda adds pollers. `tests/mapping` holds all of it against AWS's rules.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
};

use crate::{
    lambda::{Function, Invocation},
    queue::{Queue, Received},
};

/// Lambda's limit for the event of an invocation.
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// What the largest message may take of an event: JSON writes two bytes for a quote or a line break, and names the fields.
const LARGEST_RECORD_BYTES: usize = 2 * 1024 * 1024 + 8 * 1024;

/// A mapping between one queue and one function.
#[derive(Clone, Debug)]
pub struct Mapping {
    queue: Queue,
    function: Function,
    options: MappingOptions,
}

/// The properties of a mapping, named as on AWS.
#[derive(Clone, Copy, Debug)]
pub struct MappingOptions {
    /// The most messages in one invocation.
    pub batch_size: usize,
    /// The most invocations side by side.
    pub maximum_concurrency: usize,
    /// Whether `ReportBatchItemFailures` is set; without it an answer's content means nothing.
    pub report_batch_item_failures: bool,
}

impl Default for MappingOptions {
    /// What the template sets: batches of ten, and partial answers.
    fn default() -> Self {
        Self { batch_size: 10, maximum_concurrency: 2, report_batch_item_failures: true }
    }
}

/// One batch and its fate.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The ids of the messages, in the order of the event's records.
    pub batch: Vec<String>,
    /// What the mapping made of the answer.
    pub verdict: Verdict,
    /// The invocation behind it.
    pub invocation: Invocation,
}

/// What an answer means for the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every message is deleted.
    Success,
    /// These messages stay until their visibility runs out; the others are deleted.
    Partial(BTreeSet<String>),
    /// Every message stays; the text says why.
    Failure(String),
}

impl Verdict {
    /// Whether the message stays in the queue.
    pub fn keeps(&self, id: &str) -> bool {
        match self {
            Self::Success => false,
            Self::Partial(failed) => failed.contains(id),
            Self::Failure(_) => true,
        }
    }
}

/// Reads a function's answer as Lambda does when `ReportBatchItemFailures` is set. A wrong key at the top reads as
/// success and the messages are gone; anything wrong below it fails the whole batch.
pub fn judge(answer: &[u8], batch_ids: &[&str]) -> Verdict {
    if answer.trim_ascii().is_empty() {
        return Verdict::Success;
    }
    let answer: Value = match serde_json::from_slice(answer) {
        Ok(answer) => answer,
        Err(error) => return Verdict::Failure(format!("the answer is not JSON: {error}")),
    };
    if answer.is_null() {
        return Verdict::Success;
    }
    // AWS does not say what a bare string or number means; a batch that stays is noticed, a deleted one is not.
    let Some(answer) = answer.as_object() else {
        return Verdict::Failure("the answer is not an object".to_owned());
    };
    let Some(failures) = answer.get("batchItemFailures").filter(|failures| !failures.is_null()) else {
        return Verdict::Success;
    };
    let Some(failures) = failures.as_array() else {
        return Verdict::Failure("batchItemFailures is not a list".to_owned());
    };
    let mut failed = BTreeSet::new();
    for failure in failures {
        match failure.get("itemIdentifier").and_then(Value::as_str) {
            None => return Verdict::Failure(format!("no itemIdentifier in {failure}")),
            Some("") => return Verdict::Failure("an empty itemIdentifier".to_owned()),
            Some(id) if !batch_ids.contains(&id) => return Verdict::Failure(format!("{id} is not in the batch")),
            Some(id) => failed.insert(id.to_owned()),
        };
    }
    if failed.is_empty() { Verdict::Success } else { Verdict::Partial(failed) }
}

impl Mapping {
    /// Creates the mapping. Nothing is polled before one of the methods below is called.
    pub fn new(queue: Queue, function: Function, options: MappingOptions) -> Self {
        Self { queue, function, options }
    }

    /// Polls once and invokes once; nothing when no message is visible.
    pub async fn deliver_once(&self) -> Option<Delivery> {
        let records = self.poll();
        if records.is_empty() { None } else { Some(self.deliver(records).await) }
    }

    /// Delivers batch after batch, as many side by side as the mapping allows, until no message is visible. What a
    /// function sent back with a back-off stays: `Queue::skip_wait` makes it due.
    pub async fn drain(&self) -> Vec<Delivery> {
        let (mut running, mut deliveries) = (JoinSet::new(), Vec::new());
        loop {
            while running.len() < self.options.maximum_concurrency.max(1) {
                let records = self.poll();
                if records.is_empty() {
                    break;
                }
                let mapping = self.clone();
                running.spawn(async move { mapping.deliver(records).await });
            }
            match running.join_next().await {
                Some(delivery) => deliveries.extend(delivery.ok()), // Nothing aborts these tasks.
                None => return deliveries,
            }
        }
    }

    /// Polls in the background until the handle is aborted, and tells of each delivery. A receiver that is gone is fine.
    pub fn run(self, deliveries: mpsc::UnboundedSender<Delivery>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let permits = Arc::new(Semaphore::new(self.options.maximum_concurrency.max(1)));
            let mut running = JoinSet::new(); // Aborting the loop aborts its invocations.
            loop {
                let Ok(permit) = permits.clone().acquire_owned().await else {
                    return;
                };
                self.queue.arrived().await;
                while running.try_join_next().is_some() {} // Otherwise the set grows for ever.
                let records = self.poll();
                if records.is_empty() {
                    continue;
                }
                let (mapping, deliveries) = (self.clone(), deliveries.clone());
                running.spawn(async move {
                    drop(deliveries.send(mapping.deliver(records).await));
                    drop(permit);
                });
            }
        })
    }

    /// Lambda collects a batch from as many requests as it takes, and hands it over before the event grows too large.
    fn poll(&self) -> Vec<Received> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < self.options.batch_size && bytes + LARGEST_RECORD_BYTES <= MAX_PAYLOAD_BYTES {
            let more = self.queue.receive(1);
            if more.is_empty() {
                break;
            }
            bytes += event(&self.queue, &more).to_string().len();
            records.extend(more);
        }
        records
    }

    async fn deliver(&self, records: Vec<Received>) -> Delivery {
        let event = event(&self.queue, &records).to_string().into_bytes();
        // Lambda repeats a throttled invocation for as long as the messages are hidden, and lets go of them then.
        let invocation = self.function.invoke_within(event, self.queue.options().visibility).await;
        let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
        let verdict = match &invocation.result {
            Err(error) => Verdict::Failure(error.to_string()),
            Ok(answer) if self.options.report_batch_item_failures => judge(answer, &ids),
            Ok(_) => Verdict::Success,
        };
        for record in records.iter().filter(|record| !verdict.keeps(&record.id)) {
            drop(self.queue.delete(&record.receipt)); // A stale handle deletes nothing, as on SQS.
        }
        Delivery { batch: ids.into_iter().map(str::to_owned).collect(), verdict, invocation }
    }
}

/// The event that Lambda makes of a batch.
pub fn event(queue: &Queue, records: &[Received]) -> Value {
    let arn = queue.arn();
    let record = |record: &Received| {
        let mut attributes = Map::new();
        for (name, attribute) in &record.attributes {
            let mut value = json!({"stringListValues": [], "binaryListValues": [], "dataType": attribute.data_type});
            if let Some(text) = &attribute.string_value {
                value["stringValue"] = json!(text);
            }
            if let Some(base64) = &attribute.binary_value {
                value["binaryValue"] = json!(base64);
            }
            attributes.insert(name.clone(), value);
        }
        json!({
            "messageId": record.id,
            "receiptHandle": record.receipt,
            "body": record.body,
            "attributes": record.system,
            "messageAttributes": attributes,
            "md5OfBody": format!("{:x}", md5::compute(&record.body)),
            "eventSource": "aws:sqs",
            "eventSourceARN": arn,
            "awsRegion": "us-east-1",
        })
    };
    json!({"Records": records.iter().map(record).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Message, MessageAttribute, QueueOptions};

    const BATCH: &[&str] = &["a", "b"];

    #[track_caller]
    fn succeeds(answer: &str) {
        assert_eq!(judge(answer.as_bytes(), BATCH), Verdict::Success, "{answer}");
    }

    #[track_caller]
    fn fails(answer: &str) {
        assert!(matches!(judge(answer.as_bytes(), BATCH), Verdict::Failure(_)), "{answer}");
    }

    #[test]
    fn an_empty_list_of_failures_is_complete_success() {
        succeeds(r#"{"batchItemFailures": []}"#);
    }

    #[test]
    fn a_null_list_of_failures_is_complete_success() {
        succeeds(r#"{"batchItemFailures": null}"#);
    }

    #[test]
    fn an_empty_answer_is_complete_success() {
        succeeds("");
        succeeds("{}");
    }

    #[test]
    fn a_null_answer_is_complete_success() {
        succeeds("null");
    }

    #[test]
    fn a_wrong_key_at_the_top_reads_as_success() {
        succeeds(r#"{"batch_item_failures": [{"itemIdentifier": "a"}]}"#);
        succeeds(r#"{"statusCode": 200, "body": {"batchItemFailures": [{"itemIdentifier": "a"}]}}"#);
    }

    #[test]
    fn an_answer_that_is_not_json_is_complete_failure() {
        fails(r#"{"batchItemFailures": ["#);
        fails("done");
    }

    #[test]
    fn an_answer_that_is_not_an_object_is_complete_failure() {
        fails(r#""done""#);
        fails(r#"{"batchItemFailures": "a"}"#);
    }

    #[test]
    fn an_empty_identifier_is_complete_failure() {
        fails(r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": ""}]}"#);
    }

    #[test]
    fn a_null_identifier_is_complete_failure() {
        fails(r#"{"batchItemFailures": [{"itemIdentifier": null}]}"#);
    }

    #[test]
    fn a_badly_keyed_identifier_is_complete_failure() {
        fails(r#"{"batchItemFailures": [{"item_identifier": "a"}]}"#);
        fails(r#"{"batchItemFailures": ["a"]}"#);
    }

    #[test]
    fn an_identifier_from_outside_the_batch_is_complete_failure() {
        fails(r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "c"}]}"#);
    }

    #[test]
    fn known_identifiers_keep_their_messages_and_delete_the_others() {
        let verdict = judge(br#"{"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "b"}]}"#, BATCH);
        assert_eq!(verdict, Verdict::Partial(BTreeSet::from(["b".to_owned()])));
        assert!(verdict.keeps("b") && !verdict.keeps("a"));
    }

    #[test]
    fn the_largest_message_fits_into_an_event_as_it_is_reckoned() {
        let queue = Queue::new("holds", QueueOptions::default());
        let name = |index: usize| format!("{index}{}", "n".repeat(250));
        let attributes = (0..10).map(|index| (name(index), MessageAttribute::string("\n"))).collect();
        let body = "\"".repeat(1024 * 1024 - 10 * (251 + 6 + 1));
        queue.send(Message { attributes, trace_header: Some("Root=1".to_owned()), ..Message::new(body) }).unwrap();
        let size = event(&queue, &queue.receive(1)).to_string().len();
        assert!(size <= LARGEST_RECORD_BYTES, "{size}");
    }

    #[test]
    fn a_record_has_the_form_that_lambda_gives_it() {
        let queue = Queue::new("holds", QueueOptions::default());
        let attributes = [("traceparent".to_owned(), MessageAttribute::string("00-1"))].into();
        let group_id = Some("tenant-1".to_owned());
        queue.send(Message { id: Some("m".to_owned()), attributes, group_id, ..Message::new("hello") }).unwrap();
        let records = queue.receive(1);
        let event = event(&queue, &records);
        let system = &records[0].system;
        assert_eq!(system["MessageGroupId"], "tenant-1");
        assert_eq!(
            event["Records"][0],
            json!({
                "messageId": "m",
                "receiptHandle": records[0].receipt,
                "body": "hello",
                "attributes": system,
                "messageAttributes": {
                    "traceparent": {
                        "stringValue": "00-1", "stringListValues": [], "binaryListValues": [], "dataType": "String",
                    },
                },
                "md5OfBody": "5d41402abc4b2a76b9719d911017c592",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:holds",
                "awsRegion": "us-east-1",
            })
        );
    }
}
