//! A queue that messages are sent to, each to be delivered after a while. Only the queue's own word says that it has one.

use std::time::Duration;

use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};

use super::{aws::fault, http::http_url};
use crate::{backoff::whole_seconds, config::Reader, failure::quoted, start::Parts};

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

/// The queue's URL that the variable holds, if it is set. It is noted when it is not a URL.
pub fn url(reader: &mut Reader<'_>, name: &'static str) -> Option<String> {
    let url = reader.optional(name)?;
    judge(reader, name, &url);
    Some(url)
}

fn judge(reader: &mut Reader<'_>, name: &'static str, url: &str) {
    if http_url(url).is_none() {
        reader.fault(name, "must be the queue's URL");
    }
}

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

    /// The queue that the variable names. That it is unset or no URL is noted.
    pub fn configured(parts: &mut Parts<'_>, name: &'static str) -> Self {
        let url = parts.reader.required(name);
        if !url.is_empty() {
            judge(&mut parts.reader, name, &url);
        }
        Self::new(Client::new(parts.aws), url)
    }

    /// The queue that the variable names, if it names one. That it is no URL is noted.
    pub fn if_configured(parts: &mut Parts<'_>, name: &'static str) -> Option<Self> {
        let url = url(&mut parts.reader, name)?;
        Some(Self::new(Client::new(parts.aws), url))
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
