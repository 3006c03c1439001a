//! What a worker tells SQS about one message beyond the batch response: when to deliver it again, and that it is dead.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::sqs::{SqsMessage, SqsMessageAttribute};
use aws_sdk_sqs::{
    Client,
    config::endpoint::{DefaultResolver, Params, ResolveEndpoint},
    error::BuildError,
    operation::send_message::SendMessageOutput,
    primitives::Blob,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeNameForSends,
        MessageSystemAttributeValue,
    },
};

use crate::{aws::fault, failure::quoted, telemetry::trace::TraceContext};

/// SQS takes ten attributes on a message, and ten entries in a batch call.
const SQS_LIMIT: usize = 10;

/// Body and attributes of a message may have 1 MiB together.
const LARGEST_MESSAGE: usize = 1024 * 1024;

/// So much of an error's text goes before the message's own attributes.
const LEAST_REASON: usize = 100;

/// The type of a text among the attributes.
const STRING: &str = "String";

/// SQS delays no message longer.
const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// One message of a batch: an [`SqsMessage`] that is known to have an id.
#[derive(Debug)]
pub struct Record {
    /// The id that the batch response reports.
    pub message_id: String,
    /// The body, still undecoded; empty when the event had none.
    pub body: String,
    /// How often SQS has handed the message out, this time included.
    pub receive_count: u32,
    /// System attributes such as `AWSTraceHeader`.
    pub system_attributes: HashMap<String, String>,
    /// The producer's own attributes.
    pub attributes: HashMap<String, SqsMessageAttribute>,
    receipt_handle: Option<String>,
    source_arn: Option<String>,
}

/// A record without a message id: nothing about it can be reported, so the whole invocation has to fail.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the batch has no messageId, so nothing can be reported about it")]
pub struct MissingMessageId;

impl TryFrom<SqsMessage> for Record {
    type Error = MissingMessageId;

    fn try_from(message: SqsMessage) -> Result<Self, MissingMessageId> {
        let message_id = message.message_id.filter(|id| !id.trim().is_empty()).ok_or(MissingMessageId)?;
        // An unknown count is read as a first receive: the record then gets every retry, and SQS still counts itself.
        let receive_count = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
        Ok(Self {
            message_id,
            body: message.body.unwrap_or_default(),
            receive_count: receive_count.unwrap_or(1),
            system_attributes: message.attributes,
            attributes: message.message_attributes,
            receipt_handle: message.receipt_handle,
            source_arn: message.event_source_arn,
        })
    }
}

impl Record {
    /// The producer's trace context: of a message attribute first, then as the body says it (outermost first), and for the
    /// trace alone as SQS's own `AWSTraceHeader` says it.
    pub fn producer(&self, traceparents: &[Option<String>], baggages: &[Option<String>]) -> TraceContext {
        let first = |name, in_body: &[Option<String>]| {
            let attribute = self.attribute(name).map(str::to_owned);
            std::iter::once(attribute).chain(in_body.iter().cloned()).collect::<Vec<_>>()
        };
        let (traceparents, baggages) = (first("traceparent", traceparents), first("baggage", baggages));
        TraceContext::first_of(
            traceparents.iter().map(Option::as_deref),
            self.system_attributes.get("AWSTraceHeader").map(String::as_str),
            baggages.iter().map(Option::as_deref),
        )
    }

    /// The string value of one of the producer's attributes.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.string_value.as_deref()
    }
}

/// The attributes that tell a buried message from others: those of its [`DeathNote`], and the id that it had before.
pub const BURIAL_ATTRIBUTES: [&str; 4] = ["error_code", "error_message", "event_type", "source_message_id"];

/// Whether a body leaves so much of SQS's 1 MiB that a burial has all of its attributes, whatever they say.
pub fn leaves_room_for_a_reason(body: &str) -> bool {
    const LARGEST_REASON: usize = 8 * 1024;
    body.len() + LARGEST_REASON <= LARGEST_MESSAGE
}

/// Why a message lies in a dead-letter queue; it travels there as message attributes.
#[derive(Debug)]
pub struct DeathNote<'a> {
    /// `error_code`: a stable name.
    pub code: &'a str,
    /// `error_message`: what happened, for people.
    pub message: &'a str,
    /// `event_type`: the function that gave up.
    pub event_type: &'a str,
}

/// Why SQS could not be told. The record is then reported failed: it stays in its queue and nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// No dead-letter queue is configured.
    #[error("DLQ_URL is not set, so the message reaches its dead-letter queue by its receive count")]
    NoDeadLetterQueue,
    /// SQS does not take a message without a body.
    #[error(
        "the body is empty, which SQS does not take, so the message reaches its dead-letter queue by its receive count"
    )]
    EmptyBody,
    /// Body and reason together would be larger than SQS takes.
    #[error(
        "the body leaves no room for a reason in SQS's 1 MiB, so the message reaches its dead-letter queue by its receive count"
    )]
    TooLarge,
    /// The record does not say which queue it came from, or under which receipt.
    #[error("the record names no usable {0}, so its visibility stays as it is")]
    Unaddressed(&'static str),
    /// A request could not be built from what the record holds.
    #[error("build the request to SQS: {0}")]
    Build(#[from] BuildError),
    /// SQS refused, or could not be reached.
    #[error("{0}")]
    Sqs(String),
}

/// The queues around a worker: the one that a record came from, and the one for the dead.
#[derive(Debug, Clone)]
pub struct Queues {
    client: Client,
    dead_letter_url: Option<String>,
}

impl Queues {
    /// `dead_letter_url` is where [`Queues::bury`] sends to; without it every burial is refused.
    pub fn new(client: Client, dead_letter_url: Option<String>) -> Self {
        Self { client, dead_letter_url }
    }

    /// Hides the message for `wait`, which starts now. The record must still be reported failed.
    ///
    /// # Errors
    /// The message then comes back when the queue's own visibility ends.
    pub async fn postpone(&self, record: &Record, wait: Duration) -> Result<(), QueueError> {
        let call = self
            .client
            .change_message_visibility()
            .queue_url(record.queue_url().await?)
            .receipt_handle(record.receipt_handle()?)
            .visibility_timeout(seconds(wait));
        call.send().await.map(drop).map_err(|error| QueueError::Sqs(fault(&error)))
    }

    /// Hides each message for its wait, in as few calls as SQS allows; a wait of nothing makes it visible at once. They must
    /// still be reported failed.
    ///
    /// # Errors
    /// Each names one call that failed; its messages come back when the queue's own visibility ends.
    pub async fn postpone_all(&self, records: &[(Record, Duration)]) -> Vec<QueueError> {
        let mut errors = Vec::new();
        for group in records.chunks(SQS_LIMIT) {
            if let Err(error) = self.postpone_group(group).await {
                errors.push(error);
            }
        }
        errors
    }

    /// Sends the message, byte for byte, to the dead-letter queue with the reason. The record may then be acknowledged.
    ///
    /// # Errors
    /// The record must then be reported failed, so that it reaches the dead-letter queue by its receive count.
    pub async fn bury(&self, record: &Record, note: &DeathNote<'_>) -> Result<(), QueueError> {
        let url = self.dead_letter_url.as_deref().ok_or(QueueError::NoDeadLetterQueue)?;
        if record.body.is_empty() {
            return Err(QueueError::EmptyBody);
        }
        let attributes = burial_attributes(record, note)?;
        let call = self
            .client
            .send_message()
            .queue_url(url)
            .message_body(&record.body)
            .set_message_group_id(record.group_id())
            .set_message_attributes(Some(attributes));
        let sent = call.send().await;
        taken(&sent.map_err(|error| QueueError::Sqs(fault(&error)))?)
    }

    /// Sends the message, byte for byte and with its own attributes, to its own queue once more, to be delivered after `delay`
    /// (a quarter of an hour at most). Its receives and its age then count anew. The record may be acknowledged.
    ///
    /// # Errors
    /// The record must then be reported failed.
    pub async fn send_anew(&self, record: &Record, delay: Duration) -> Result<(), QueueError> {
        let call = self
            .client
            .send_message()
            .queue_url(record.queue_url().await?)
            .message_body(&record.body)
            .delay_seconds(seconds(delay.min(LONGEST_DELAY)))
            .set_message_group_id(record.group_id())
            .set_message_attributes(Some(record.own_attributes(|_| true, SQS_LIMIT)?.into_iter().collect()));
        let trace = record
            .system_attributes
            .get("AWSTraceHeader")
            .map(|header| MessageSystemAttributeValue::builder().data_type(STRING).string_value(header).build());
        let call = match trace.transpose()? {
            Some(trace) => call.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, trace),
            None => call,
        };
        taken(&call.send().await.map_err(|error| QueueError::Sqs(fault(&error)))?)
    }

    async fn postpone_group(&self, group: &[(Record, Duration)]) -> Result<(), QueueError> {
        let Some((first, _)) = group.first() else { return Ok(()) };
        let mut call = self.client.change_message_visibility_batch().queue_url(first.queue_url().await?);
        for (index, (record, wait)) in group.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(record.receipt_handle()?)
                .visibility_timeout(seconds(*wait));
            call = call.entries(entry.build()?);
        }
        let answer = call.send().await.map_err(|error| QueueError::Sqs(fault(&error)))?;
        match answer.failed() {
            [] if answer.successful().len() == group.len() => Ok(()),
            [] => Err(QueueError::Sqs("the answer does not say that SQS did it".to_owned())),
            [first, ..] => {
                Err(QueueError::Sqs(format!("{} of {}: {}", answer.failed().len(), group.len(), first.code())))
            }
        }
    }
}

impl Record {
    fn receipt_handle(&self) -> Result<&str, QueueError> {
        self.receipt_handle.as_deref().ok_or(QueueError::Unaddressed("receiptHandle"))
    }

    /// The producer's own attributes that are wanted, `most` of them at most. Their order is fixed, so that the same ones are
    /// kept each time.
    fn own_attributes(
        &self,
        wanted: impl Fn(&str) -> bool,
        most: usize,
    ) -> Result<Vec<(String, MessageAttributeValue)>, QueueError> {
        let mut own: Vec<_> = self.attributes.iter().filter(|(name, _)| wanted(name)).collect();
        own.sort_by_key(|(name, _)| *name);
        own.truncate(most);
        let copy = |(name, value): (&String, &SqsMessageAttribute)| {
            let data_type = value.data_type.as_deref().unwrap_or(STRING);
            let copy = MessageAttributeValue::builder()
                .data_type(data_type)
                .set_string_value(value.string_value.clone())
                .set_binary_value(value.binary_value.as_ref().map(|binary| Blob::new(binary.0.clone())));
            Ok((name.clone(), copy.build()?))
        };
        own.into_iter().map(copy).collect()
    }

    /// Its group, which standard queues deal fairly by.
    fn group_id(&self) -> Option<String> {
        self.system_attributes.get("MessageGroupId").cloned()
    }

    /// How long the message has been in its queue; nothing, where that is not known.
    pub fn age(&self, now: SystemTime) -> Duration {
        let sent = self.system_attributes.get("SentTimestamp").and_then(|sent| sent.parse().ok());
        let sent = sent.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
        sent.and_then(|sent| now.duration_since(sent).ok()).unwrap_or_default()
    }

    async fn queue_url(&self) -> Result<String, QueueError> {
        let arn = self.source_arn.as_deref().unwrap_or_default();
        queue_url(arn).await.ok_or(QueueError::Unaddressed("eventSourceARN"))
    }
}

/// Whether SQS has the message. The SDK takes any 200 for a success, also an empty one, as a proxy sends it; only SQS gives a
/// message its id.
fn taken(answer: &SendMessageOutput) -> Result<(), QueueError> {
    match answer.message_id() {
        Some(id) if !id.is_empty() => Ok(()),
        Some(_) | None => Err(QueueError::Sqs("the answer does not say that SQS has the message".to_owned())),
    }
}

/// The URL of the queue with this ARN, `arn:{partition}:sqs:{region}:{account}:{name}`. Which suffix a partition has is
/// known to the SDK, by its region.
async fn queue_url(arn: &str) -> Option<String> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", _partition, "sqs", region, account, name] = parts.as_slice() else {
        return None;
    };
    if [region, account, name].iter().any(|part| part.is_empty()) {
        return None;
    }
    let params = Params::builder().region(*region).build().ok()?;
    let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.ok()?;
    Some(format!("{}/{account}/{name}", endpoint.url()))
}

/// Ours first, then as many of the message's own as fit, by their number and by the size that the body leaves. Where it is
/// tight the error's text is shortened, then own attributes are left out, then ours but the code.
fn burial_attributes(
    record: &Record,
    note: &DeathNote<'_>,
) -> Result<HashMap<String, MessageAttributeValue>, QueueError> {
    let mut room = Room { bytes: LARGEST_MESSAGE.saturating_sub(record.body.len()), attributes: HashMap::new() };
    let [code, message, event_type, message_id] = BURIAL_ATTRIBUTES;
    if !room.take(code.to_owned(), string(attribute_text(note.code))?, 0) {
        return Err(QueueError::TooLarge);
    }
    room.take(event_type.to_owned(), string(attribute_text(note.event_type))?, 0);
    room.take(message_id.to_owned(), string(attribute_text(&record.message_id))?, 0);

    let text = attribute_text(note.message);
    let least = message.len() + STRING.len() + text.len().min(LEAST_REASON);
    // A message that was redriven carries our names from its last burial: those are replaced, not kept.
    let own = |name: &str| !BURIAL_ATTRIBUTES.contains(&name);
    for (name, value) in record.own_attributes(own, SQS_LIMIT - BURIAL_ATTRIBUTES.len())? {
        room.take(name, value, least);
    }

    let mut bytes = room.bytes.saturating_sub(message.len() + STRING.len()).min(text.len());
    while !text.is_char_boundary(bytes) {
        bytes -= 1;
    }
    if bytes > 0 {
        room.take(message.to_owned(), string(text[..bytes].to_owned())?, 0);
    }
    Ok(room.attributes)
}

/// What a message has room for beside its body.
struct Room {
    bytes: usize,
    attributes: HashMap<String, MessageAttributeValue>,
}

impl Room {
    /// Takes an attribute if `left` bytes are left after it. SQS counts name, type and value.
    fn take(&mut self, name: String, value: MessageAttributeValue, left: usize) -> bool {
        let text = value.string_value().map_or(0, str::len);
        let binary = value.binary_value().map_or(0, |binary| binary.as_ref().len());
        let size = name.len() + value.data_type().len() + text + binary;
        let fits = size + left <= self.bytes;
        if fits {
            self.bytes -= size;
            self.attributes.insert(name, value);
        }
        fits
    }
}

fn string(value: String) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder().data_type(STRING).string_value(value).build()
}

/// SQS refuses an empty attribute and one with control characters, and counts it towards the size of the message.
fn attribute_text(value: &str) -> String {
    const LONGEST: usize = 1_000;
    if value.is_empty() {
        return "-".to_owned();
    }
    let clean = |c: char| {
        if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c }
    };
    value.chars().take(LONGEST).map(clean).collect()
}

fn seconds(wait: Duration) -> i32 {
    i32::try_from(wait.as_secs()).unwrap_or(i32::MAX)
}

/// The text of a list of errors, for one log line.
pub fn joined(errors: &[QueueError]) -> String {
    quoted(&errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(attributes: &[(&str, &str)]) -> Record {
        let mut message = SqsMessage::default();
        message.message_id = Some("m-1".into());
        message.body = Some("{}".into());
        for (name, value) in attributes {
            let mut attribute = SqsMessageAttribute::default();
            attribute.string_value = Some((*value).into());
            attribute.data_type = Some("String".into());
            message.message_attributes.insert((*name).into(), attribute);
        }
        Record::try_from(message).unwrap()
    }

    #[test]
    fn a_record_takes_its_body_and_its_attributes_over_without_a_copy() {
        let mut message = SqsMessage::default();
        message.message_id = Some("m-1".into());
        message.body = Some("a body".into());
        message.attributes.insert("AWSTraceHeader".into(), "Root=1".into());
        let before = (message.body.as_deref().map(str::as_ptr), message.attributes["AWSTraceHeader"].as_ptr());
        let record = Record::try_from(message).unwrap();
        assert_eq!((Some(record.body.as_ptr()), record.system_attributes["AWSTraceHeader"].as_ptr()), before);
    }

    const NOTE: DeathNote<'static> = DeathNote { code: "malformed_body", message: "why", event_type: "t" };

    #[tokio::test]
    async fn the_queue_url_follows_from_the_source_arn_in_the_suffix_of_its_partition() {
        for (partition, region, suffix) in [
            ("aws", "eu-west-1", "amazonaws.com"),
            ("aws", "us-east-1", "amazonaws.com"),
            ("aws-cn", "cn-north-1", "amazonaws.com.cn"),
            ("aws-us-gov", "us-gov-west-1", "amazonaws.com"),
            ("aws-eusc", "eusc-de-east-1", "amazonaws.eu"),
            ("aws-iso", "us-iso-east-1", "c2s.ic.gov"),
            ("aws-iso-b", "us-isob-east-1", "sc2s.sgov.gov"),
            ("aws-iso-e", "eu-isoe-west-1", "cloud.adc-e.uk"),
            ("aws-iso-f", "us-isof-south-1", "csp.hci.ic.gov"),
        ] {
            let url = queue_url(&format!("arn:{partition}:sqs:{region}:123456789012:payment-failed")).await;
            assert_eq!(url, Some(format!("https://sqs.{region}.{suffix}/123456789012/payment-failed")));
        }
        for arn in ["arn:aws:sns:eu-west-1:123456789012:topic", "arn:aws:sqs:eu-west-1::q", ""] {
            assert_eq!(queue_url(arn).await, None, "{arn}");
        }
    }

    #[test]
    fn a_message_without_an_id_is_no_record() {
        assert_eq!(Record::try_from(SqsMessage::default()).unwrap_err(), MissingMessageId);
        let mut blank = SqsMessage::default();
        blank.message_id = Some(" ".into());
        assert_eq!(Record::try_from(blank).unwrap_err(), MissingMessageId);
    }

    #[test]
    fn the_reason_comes_first_and_own_attributes_fill_up_to_ten() {
        let own: Vec<(String, String)> = (0..12).map(|n| (format!("own-{n:02}"), "v".to_owned())).collect();
        let own: Vec<(&str, &str)> = own.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let attributes = burial_attributes(&record(&own), &NOTE).unwrap();
        assert_eq!(attributes.len(), SQS_LIMIT);
        for name in ["error_code", "error_message", "event_type", "source_message_id", "own-00", "own-05"] {
            assert!(attributes.contains_key(name), "{name} is missing");
        }
    }

    fn size(record: &Record, attributes: &HashMap<String, MessageAttributeValue>) -> usize {
        let size = |(name, value): (&String, &MessageAttributeValue)| {
            name.len() + value.data_type().len() + value.string_value().map_or(0, str::len)
        };
        record.body.len() + attributes.iter().map(size).sum::<usize>()
    }

    #[test]
    fn a_large_message_is_buried_with_what_of_its_reason_fits() {
        let text = "é".repeat(1_000);
        let note = DeathNote { message: &text, ..NOTE };
        let mut record = record(&[("own", &"v".repeat(400)), ("small", "v")]);
        let mut buried = |left: usize| {
            record.body = "x".repeat(LARGEST_MESSAGE - left);
            let attributes = burial_attributes(&record, &note).unwrap();
            assert!(size(&record, &attributes) <= LARGEST_MESSAGE, "{left} bytes were left");
            let message = attributes.get("error_message").map_or(0, |value| value.string_value().unwrap().len());
            let mut names: Vec<String> = attributes.into_keys().collect();
            names.sort();
            (names.join(" "), message)
        };
        assert_eq!(buried(4_000), ("error_code error_message event_type own small source_message_id".into(), 2_000));
        let (names, message) = buried(1_000);
        assert_eq!(names, "error_code error_message event_type own small source_message_id");
        assert!((LEAST_REASON..2_000).contains(&message), "the text is shortened first: {message}");
        assert_eq!(buried(300).0, "error_code error_message event_type small source_message_id");
        assert_eq!(buried(200).0, "error_code error_message event_type source_message_id");
        assert_eq!(buried(80).0, "error_code event_type source_message_id");
        assert_eq!(buried(31).0, "error_code");
    }

    #[test]
    fn a_body_that_leaves_no_room_for_a_code_is_not_buried() {
        let mut record = record(&[]);
        for left in [0, 29] {
            record.body = "x".repeat(LARGEST_MESSAGE - left);
            assert!(matches!(burial_attributes(&record, &NOTE), Err(QueueError::TooLarge)), "{left} bytes were left");
        }
    }

    #[test]
    fn a_redriven_message_gets_its_new_reason_in_place_of_the_old_one() {
        let attributes = burial_attributes(&record(&[("error_code", "old")]), &NOTE).unwrap();
        assert_eq!(attributes["error_code"].string_value(), Some("malformed_body"));
    }

    #[test]
    fn an_attribute_is_never_empty_and_never_holds_what_sqs_refuses() {
        assert_eq!(attribute_text(""), "-");
        assert_eq!(attribute_text("a\u{0}b"), "a\u{fffd}b");
        assert_eq!(attribute_text(&"x".repeat(2_000)).len(), 1_000);
    }
}
