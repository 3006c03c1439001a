//! The calls to SQS: find the queues, read the letters without taking them away, send one back.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_sqs::{
    Client,
    operation::{get_queue_url::GetQueueUrlError, receive_message::ReceiveMessageError},
    types::{
        ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeName, MessageSystemAttributeNameForSends,
        MessageSystemAttributeValue, QueueAttributeName,
    },
};
use futures_util::{StreamExt, stream};
use shared::failure::chain;

use super::{
    Letter, RedriveError,
    error::{failed, reason},
};

/// How long a letter is hidden at first while it is in hand. It is also how long one stays hidden when this program is
/// killed, unless the reading took longer and had to hide the letters for longer.
pub const HIDDEN_FOR: Duration = Duration::from_secs(60);

/// The reading hides no letter longer than this. A queue that takes longer to read is not read to its end.
const HIDDEN_FOR_AT_MOST: Duration = Duration::from_secs(60 * 60);

/// SQS asks all its servers in a long poll, so that an empty answer means something.
const LONG_POLL_SECONDS: i32 = 1;

/// The reading ends after this many empty answers in a row.
const EMPTY_ANSWERS: usize = 2;

/// What SQS gives out and takes in one call.
const PER_CALL: usize = 10;

/// Letters on their way back at a time.
const CONCURRENCY: usize = 10;

/// How many messages a queue says it has. SQS calls the numbers approximate: they may lag by a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Those that a reader would get.
    pub visible: u64,
    /// Those that another reader holds.
    pub hidden: u64,
}

/// What a reading brought.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The letters in hand, oldest first.
    pub letters: Vec<Letter>,
    /// Why there may be more, where the reading had to end before the queue gave out nothing more.
    pub cut_short: Option<String>,
    /// How long letters stay hidden that nobody gives back.
    pub hidden_for: Duration,
}

/// What became of one letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the source queue, and no longer here.
    Moved,
    /// It is in the source queue, and a copy is still here.
    CopyStays(String),
    /// It is still here. If SQS gave no answer it may be in the source queue too, where it ends as any copy does.
    Refused(String),
}

/// A dead-letter queue.
#[derive(Clone, Debug)]
pub struct DeadLetterQueue {
    client: Client,
    url: String,
}

impl DeadLetterQueue {
    /// The queue at this URL.
    pub fn at(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }

    /// The dead-letter queue of a function, such as `payment-approved`, in a stack, by the name that the template gives.
    ///
    /// # Errors
    /// When there is none.
    pub async fn of_stack(client: Client, stack: &str, function: &str) -> Result<Self, RedriveError> {
        let url = named(&client, format!("{stack}-{function}-dlq")).await?;
        Ok(Self { client, url })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The function's own queue in a stack, by the name that the template gives.
    ///
    /// # Errors
    /// When there is none.
    pub async fn source_of_stack(&self, stack: &str, function: &str) -> Result<String, RedriveError> {
        named(&self.client, format!("{stack}-{function}")).await
    }

    /// The URL of the queue whose dead letters come here.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub async fn source(&self) -> Result<String, RedriveError> {
        let answer = self.client.list_dead_letter_source_queues().queue_url(&self.url).send().await;
        let action = format!("ask whose dead-letter queue {} is", self.url);
        let answer = answer.map_err(|error| RedriveError::SourceUnknown(Box::new(failed(action, &error))))?;
        let mut sources = answer.queue_urls;
        match (sources.pop(), sources.is_empty()) {
            (None, _) => Err(RedriveError::NoSource(self.url.clone())),
            (Some(source), true) => Ok(source),
            (Some(source), false) => {
                sources.push(source);
                Err(RedriveError::Sources { url: self.url.clone(), sources })
            }
        }
    }

    /// How many messages it says it has.
    ///
    /// # Errors
    /// When there is no such queue, or no access.
    pub async fn counts(&self) -> Result<Counts, RedriveError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let call = self.client.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(names.to_vec()));
        let action = format!("ask {} how many messages it holds", self.url);
        let attributes = call.send().await.map_err(|error| failed(action, &error))?.attributes.unwrap_or_default();
        let [visible, hidden] =
            names.map(|name| attributes.get(&name).and_then(|count| count.parse().ok()).unwrap_or_default());
        Ok(Counts { visible, hidden })
    }

    /// Takes every letter in hand. Each is then hidden until it is given back or moved, or until the time of
    /// [`Reading::hidden_for`] has passed.
    ///
    /// The queue has given out everything when it gives out nothing: what is in hand is hidden. A letter that comes a second
    /// time shows that the reading takes longer than the hiding, and then the time is doubled, so that what was seen
    /// leaves room for what was not.
    ///
    /// # Errors
    /// When a call fails; what was in hand is given back.
    pub async fn read(&self) -> Result<Reading, RedriveError> {
        // Each with the time that it was hidden for when it came last.
        let mut letters: BTreeMap<String, (Letter, Duration)> = BTreeMap::new();
        let (mut empty, mut hidden_for, mut cut_short) = (0, HIDDEN_FOR, None);
        while empty < EMPTY_ANSWERS && cut_short.is_none() {
            let call = self
                .client
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(PER_CALL as i32)
                .wait_time_seconds(LONG_POLL_SECONDS)
                .visibility_timeout(seconds(hidden_for))
                .message_attribute_names("All")
                .message_system_attribute_names(MessageSystemAttributeName::All);
            let received = match call.send().await {
                Ok(answer) => answer.messages.unwrap_or_default(),
                // SQS gives out no more than 120,000 at a time.
                Err(error) if error.as_service_error().is_some_and(ReceiveMessageError::is_over_limit) => {
                    cut_short = Some("SQS gives out no more at a time".to_owned());
                    break;
                }
                Err(error) => {
                    // If that fails too, they stay hidden for a while, which is the smaller trouble now.
                    let in_hand: Vec<&Letter> = letters.values().map(|(letter, _)| letter).collect();
                    drop(self.give_back(&in_hand).await);
                    return Err(failed(format!("receive from {}", self.url), &error));
                }
            };
            empty = if received.is_empty() { empty + 1 } else { 0 };
            let mut too_short = false;
            for letter in received.into_iter().filter_map(Letter::read) {
                // A letter that comes a second time has only its new receipt. Many may come that were hidden before the time
                // was doubled; they say nothing of the new time.
                let before = letters.insert(letter.id.clone(), (letter, hidden_for));
                too_short |= before.is_some_and(|(_, hidden)| hidden == hidden_for);
            }
            if too_short && hidden_for == HIDDEN_FOR_AT_MOST {
                let minutes = HIDDEN_FOR_AT_MOST.as_secs() / 60;
                cut_short = Some(format!("it could not be read within {minutes} minutes"));
            } else if too_short {
                hidden_for = (hidden_for * 2).min(HIDDEN_FOR_AT_MOST);
            }
        }
        let mut letters: Vec<Letter> = letters.into_values().map(|(letter, _)| letter).collect();
        letters.sort_by_key(|letter| letter.sent);
        Ok(Reading { letters, cut_short, hidden_for })
    }

    /// Makes letters visible again at once.
    ///
    /// # Errors
    /// How many could not be, and why the first of them; they become visible when their time has passed.
    pub async fn give_back(&self, letters: &[&Letter]) -> Result<(), (usize, String)> {
        let mut faults = Vec::new();
        for group in letters.chunks(PER_CALL) {
            faults.extend(self.give_back_group(group).await);
        }
        match faults.first() {
            None => Ok(()),
            Some(first) => Err((faults.len(), first.clone())),
        }
    }

    /// Sends letters to the source queue, and tells of each what became of it, in the same order. A letter is deleted
    /// here only after SQS took it there, so that none is lost.
    pub async fn send(&self, letters: &[&Letter], source: &str) -> Vec<Sent> {
        stream::iter(letters).map(|letter| self.send_one(letter, source)).buffered(CONCURRENCY).collect().await
    }

    async fn send_one(&self, letter: &Letter, source: &str) -> Sent {
        let attributes = Some(letter.attributes.clone()).filter(|attributes| !attributes.is_empty());
        let mut call = self.client.send_message().queue_url(source).message_body(&letter.body);
        call = call.set_message_attributes(attributes).set_message_group_id(letter.group_id.clone());
        if let Some(header) = &letter.trace_header {
            match MessageSystemAttributeValue::builder().data_type("String").string_value(header).build() {
                Ok(value) => {
                    call = call.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, value);
                }
                Err(error) => return Sent::Refused(chain(&error)),
            }
        }
        if let Err(error) = call.send().await {
            return Sent::Refused(reason(&error));
        }
        let delete = self.client.delete_message().queue_url(&self.url).receipt_handle(&letter.receipt);
        match delete.send().await {
            Ok(_) => Sent::Moved,
            Err(error) => Sent::CopyStays(reason(&error)),
        }
    }

    /// Answers with one reason for each letter that could not be given back.
    async fn give_back_group(&self, group: &[&Letter]) -> Vec<String> {
        let mut call = self.client.change_message_visibility_batch().queue_url(&self.url);
        for (index, letter) in group.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&letter.receipt)
                .visibility_timeout(0);
            match entry.build() {
                Ok(entry) => call = call.entries(entry),
                Err(error) => return vec![chain(&error); group.len()],
            }
        }
        match call.send().await {
            // What is not in flight has become visible by itself.
            Ok(answer) => {
                let hidden = answer.failed.into_iter().filter(|entry| !entry.code.ends_with("MessageNotInflight"));
                hidden.map(|entry| entry.message.unwrap_or(entry.code)).collect()
            }
            Err(error) => vec![reason(&error); group.len()],
        }
    }
}

/// The URL of the queue with this name.
async fn named(client: &Client, name: String) -> Result<String, RedriveError> {
    let answer = client.get_queue_url().queue_name(&name).send().await;
    match answer {
        Ok(answer) => answer.queue_url.ok_or(RedriveError::NoQueue(name)),
        Err(error) if error.as_service_error().is_some_and(GetQueueUrlError::is_queue_does_not_exist) => {
            Err(RedriveError::NoQueue(name))
        }
        Err(error) => Err(failed(format!("look for the queue {name}"), &error)),
    }
}

fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}
