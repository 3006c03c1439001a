//! SQS's JSON protocol in front of the queues. The queues hold the rules; here are only the names on the wire, the batch
//! forms and the long poll. Digests are left out of the answers, because a client checks only those that are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::{Fault, Shared};
use crate::queue::{MAX_PER_REQUEST, MAX_VISIBILITY, Message, MessageAttribute, Queue, QueueError, Received};

/// SQS lets a receiver wait no longer than this.
const MAX_WAIT: Duration = Duration::from_secs(20);

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        let (code, query_code) = error.codes();
        let (code, query_code) = (format!("com.amazonaws.sqs#{code}"), query_code.to_owned());
        Self { status: StatusCode::BAD_REQUEST, code, query_code, message: error.to_string() }
    }
}

/// Carries out one operation.
pub(super) async fn call(shared: &Shared, operation: &str, input: &Value) -> Result<Value, Fault> {
    match operation {
        "ListQueues" => return Ok(list(shared, input)),
        "GetQueueUrl" => return find(shared, &input["QueueName"]).map(|queue| json!({"QueueUrl": queue.url()})),
        _ => {}
    }
    let queue = find(shared, &input["QueueUrl"])?;
    match operation {
        "SendMessage" => send(&queue, input),
        "SendMessageBatch" => batch(input, |entry| send(&queue, entry)),
        "ReceiveMessage" => receive(&queue, input).await,
        "DeleteMessage" => delete(&queue, input),
        "DeleteMessageBatch" => batch(input, |entry| delete(&queue, entry)),
        "ChangeMessageVisibility" => change_visibility(&queue, input),
        "ChangeMessageVisibilityBatch" => batch(input, |entry| change_visibility(&queue, entry)),
        "GetQueueAttributes" => Ok(attributes(&queue, input)),
        "ListDeadLetterSourceQueues" => Ok(list_sources(shared, &queue)),
        _ => Err(Fault::client("UnknownOperationException", format!("no such operation here: {operation}"))),
    }
}

/// By name or URL: both end in the name.
fn find(shared: &Shared, name: &Value) -> Result<Queue, Fault> {
    let name = name.as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
    shared.lock().queues.get(name).cloned().ok_or_else(|| Fault {
        status: StatusCode::BAD_REQUEST,
        code: "com.amazonaws.sqs#QueueDoesNotExist".to_owned(),
        query_code: "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
        message: "The specified queue does not exist.".to_owned(),
    })
}

fn list(shared: &Shared, input: &Value) -> Value {
    let prefix = input["QueueNamePrefix"].as_str().unwrap_or_default();
    let contents = shared.lock();
    let named = contents.queues.values().filter(|queue| queue.name().starts_with(prefix));
    json!({"QueueUrls": named.map(Queue::url).collect::<Vec<_>>()})
}

/// The queues whose redrive policy names this one. The operation is the one whose answer starts with a small letter.
fn list_sources(shared: &Shared, dead_letters: &Queue) -> Value {
    let contents = shared.lock();
    let is_source = |queue: &&Queue| {
        queue.options().redrive.as_ref().is_some_and(|redrive| redrive.queue.name() == dead_letters.name())
    };
    json!({"queueUrls": contents.queues.values().filter(is_source).map(Queue::url).collect::<Vec<_>>()})
}

fn send(queue: &Queue, input: &Value) -> Result<Value, Fault> {
    let attributes: Option<BTreeMap<String, MessageAttribute>> =
        serde_json::from_value(input["MessageAttributes"].clone())
            .map_err(|error| Fault::client("SerializationException", error.to_string()))?;
    let attributes = attributes.unwrap_or_default();
    let body = text(input, "MessageBody").to_owned();
    let id = queue.send(Message {
        id: None,
        attributes,
        trace_header: input["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"].as_str().map(str::to_owned),
        group_id: input["MessageGroupId"].as_str().map(str::to_owned),
        delay: seconds(input, "DelaySeconds")?.unwrap_or_default(),
        body,
        received_before: 0,
        age: Duration::ZERO,
    })?;
    Ok(json!({"MessageId": id}))
}

async fn receive(queue: &Queue, input: &Value) -> Result<Value, Fault> {
    let given = &input["MaxNumberOfMessages"];
    let max = if given.is_null() { Some(1) } else { given.as_u64().and_then(|max| usize::try_from(max).ok()) };
    let max = max
        .filter(|max| (1..=MAX_PER_REQUEST).contains(max))
        .ok_or_else(|| invalid("MaxNumberOfMessages", given, "Must be between 1 and 10, if provided."))?;
    let visibility = at_most(input, "VisibilityTimeout", MAX_VISIBILITY)?.unwrap_or(queue.options().visibility);
    let until = Instant::now() + at_most(input, "WaitTimeSeconds", MAX_WAIT)?.unwrap_or_default();
    loop {
        let received = queue.receive_for(max, visibility);
        if received.is_empty() && timeout_at(until, queue.arrived()).await.is_ok() && Instant::now() < until {
            continue;
        }
        if received.is_empty() {
            return Ok(json!({}));
        }
        return Ok(json!({"Messages": received.iter().map(|message| shown(message, input)).collect::<Vec<_>>()}));
    }
}

/// SQS gives only the attributes that were asked for.
fn shown(message: &Received, input: &Value) -> Value {
    let mut value = json!({"MessageId": message.id, "ReceiptHandle": message.receipt, "Body": message.body});
    let system =
        |name: &str| wanted(input, "MessageSystemAttributeNames", name) || wanted(input, "AttributeNames", name);
    let own: BTreeMap<_, _> = message.system.iter().filter(|(name, _)| system(name)).collect();
    let attributes: BTreeMap<_, _> =
        message.attributes.iter().filter(|(name, _)| wanted(input, "MessageAttributeNames", name)).collect();
    if !own.is_empty() {
        value["Attributes"] = json!(own);
    }
    if !attributes.is_empty() {
        value["MessageAttributes"] = json!(attributes);
    }
    value
}

/// Whether a list of names covers this one: by `All`, by name, or by a prefix that ends in `.*`.
fn wanted(input: &Value, list: &str, name: &str) -> bool {
    let names = input[list].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(Value::as_str).any(|pattern| {
        pattern == "All" || pattern == name || pattern.strip_suffix(".*").is_some_and(|prefix| name.starts_with(prefix))
    })
}

fn delete(queue: &Queue, input: &Value) -> Result<Value, Fault> {
    queue.delete(text(input, "ReceiptHandle"))?;
    Ok(json!({}))
}

fn change_visibility(queue: &Queue, input: &Value) -> Result<Value, Fault> {
    let timeout = seconds(input, "VisibilityTimeout")?.ok_or_else(|| {
        Fault::client("MissingParameter", "The request must contain the parameter VisibilityTimeout.".to_owned())
    })?;
    queue.change_visibility(text(input, "ReceiptHandle"), timeout)?;
    Ok(json!({}))
}

fn attributes(queue: &Queue, input: &Value) -> Value {
    let messages = queue.messages();
    let count = |of: &dyn Fn(bool, bool) -> bool| {
        let counted = messages.iter().filter(|message| of(message.visible_in.is_zero(), message.receive_count == 0));
        counted.count().to_string()
    };
    let mut all = BTreeMap::from([
        ("QueueArn", queue.arn()),
        ("VisibilityTimeout", queue.options().visibility.as_secs().to_string()),
        ("ApproximateNumberOfMessages", count(&|visible, _| visible)),
        ("ApproximateNumberOfMessagesNotVisible", count(&|visible, new| !visible && !new)),
        ("ApproximateNumberOfMessagesDelayed", count(&|visible, new| !visible && new)),
    ]);
    if let Some(redrive) = &queue.options().redrive {
        let policy = json!({"deadLetterTargetArn": redrive.queue.arn(), "maxReceiveCount": redrive.max_receive_count});
        all.insert("RedrivePolicy", policy.to_string());
    }
    all.retain(|name, _| wanted(input, "AttributeNames", name));
    json!({"Attributes": all})
}

/// Carries out each entry on its own; only a batch that is wrong as a whole is refused.
fn batch(input: &Value, one: impl Fn(&Value) -> Result<Value, Fault>) -> Result<Value, Fault> {
    let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let refuse = |code: &str, message: &str| {
        let query_code = format!("AWS.SimpleQueueService.{code}");
        let (code, message) = (format!("com.amazonaws.sqs#{code}"), message.to_owned());
        Err(Fault { status: StatusCode::BAD_REQUEST, code, query_code, message })
    };
    if entries.is_empty() {
        return refuse("EmptyBatchRequest", "There should be at least one entry in the request.");
    }
    if entries.len() > MAX_PER_REQUEST {
        return refuse("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10.");
    }
    let ids: BTreeSet<&str> = entries.iter().map(|entry| text(entry, "Id")).collect();
    if ids.len() < entries.len() {
        return refuse("BatchEntryIdsNotDistinct", "Two or more batch entries have the same id.");
    }
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        let id = text(entry, "Id");
        match one(entry) {
            Ok(answer) => {
                let mut fields = Map::from_iter([("Id".to_owned(), json!(id))]);
                fields.extend(answer.as_object().cloned().unwrap_or_default());
                successful.push(fields);
            }
            Err(fault) => {
                failed.push(json!({"Id": id, "SenderFault": true, "Code": fault.query_code, "Message": fault.message}))
            }
        }
    }
    Ok(json!({"Successful": successful, "Failed": failed}))
}

fn text<'a>(input: &'a Value, name: &str) -> &'a str {
    input[name].as_str().unwrap_or_default()
}

fn seconds(input: &Value, name: &str) -> Result<Option<Duration>, Fault> {
    let given = &input[name];
    if given.is_null() {
        return Ok(None);
    }
    let limit = "Must be a whole number of seconds, not negative.";
    given.as_u64().map(|seconds| Some(Duration::from_secs(seconds))).ok_or_else(|| invalid(name, given, limit))
}

fn at_most(input: &Value, name: &str, limit: Duration) -> Result<Option<Duration>, Fault> {
    let given = seconds(input, name)?;
    if given.is_some_and(|given| given > limit) {
        let reason = format!("Must be >= 0 and <= {}, if provided.", limit.as_secs());
        return Err(invalid(name, &input[name], &reason));
    }
    Ok(given)
}

fn invalid(name: &str, value: &Value, reason: &str) -> Fault {
    QueueError::InvalidParameterValue(format!("Value {value} for parameter {name} is invalid. Reason: {reason}")).into()
}
