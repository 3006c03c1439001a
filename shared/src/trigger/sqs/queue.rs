//! What a worker tells SQS about one message beyond the batch response: when to deliver it again, and that it is dead.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{
    Client,
    error::BuildError,
    operation::send_message::SendMessageOutput,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeNameForSends,
        MessageSystemAttributeValue,
    },
};

use super::{
    dead_letter::{DeadLetterReason, Letter, reason_attributes},
    record::{Record, WAITING_SINCE},
};
use crate::{
    client::{aws::fault, queue},
    failure::quoted,
    start::Parts,
};

/// SQS takes ten attributes on a message, and ten entries in a batch call.
pub(super) const SQS_LIMIT: usize = 10;

/// The type of a text among the attributes.
pub(super) const STRING: &str = "String";

/// The type of a number among them.
const NUMBER: &str = "Number";

/// SQS delays no message longer.
const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// Why SQS could not be told. The record is then reported failed: it stays in its queue and nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// No dead-letter queue is configured.
    #[error("DLQ_URL is not set, so the message reaches its dead-letter queue by its receive count")]
    NoDeadLetterQueue,
    /// No queue of the function's own is configured.
    #[error("QUEUE_URL is not set, so nothing can be parked")]
    NoOwnQueue,
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

/// The queues around a worker: the one that a record came from, and its dead-letter queue.
#[derive(Debug, Clone)]
pub struct Queues {
    client: Client,
    dead_letter_url: Option<String>,
}

impl Queues {
    /// `dead_letter_url` is where [`Queues::dead_letter`] sends to; without it, it sends nothing.
    pub fn new(client: Client, dead_letter_url: Option<String>) -> Self {
        Self { client, dead_letter_url }
    }

    /// The dead-letter queue that `DLQ_URL` names, if it names one.
    pub fn configured(parts: &mut Parts<'_>) -> Self {
        let url = queue::url(&mut parts.reader, "DLQ_URL");
        Self::new(Client::new(parts.aws), url)
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
    pub async fn dead_letter(&self, record: &Record, reason: &DeadLetterReason<'_>) -> Result<(), QueueError> {
        self.bury(&record.letter()?, reason).await
    }

    /// As [`Queues::dead_letter`], for what came from elsewhere.
    ///
    /// # Errors
    /// SQS is not known to have it.
    pub(in crate::trigger) async fn bury(
        &self,
        letter: &Letter<'_>,
        reason: &DeadLetterReason<'_>,
    ) -> Result<(), QueueError> {
        let url = self.dead_letter_url.as_deref().ok_or(QueueError::NoDeadLetterQueue)?;
        if letter.body.is_empty() {
            return Err(QueueError::EmptyBody);
        }
        let attributes = reason_attributes(letter, reason)?;
        let call = self
            .client
            .send_message()
            .queue_url(url)
            .message_body(letter.body)
            .set_message_group_id(letter.group_id.clone())
            .set_message_attributes(Some(attributes));
        let sent = call.send().await;
        taken(&sent.map_err(|error| QueueError::Sqs(fault(&error)))?)
    }

    /// Sends a message to the queue at `url`, to be delivered after `delay` (a quarter of an hour at most).
    ///
    /// # Errors
    /// SQS is not known to have it.
    pub(in crate::trigger) async fn send(
        &self,
        url: &str,
        letter: &Letter<'_>,
        delay: Duration,
    ) -> Result<(), QueueError> {
        let call = self
            .client
            .send_message()
            .queue_url(url)
            .message_body(letter.body)
            .delay_seconds(seconds(delay.min(LONGEST_DELAY)))
            .set_message_group_id(letter.group_id.clone())
            .set_message_attributes(Some(letter.attributes.iter().cloned().collect()));
        let sent = call.send().await;
        taken(&sent.map_err(|error| QueueError::Sqs(fault(&error)))?)
    }

    /// Sends the message, byte for byte and with its own attributes, to its own queue once more, to be delivered after `delay`
    /// (a quarter of an hour at most). Its receives and its age then count anew; an attribute of ours says since when it waits,
    /// and takes the place of the last of ten. The record may be acknowledged.
    ///
    /// # Errors
    /// The record must then be reported failed.
    pub async fn send_anew(&self, record: &Record, delay: Duration) -> Result<(), QueueError> {
        let mut attributes: HashMap<String, MessageAttributeValue> = record
            .own_attributes()?
            .into_iter()
            .filter(|(name, _)| name != WAITING_SINCE)
            .take(SQS_LIMIT - 1)
            .collect();
        if let Some(since) = record.waiting_since() {
            let since = MessageAttributeValue::builder().data_type(NUMBER).string_value(since.to_string()).build()?;
            attributes.insert(WAITING_SINCE.to_owned(), since);
        }
        let call = self
            .client
            .send_message()
            .queue_url(record.queue_url().await?)
            .message_body(&record.body)
            .delay_seconds(seconds(delay.min(LONGEST_DELAY)))
            .set_message_group_id(record.group_id())
            .set_message_attributes(Some(attributes));
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

/// Whether SQS has the message. The SDK takes any 200 for a success, also an empty one, as a proxy sends it; only SQS gives a
/// message its id.
fn taken(answer: &SendMessageOutput) -> Result<(), QueueError> {
    match answer.message_id() {
        Some(id) if !id.is_empty() => Ok(()),
        Some(_) | None => Err(QueueError::Sqs("the answer does not say that SQS has the message".to_owned())),
    }
}

fn seconds(wait: Duration) -> i32 {
    i32::try_from(wait.as_secs()).unwrap_or(i32::MAX)
}

/// The text of a list of errors, for one log line.
pub fn joined(errors: &[QueueError]) -> String {
    quoted(&errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")).into_owned()
}
