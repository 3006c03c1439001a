//! The event source mapping of a DynamoDB stream: reads the changes of a table from its shard, hands a batch to a function,
//! and goes on where the answer says. An answer is a checkpoint and no set: everything from the first record that it names
//! on comes again, also what the function has done already. The embedded database has one shard.
//!
//! | rule | what becomes of a batch |
//! | --- | --- |
//! | `FilterCriteria` | a record that no filter matches is done, and nobody is invoked for it |
//! | `ReportBatchItemFailures` | what comes before the first record that an answer names is done; only the rest comes again |
//! | `BisectBatchOnFunctionError` | a batch that failed as a whole comes again in halves, which is no attempt |
//! | `MaximumRetryAttempts` | a batch that failed once more than that is given up |
//! | `MaximumRecordAgeInSeconds` | records that are older are given up, before a function sees them again |
//! | `DestinationConfig.OnFailure` | gets the place of what was given up, and not the records |
//!
//! The window over several batches and the factor of parallel batches are absent, because one shard of a local table needs
//! neither. <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-params.html>

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    aws::{AwsEndpoint, AwsError},
    lambda::{Function, Invocation},
    pattern::Pattern,
    queue::{Message, Queue},
};

/// How often a shard without new records is read.
const POLL: Duration = Duration::from_millis(100);

/// The longest wait before a batch that failed comes again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// The changes of a table, read one after the other.
#[derive(Debug)]
pub struct Changes {
    aws: AwsEndpoint,
    stream: String,
    shard: String,
    /// The sequence number of the last record that is done; before the first one at the start.
    done: Option<String>,
}

/// A mapping between the stream of one table and one function.
#[derive(Debug)]
pub struct StreamMapping {
    changes: Changes,
    function: Function,
    options: StreamOptions,
    parts: Parts,
    skipped: Duration,
}

/// The properties of a mapping, named as on AWS.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// The most records in one invocation.
    pub batch_size: usize,
    /// A record is handed over when one of these matches it, or there is none. Lambda counts what it filters out as done.
    pub filters: Vec<Pattern>,
    /// Whether a batch that failed as a whole is split in two.
    pub bisect_batch_on_function_error: bool,
    /// How often a batch may come again; without a number as long as its records are young enough.
    pub maximum_retry_attempts: Option<u64>,
    /// How old a record may become; without an age as old as the stream keeps it.
    pub maximum_record_age: Option<Duration>,
    /// Where it is told what was given up.
    pub on_failure: Option<Queue>,
}

/// One batch and its fate.
#[derive(Debug)]
pub struct StreamDelivery {
    /// The sequence numbers of the batch.
    pub batch: Vec<String>,
    /// How many of them are done, from the first on.
    pub done: usize,
    /// Whether those that are not done are given up.
    pub given_up: bool,
    /// The invocation behind it.
    pub invocation: Invocation,
}

/// The batches that come again before new records do, the next one last.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    records: usize,
    /// How often it came and failed.
    failures: u64,
}

impl Parts {
    /// How many records come next.
    fn size(&self, batch_size: usize) -> usize {
        self.0.last().map_or(batch_size, |part| part.records)
    }

    /// Notes what became of the next batch. True: it is given up.
    fn ended(&mut self, records: usize, done: usize, options: &StreamOptions) -> bool {
        let failures = self.0.pop().map_or(0, |part| part.failures);
        let mut again = |records, failures| self.0.push(Part { records, failures });
        if done >= records {
            return false;
        }
        if done > 0 {
            again(records - done, 0);
            return false;
        }
        if options.bisect_batch_on_function_error && records > 1 {
            again(records - records / 2, failures);
            again(records / 2, failures);
            return false;
        }
        let failures = failures + 1;
        if options.maximum_retry_attempts.is_some_and(|most| failures > most) {
            return true;
        }
        again(records, failures);
        false
    }

    /// Notes that so many records are done without a delivery.
    fn passed(&mut self, mut records: usize) {
        while let Some(part) = self.0.last_mut() {
            if part.records > records {
                part.records -= records;
                return;
            }
            records -= part.records;
            self.0.pop();
        }
    }
}

/// What an answer means for a batch: how many of its records are done. AWS takes an empty list, and an answer without one, for
/// a success, and whatever else it does not understand for a failure of the whole batch.
pub fn checkpoint(answer: &[u8], batch: &[String]) -> usize {
    if answer.trim_ascii().is_empty() {
        return batch.len();
    }
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return 0 };
    let failures = match &answer["batchItemFailures"] {
        Value::Null if answer.is_null() || answer.is_object() => return batch.len(),
        Value::Array(failures) => failures,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => return 0,
    };
    let place = |failure: &Value| {
        let number = failure["itemIdentifier"].as_str()?;
        batch.iter().position(|other| other == number)
    };
    failures.iter().map(|failure| place(failure).unwrap_or(0)).min().unwrap_or(batch.len())
}

impl Changes {
    /// The changes of a table, from the oldest one on.
    ///
    /// # Errors
    /// When the table has no stream.
    pub async fn of(aws: AwsEndpoint, table: &str) -> Result<Self, AwsError> {
        let described = aws.dynamodb("DescribeTable", &json!({"TableName": table})).await?;
        let stream = described["Table"]["LatestStreamArn"].as_str().unwrap_or_default().to_owned();
        let shards = aws.streams("DescribeStream", &json!({"StreamArn": stream})).await?;
        let shard = shards["StreamDescription"]["Shards"][0]["ShardId"].as_str().unwrap_or_default().to_owned();
        Ok(Self { aws, stream, shard, done: None })
    }

    /// The records that were not read before.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn next(&mut self) -> Result<Vec<Value>, AwsError> {
        let records = self.waiting().await?;
        if let Some(last) = records.last() {
            self.done = Some(number(last));
        }
        Ok(records)
    }

    /// The records that are not done.
    async fn waiting(&self) -> Result<Vec<Value>, AwsError> {
        let mut input = json!({"StreamArn": self.stream, "ShardId": self.shard});
        match &self.done {
            Some(number) => {
                input["ShardIteratorType"] = json!("AFTER_SEQUENCE_NUMBER");
                input["SequenceNumber"] = json!(number);
            }
            None => input["ShardIteratorType"] = json!("TRIM_HORIZON"),
        }
        let iterator = self.aws.streams("GetShardIterator", &input).await?;
        let input = json!({"ShardIterator": iterator["ShardIterator"], "Limit": 1_000});
        let answer = self.aws.streams("GetRecords", &input).await?;
        Ok(answer["Records"].as_array().cloned().unwrap_or_default())
    }
}

impl StreamMapping {
    /// Creates the mapping, from the oldest record on. Nothing is read before one of the methods below is called.
    ///
    /// # Errors
    /// When the table has no stream.
    pub async fn new(
        aws: AwsEndpoint,
        table: &str,
        function: Function,
        options: StreamOptions,
    ) -> Result<Self, AwsError> {
        let changes = Changes::of(aws, table).await?;
        Ok(Self { changes, function, options, parts: Parts::default(), skipped: Duration::ZERO })
    }

    /// Reads once and invokes once; nothing when no record waits. Records that are too old are given up before.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn deliver_once(&mut self) -> Result<Option<StreamDelivery>, AwsError> {
        let records = self.changes.waiting().await?;
        let (mut batch, mut passed) = (Vec::new(), None);
        for record in records {
            let number = number(&record);
            let filters = &self.options.filters;
            if filters.is_empty() || filters.iter().any(|filter| filter.matches(&record)) {
                batch.push((number, record));
            } else if batch.is_empty() {
                passed = Some(number);
            }
        }
        if passed.is_some() {
            self.changes.done = passed;
        }
        let old = batch.iter().take_while(|(_, record)| self.is_too_old(record)).count();
        let too_old: Vec<(String, Value)> = batch.drain(..old).collect();
        if let Some((last, _)) = too_old.last() {
            self.give_up(&too_old, "RecordAgeExceeded", 0);
            self.parts.passed(old);
            self.changes.done = Some(last.clone());
        }
        batch.truncate(self.parts.size(self.options.batch_size));
        if batch.is_empty() {
            return Ok(None);
        }
        let records: Vec<&Value> = batch.iter().map(|(_, record)| record).collect();
        let invocation = self.function.invoke(json!({"Records": records}).to_string()).await;
        let numbers: Vec<String> = batch.iter().map(|(number, _)| number.clone()).collect();
        let done = invocation.result.as_ref().map_or(0, |answer| checkpoint(answer, &numbers));
        let given_up = self.parts.ended(numbers.len(), done, &self.options);
        if given_up {
            let attempts = self.options.maximum_retry_attempts.unwrap_or_default() + 1;
            self.give_up(&batch[done..], "RetryAttemptsExhausted", attempts);
        }
        let behind = if given_up { numbers.len() } else { done };
        if let Some(last) = behind.checked_sub(1) {
            self.changes.done = Some(numbers[last].clone());
        }
        Ok(Some(StreamDelivery { batch: numbers, done, given_up, invocation }))
    }

    /// Lets time pass for the age of the records, so that nobody has to sit it out.
    pub fn elapse(&mut self, time: Duration) {
        self.skipped += time;
    }

    /// Reads and delivers in the background until the handle is aborted, and tells of each delivery. A receiver that is gone is
    /// fine, and a stream that can't be read is read again.
    pub fn run(mut self, deliveries: mpsc::UnboundedSender<StreamDelivery>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut failures = 0;
            loop {
                let delivery = self.deliver_once().await.ok().flatten();
                let failed = delivery.as_ref().is_some_and(|delivery| delivery.done == 0 && !delivery.given_up);
                failures = if failed { failures + 1 } else { 0 };
                let wait = match &delivery {
                    Some(_) if failed => (POLL * 2_u32.saturating_pow(failures)).min(LONGEST_BACKOFF),
                    Some(_) => Duration::ZERO,
                    None => POLL,
                };
                if let Some(delivery) = delivery {
                    drop(deliveries.send(delivery));
                }
                tokio::time::sleep(wait).await;
            }
        })
    }

    fn is_too_old(&self, record: &Value) -> bool {
        let created = record["dynamodb"]["ApproximateCreationDateTime"].as_f64().unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + self.skipped;
        self.options.maximum_record_age.is_some_and(|most| now.as_secs_f64() - created > most.as_secs_f64())
    }

    /// Tells where the records lie that nobody will see again.
    fn give_up(&self, records: &[(String, Value)], condition: &str, attempts: u64) {
        let Some(queue) = &self.options.on_failure else { return };
        let time = |seconds: f64| {
            let whole = OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            whole.format(&Rfc3339).unwrap_or_default()
        };
        let created = |record: Option<&(String, Value)>| {
            time(
                record
                    .and_then(|(_, record)| record["dynamodb"]["ApproximateCreationDateTime"].as_f64())
                    .unwrap_or(0.0),
            )
        };
        let number = |record: Option<&(String, Value)>| record.map(|(number, _)| number.clone());
        let told = json!({
            "requestContext": {
                "functionArn": format!("arn:aws:lambda:us-east-1:000000000000:function:{}", self.function.name()),
                "condition": condition,
                "approximateInvokeCount": attempts,
            },
            "version": "1.0",
            "timestamp": time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()),
            "DDBStreamBatchInfo": {
                "shardId": self.changes.shard,
                "startSequenceNumber": number(records.first()),
                "endSequenceNumber": number(records.last()),
                "approximateArrivalOfFirstRecord": created(records.first()),
                "approximateArrivalOfLastRecord": created(records.last()),
                "batchSize": records.len(),
                "streamArn": self.changes.stream,
            },
        });
        drop(queue.send(Message::new(told.to_string()))); // It is far below SQS's limits.
    }

    /// Loses what a delivery would have read, as a stream does that nobody has read for a day. The answer is how many records
    /// that were; nothing when no record waits.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn skip_once(&mut self) -> Result<Option<usize>, AwsError> {
        let lost = self.changes.next().await?.len();
        Ok(Some(lost).filter(|lost| *lost > 0))
    }

    /// Delivers batch after batch until no record waits, or one does not get on.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn drain(&mut self) -> Result<Vec<StreamDelivery>, AwsError> {
        let mut deliveries = Vec::new();
        while let Some(delivery) = self.deliver_once().await? {
            let splits = self.options.bisect_batch_on_function_error && delivery.batch.len() > 1;
            let ends = delivery.given_up || splits || self.options.maximum_retry_attempts.is_some();
            let stuck = delivery.done == 0 && !ends;
            deliveries.push(delivery);
            if stuck {
                break;
            }
        }
        Ok(deliveries)
    }
}

fn number(record: &Value) -> String {
    record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, done: usize) {
        let batch = ["1", "2", "3"].map(str::to_owned);
        assert_eq!(checkpoint(answer.as_bytes(), &batch), done, "{answer}");
    }

    #[test]
    fn an_answer_names_the_first_record_that_comes_again() {
        for success in ["", "null", "{}", r#"{"batchItemFailures": null}"#, r#"{"batchItemFailures": []}"#] {
            check(success, 3);
        }
        check(r#"{"batchItemFailures": [{"itemIdentifier": "2"}]}"#, 1);
        check(r#"{"batchItemFailures": [{"itemIdentifier": "3"}, {"itemIdentifier": "2"}]}"#, 1);
        for failure in [
            "no JSON",
            "[]",
            r#"{"batchItemFailures": 7}"#,
            r#"{"batchItemFailures": [{}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "of another batch"}]}"#,
        ] {
            check(failure, 0);
        }
    }

    fn options(bisect: bool, most: Option<u64>) -> StreamOptions {
        StreamOptions {
            batch_size: 100,
            filters: Vec::new(),
            bisect_batch_on_function_error: bisect,
            maximum_retry_attempts: most,
            maximum_record_age: None,
            on_failure: None,
        }
    }

    /// The sizes of the batches in which `records` come, of which those in `bad` always fail: a batch with one fails from its
    /// first record on.
    fn deliveries(records: usize, bad: &[usize], options: &StreamOptions) -> (Vec<usize>, Vec<usize>) {
        let (mut parts, mut from, mut sizes, mut given_up) = (Parts::default(), 0, Vec::new(), Vec::new());
        while from < records && sizes.len() < 30 {
            let size = parts.size(options.batch_size).min(records - from);
            let fails = (from..from + size).any(|record| bad.contains(&record));
            sizes.push(size);
            let done = if fails { 0 } else { size };
            if parts.ended(size, done, options) {
                given_up.extend(from..from + size);
                from += size;
            }
            from += done;
        }
        assert!(from < records || parts == Parts::default(), "nothing is left to come again: {parts:?}");
        (sizes, given_up)
    }

    #[test]
    fn a_batch_that_fails_is_halved_until_the_bad_record_is_alone_and_that_is_no_attempt() {
        let (sizes, given_up) = deliveries(8, &[5], &options(true, Some(2)));
        assert_eq!((sizes, given_up), (vec![8, 4, 4, 2, 1, 1, 1, 1, 2], vec![5]), "the bad one comes three times");
        assert_eq!(deliveries(3, &[0, 1, 2], &options(true, Some(0))), (vec![3, 1, 2, 1, 1], vec![0, 1, 2]));
    }

    #[test]
    fn without_bisecting_a_batch_is_given_up_as_a_whole() {
        assert_eq!(deliveries(4, &[1], &options(false, Some(2))), (vec![4, 4, 4], vec![0, 1, 2, 3]));
        assert_eq!(deliveries(4, &[], &options(false, Some(0))), (vec![4], vec![]));
    }

    #[test]
    fn without_a_number_of_attempts_a_batch_comes_for_ever() {
        let (sizes, given_up) = deliveries(1, &[0], &options(true, None));
        assert_eq!((sizes.len(), given_up), (30, vec![]));
    }

    #[test]
    fn what_is_left_behind_a_checkpoint_comes_alone_and_starts_anew() {
        let (mut parts, options) = (Parts::default(), options(false, Some(1)));
        assert!(!parts.ended(5, 0, &options));
        assert!(!parts.ended(5, 2, &options), "it got on, and so it is no attempt that failed");
        assert_eq!(parts.size(100), 3);
        assert!(!parts.ended(3, 0, &options) && parts.ended(3, 0, &options));
        assert_eq!(parts.size(100), 100);
    }

    #[test]
    fn records_that_are_too_old_leave_the_parts_that_they_were_in() {
        let mut parts = Parts(vec![Part { records: 4, failures: 1 }, Part { records: 2, failures: 0 }]);
        parts.passed(3);
        assert_eq!(parts, Parts(vec![Part { records: 3, failures: 1 }]));
        parts.passed(9);
        assert_eq!(parts, Parts::default());
    }
}
