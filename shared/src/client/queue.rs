//! A queue that messages are sent to, each to be delivered after a while. Only the queue's own word says that it has one.

use std::time::Duration;

use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};

use super::aws::fault;
use crate::{backoff::whole_seconds, failure::quoted};

/// SQS takes ten messages in one call.
const MOST: usize = 10;

/// SQS delays no message longer.
const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delayed {
    /// Its body.
    pub body: String,
    /// Until it is delivered, in whole seconds, rounded up; a quarter of an hour at most.
    pub delay: Duration,
}

/// The message is not in the queue, or nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

/// The queue.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// The queue at this URL.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }

    /// Sends messages, in as few calls as SQS allows. The results are in their order; `Ok`: the queue has it.
    pub async fn send_all(&self, messages: &[Delayed]) -> Vec<Result<(), Unavailable>> {
        let mut results = Vec::with_capacity(messages.len());
        for group in messages.chunks(MOST) {
            match self.send_group(group).await {
                Ok(sent) => results.extend(sent),
                Err(error) => results.extend(group.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }

    async fn send_group(&self, group: &[Delayed]) -> Result<Vec<Result<(), Unavailable>>, Unavailable> {
        let mut call = self.client.send_message_batch().queue_url(&self.url);
        for (index, message) in group.iter().enumerate() {
            let seconds = whole_seconds(message.delay.min(LONGEST_DELAY));
            let entry = SendMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .message_body(&message.body)
                .delay_seconds(i32::try_from(seconds).unwrap_or(i32::MAX));
            call = call.entries(entry.build().map_err(|error| Unavailable(error.to_string()))?);
        }
        let answer = call.send().await.map_err(|error| Unavailable(fault(&error)))?;
        let result = |index: usize| {
            let id = index.to_string();
            if answer.successful().iter().any(|sent| sent.id() == id && !sent.message_id().is_empty()) {
                return Ok(());
            }
            let failed = answer.failed().iter().find(|failed| failed.id() == id);
            let code = failed.map_or("the answer does not say that SQS has the message", |failed| failed.code());
            Err(Unavailable(quoted(code).into_owned()))
        };
        Ok((0..group.len()).map(result).collect())
    }
}
