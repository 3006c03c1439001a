//! The event source mapping of a DynamoDB stream: reads the changes of a table from its shard, hands a batch to a function,
//! and goes on where the answer says. An answer is a checkpoint and no set: everything from the first record that it names
//! on comes again, also what the function has done already. The embedded database has one shard.

use serde_json::{Value, json};

use crate::{
    aws::{AwsEndpoint, AwsError},
    lambda::{Function, Invocation},
};

/// A mapping between the stream of one table and one function.
#[derive(Debug)]
pub struct StreamMapping {
    aws: AwsEndpoint,
    function: Function,
    options: StreamOptions,
    shard: Shard,
    /// The sequence number of the last record that is done; before the first one at the start.
    done: Option<String>,
}

/// The properties of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// The most records in one invocation.
    pub batch_size: usize,
    /// The attribute that the new item must have for its record to be handed over: the filter pattern `exists`. Lambda
    /// counts what it filters out as done.
    pub filter: Option<&'static str>,
}

#[derive(Debug)]
struct Shard {
    arn: String,
    id: String,
}

/// One batch and its fate.
#[derive(Debug)]
pub struct StreamDelivery {
    /// The sequence numbers of the batch.
    pub batch: Vec<String>,
    /// How many of them are done, from the first on.
    pub done: usize,
    /// The invocation behind it.
    pub invocation: Invocation,
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
        let described = aws.dynamodb("DescribeTable", &json!({"TableName": table})).await?;
        let arn = described["Table"]["LatestStreamArn"].as_str().unwrap_or_default().to_owned();
        let stream = aws.streams("DescribeStream", &json!({"StreamArn": arn})).await?;
        let id = stream["StreamDescription"]["Shards"][0]["ShardId"].as_str().unwrap_or_default().to_owned();
        Ok(Self { aws, function, options, shard: Shard { arn, id }, done: None })
    }

    /// Reads once and invokes once; nothing when no record waits.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn deliver_once(&mut self) -> Result<Option<StreamDelivery>, AwsError> {
        let records = self.read().await?;
        let (mut batch, mut passed) = (Vec::new(), None);
        for record in records {
            let number = number(&record);
            let matches = self.options.filter.is_none_or(|name| record["dynamodb"]["NewImage"].get(name).is_some());
            if matches {
                batch.push((number, record));
            } else if batch.is_empty() {
                passed = Some(number);
            }
            if batch.len() == self.options.batch_size {
                break;
            }
        }
        if passed.is_some() {
            self.done = passed;
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let (numbers, records): (Vec<String>, Vec<Value>) = batch.into_iter().unzip();
        let invocation = self.function.invoke(json!({"Records": records}).to_string()).await;
        let done = invocation.result.as_ref().map_or(0, |answer| checkpoint(answer, &numbers));
        if let Some(last) = done.checked_sub(1) {
            self.done = Some(numbers[last].clone());
        }
        Ok(Some(StreamDelivery { batch: numbers, done, invocation }))
    }

    /// Loses what a delivery would have read, as a stream does that nobody has read for a day. The answer is how many records
    /// that were; nothing when no record waits.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn skip_once(&mut self) -> Result<Option<usize>, AwsError> {
        let records = self.read().await?;
        let Some(last) = records.last() else { return Ok(None) };
        self.done = Some(number(last));
        Ok(Some(records.len()))
    }

    /// Delivers batch after batch until no record waits, or one does not get on.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn drain(&mut self) -> Result<Vec<StreamDelivery>, AwsError> {
        let mut deliveries = Vec::new();
        while let Some(delivery) = self.deliver_once().await? {
            let stuck = delivery.done == 0;
            deliveries.push(delivery);
            if stuck {
                break;
            }
        }
        Ok(deliveries)
    }

    async fn read(&self) -> Result<Vec<Value>, AwsError> {
        let mut input = json!({"StreamArn": self.shard.arn, "ShardId": self.shard.id});
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
}
