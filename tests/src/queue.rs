//! Standard SQS queues in memory, with the rules that decide what becomes of a message: visibility, receive count,
//! redrive to a dead-letter queue, and what SQS refuses to take. Each queue keeps its own clock, so that a test can skip a
//! back-off instead of sitting it out. Left out on purpose: retention, FIFO, and the limit of 120,000 messages in flight.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

mod limits;

/// SQS gives out at most this many messages per request, and takes at most this many in a batch.
pub const MAX_PER_REQUEST: usize = 10;

/// SQS refuses a message with more attributes than this.
pub const MAX_MESSAGE_ATTRIBUTES: usize = 10;

/// SQS hides a message no longer than this.
pub const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 60 * 60);

const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
const SENDER_ID: &str = "AIDAHOLDFASTLOCALSTACK";

/// A handle on one queue; clones share the messages.
#[derive(Clone, Debug)]
pub struct Queue {
    shared: Arc<Shared>,
}

/// What a queue is created with.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// How long a received message stays hidden unless the receiver says otherwise.
    pub visibility: Duration,
    /// Where messages go that were received too often; without it they come back for ever.
    pub redrive: Option<Redrive>,
}

impl Default for QueueOptions {
    /// SQS's own default: 30 seconds and no dead-letter queue.
    fn default() -> Self {
        Self { visibility: Duration::from_secs(30), redrive: None }
    }
}

/// A redrive policy.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// The dead-letter queue.
    pub queue: Queue,
    /// A message received this often moves at the next attempt to receive it, not at its last failure.
    pub max_receive_count: u32,
}

/// A message to send.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Given when a record of an `events/` file should keep its id; otherwise the queue makes one.
    pub id: Option<String>,
    /// The body, which SQS hands on byte for byte.
    pub body: String,
    /// What the sender attached, by name.
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// The X-Ray header, the only system attribute that a sender can set.
    pub trace_header: Option<String>,
    /// The group. Standard queues deal fairly among groups, and hand the name on as a system attribute.
    pub group_id: Option<String>,
    /// How long the message stays hidden before it can be received for the first time.
    pub delay: Duration,
    /// How often it counts as received already, so that a test need not fail that often first.
    pub received_before: u32,
    /// How long ago it counts as sent, so that a test need not sit that out.
    pub age: Duration,
}

impl Message {
    /// A message with nothing but a body.
    pub fn new(body: impl Into<String>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

/// A message attribute in the form that SQS's JSON protocol gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageAttribute {
    /// `String`, `Number` or `Binary`, with an optional label after a dot.
    pub data_type: String,
    /// The value of a `String` or `Number`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    /// The value of a `Binary`, kept in base64 because both the SQS and the Lambda side carry it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_value: Option<String>,
}

impl MessageAttribute {
    /// An attribute of type `String`.
    pub fn string(value: impl Into<String>) -> Self {
        Self { data_type: "String".to_owned(), string_value: Some(value.into()), binary_value: None }
    }
}

/// A message as a receiver gets it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The same for every receive of the message.
    pub id: String,
    /// New for every receive; an older one no longer moves the message.
    pub receipt: String,
    /// The body as it was sent.
    pub body: String,
    /// SQS's own attributes, such as `ApproximateReceiveCount`.
    pub system: BTreeMap<String, String>,
    /// The sender's attributes.
    pub attributes: BTreeMap<String, MessageAttribute>,
}

/// A message as it lies in the queue, for tests and for people.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The message id.
    pub id: String,
    /// The body.
    pub body: String,
    /// SQS's own attributes.
    pub system: BTreeMap<String, String>,
    /// The sender's attributes.
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// How often the message was received so far.
    pub receive_count: u32,
    /// How long until it can be received; zero when it can be received now.
    pub visible_in: Duration,
}

/// Why SQS refuses a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The body holds a character outside the set that SQS takes.
    #[error("Invalid binary character '#x{0:X}' was found in the message body.")]
    InvalidMessageContents(u32),
    /// The body is empty.
    #[error("The request must contain the parameter MessageBody.")]
    MissingBody,
    /// Some other part of the request breaks a limit.
    #[error("{0}")]
    InvalidParameterValue(String),
    /// The text is no receipt handle of any queue.
    #[error("The input receipt handle is invalid.")]
    ReceiptHandleIsInvalid,
    /// The message is visible, so there is no timeout to change.
    #[error("The message referred to isn't in flight.")]
    MessageNotInflight,
}

impl QueueError {
    /// The error's shape name in the JSON protocol, and the code that older clients and the SDK for Rust know it by.
    pub fn codes(&self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidMessageContents(_) => ("InvalidMessageContents", "InvalidMessageContents"),
            Self::MissingBody => ("MissingParameter", "MissingParameter"),
            Self::InvalidParameterValue(_) => ("InvalidParameterValue", "InvalidParameterValue"),
            Self::ReceiptHandleIsInvalid => ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"),
            Self::MessageNotInflight => ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"),
        }
    }
}

#[derive(Debug)]
struct Shared {
    name: String,
    options: QueueOptions,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    clock: Clock,
    /// In the order of arrival; the number is part of the receipt handle.
    messages: BTreeMap<u64, Stored>,
    next: u64,
    visibility_changes: Vec<(String, Duration)>,
}

/// Time since the Unix epoch that follows tokio's clock, which tests can pause, plus what was skipped.
#[derive(Debug)]
struct Clock {
    started: Instant,
    epoch: Duration,
    skipped: Duration,
}

impl Clock {
    fn now(&self) -> Duration {
        self.epoch + self.started.elapsed() + self.skipped
    }
}

#[derive(Clone, Debug)]
struct Stored {
    id: String,
    body: String,
    attributes: BTreeMap<String, MessageAttribute>,
    trace_header: Option<String>,
    group_id: Option<String>,
    source_arn: Option<String>,
    sent: Duration,
    visible_at: Duration,
    first_received: Option<Duration>,
    receive_count: u32,
    receipt: Option<String>,
}

impl Stored {
    fn system(&self) -> BTreeMap<String, String> {
        let mut system = BTreeMap::from([
            ("ApproximateReceiveCount".to_owned(), self.receive_count.to_string()),
            ("SenderId".to_owned(), SENDER_ID.to_owned()),
            ("SentTimestamp".to_owned(), self.sent.as_millis().to_string()),
        ]);
        if let Some(first) = self.first_received {
            system.insert("ApproximateFirstReceiveTimestamp".to_owned(), first.as_millis().to_string());
        }
        if let Some(header) = &self.trace_header {
            system.insert("AWSTraceHeader".to_owned(), header.clone());
        }
        if let Some(group) = &self.group_id {
            system.insert("MessageGroupId".to_owned(), group.clone());
        }
        if let Some(arn) = &self.source_arn {
            system.insert("DeadLetterQueueSourceArn".to_owned(), arn.clone());
        }
        system
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(name: impl Into<String>, options: QueueOptions) -> Self {
        let clock = Clock {
            started: Instant::now(),
            epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            skipped: Duration::ZERO,
        };
        let state = State { clock, messages: BTreeMap::new(), next: 0, visibility_changes: Vec::new() };
        Self {
            shared: Arc::new(Shared { name: name.into(), options, state: Mutex::new(state), changed: Notify::new() }),
        }
    }

    /// The queue's name, the last part of its ARN and of its URL.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The ARN, which a record carries as `eventSourceARN`.
    pub fn arn(&self) -> String {
        format!("arn:aws:sqs:us-east-1:000000000000:{}", self.shared.name)
    }

    /// The URL in AWS's form, because the worker derives it from the ARN; the endpoint override makes it local.
    pub fn url(&self) -> String {
        format!("https://sqs.us-east-1.amazonaws.com/000000000000/{}", self.shared.name)
    }

    /// What the queue was created with.
    pub fn options(&self) -> &QueueOptions {
        &self.shared.options
    }

    /// Takes a message under SQS's limits and answers with its id.
    pub fn send(&self, message: Message) -> Result<String, QueueError> {
        limits::check_message(&message)?;
        let id = message.id.unwrap_or_else(|| Uuid::new_v4().to_string());
        let mut state = self.lock();
        let now = state.clock.now();
        let stored = Stored {
            id: id.clone(),
            body: message.body,
            attributes: message.attributes,
            trace_header: message.trace_header,
            group_id: message.group_id,
            source_arn: None,
            sent: now.saturating_sub(message.age),
            visible_at: now + message.delay,
            first_received: None,
            receive_count: message.received_before,
            receipt: None,
        };
        push(&mut state, stored);
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(id)
    }

    /// Receives up to `max` visible messages, never more than SQS gives out at once, and hides them for the queue's
    /// visibility timeout.
    pub fn receive(&self, max: usize) -> Vec<Received> {
        self.receive_for(max, self.shared.options.visibility)
    }

    /// As [`Queue::receive`], with a timeout of the receiver's choice.
    pub fn receive_for(&self, max: usize, visibility: Duration) -> Vec<Received> {
        let mut state = self.lock();
        let now = state.clock.now();
        let limit = self.shared.options.redrive.as_ref().map_or(u32::MAX, |redrive| redrive.max_receive_count);
        let (mut received, mut worn_out) = (Vec::new(), Vec::new());
        for (number, message) in &mut state.messages {
            if received.len() == max.min(MAX_PER_REQUEST) {
                break;
            }
            if message.visible_at > now {
                continue;
            }
            if message.receive_count >= limit {
                worn_out.push(*number);
                continue;
            }
            let receipt = new_receipt(*number);
            message.receive_count += 1;
            message.first_received.get_or_insert(now);
            message.visible_at = now + visibility;
            message.receipt = Some(receipt.clone());
            received.push(Received {
                id: message.id.clone(),
                receipt,
                body: message.body.clone(),
                system: message.system(),
                attributes: message.attributes.clone(),
            });
        }
        let moved: Vec<Stored> = worn_out.iter().filter_map(|number| state.messages.remove(number)).collect();
        drop(state); // Two queues may name each other, so only one of them is ever locked.
        if let Some(redrive) = self.shared.options.redrive.as_ref().filter(|_| !moved.is_empty()) {
            redrive.queue.adopt(moved, &self.arn());
        }
        received
    }

    /// Deletes the message of this receive. As on SQS, a handle from an earlier receive is taken and does nothing.
    pub fn delete(&self, receipt: &str) -> Result<(), QueueError> {
        let number = receipt_number(receipt)?;
        let mut state = self.lock();
        if state.messages.get(&number).is_some_and(|message| message.receipt.as_deref() == Some(receipt)) {
            state.messages.remove(&number);
        }
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Hides the message of this receive for `timeout` from now; zero makes it visible at once.
    pub fn change_visibility(&self, receipt: &str, timeout: Duration) -> Result<(), QueueError> {
        let number = receipt_number(receipt)?;
        if timeout > MAX_VISIBILITY {
            return Err(QueueError::InvalidParameterValue(format!(
                "Value {} for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200.",
                timeout.as_secs()
            )));
        }
        let mut state = self.lock();
        let now = state.clock.now();
        let message = state.messages.get_mut(&number).filter(|message| message.receipt.as_deref() == Some(receipt));
        let Some(message) = message else {
            return Err(QueueError::InvalidParameterValue(format!(
                "Value {receipt} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not \
                 available for visibility timeout change."
            )));
        };
        if message.visible_at <= now {
            return Err(QueueError::MessageNotInflight);
        }
        let total = (now + timeout).saturating_sub(message.first_received.unwrap_or(now));
        if total > MAX_VISIBILITY {
            return Err(QueueError::InvalidParameterValue(format!(
                "Value {} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is \
                 beyond the limit [43200 seconds].",
                timeout.as_secs()
            )));
        }
        message.visible_at = now + timeout;
        let id = message.id.clone();
        state.visibility_changes.push((id, timeout));
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Every message, hidden ones too, in the order of arrival.
    pub fn messages(&self) -> Vec<Snapshot> {
        let state = self.lock();
        let now = state.clock.now();
        let snapshot = |message: &Stored| Snapshot {
            id: message.id.clone(),
            body: message.body.clone(),
            system: message.system(),
            attributes: message.attributes.clone(),
            receive_count: message.receive_count,
            visible_in: message.visible_at.saturating_sub(now),
        };
        state.messages.values().map(snapshot).collect()
    }

    /// How many messages there are, hidden ones too.
    pub fn len(&self) -> usize {
        self.lock().messages.len()
    }

    /// Whether every message was deleted or moved away.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each change of a message's visibility so far: the back-offs that a function chose.
    pub fn visibility_changes(&self) -> Vec<(String, Duration)> {
        self.lock().visibility_changes.clone()
    }

    /// Waits until a message can be received. Another receiver may still be faster.
    pub async fn arrived(&self) {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable(); // From here on a change is not missed.
            match self.next_visible_in() {
                Some(Duration::ZERO) => return,
                Some(wait) => drop(tokio::time::timeout(wait, changed).await),
                None => changed.await,
            }
        }
    }

    /// Waits until every message was deleted or moved away.
    pub async fn emptied(&self) {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if self.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// How long until the next message can be received; nothing when the queue is empty.
    pub fn next_visible_in(&self) -> Option<Duration> {
        let state = self.lock();
        let now = state.clock.now();
        state.messages.values().map(|message| message.visible_at.saturating_sub(now)).min()
    }

    /// Moves this queue's clock forward, so that nobody has to sit out a back-off. A message in flight whose timeout ends
    /// on the way becomes visible, exactly as if the time had passed.
    pub fn elapse(&self, time: Duration) {
        self.lock().clock.skipped += time;
        self.shared.changed.notify_waiters();
    }

    /// Changes the bodies of what waits or is in flight, each where `change` has another one for it: so that what they say of
    /// the time becomes as old as a test has it.
    pub fn amend(&self, change: impl Fn(&str) -> Option<String>) {
        for message in self.lock().messages.values_mut() {
            if let Some(body) = change(&message.body) {
                message.body = body;
            }
        }
    }

    /// Moves the clock to where the next message becomes visible; false when there is none.
    pub fn skip_wait(&self) -> bool {
        let wait = self.next_visible_in();
        if let Some(wait) = wait {
            self.elapse(wait);
        }
        wait.is_some()
    }

    /// Takes messages in from a queue whose redrive policy names this one. They keep id, time and receive count.
    fn adopt(&self, messages: Vec<Stored>, source_arn: &str) {
        let mut state = self.lock();
        let now = state.clock.now();
        for message in messages {
            let source_arn = Some(source_arn.to_owned());
            push(&mut state, Stored { source_arn, visible_at: now, receipt: None, ..message });
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push(state: &mut State, message: Stored) {
    state.messages.insert(state.next, message);
    state.next += 1;
}

/// Clients must not read a handle, so its form is free: SQS's usual prefix, the message's number, a random part.
fn new_receipt(number: u64) -> String {
    format!("AQEB{number:016x}{}", Uuid::new_v4().simple())
}

fn receipt_number(receipt: &str) -> Result<u64, QueueError> {
    let number = receipt.strip_prefix("AQEB").and_then(|rest| rest.get(..16));
    number.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or(QueueError::ReceiptHandleIsInvalid)
}

#[cfg(test)]
mod tests;
