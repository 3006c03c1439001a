//! One message of a dead-letter queue: how it came there, why, and what it was before.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use serde_json::Value;
use shared::trigger::sqs::dead_letter::{REASON_ATTRIBUTES, leaves_room_for_a_reason};

use crate::terminal::{cut, harmless};

/// The code of a message that SQS moved by its receive count. SQS gives no reason, so this one is ours.
pub const MAX_RECEIVE_COUNT: &str = "max_receive_count";

/// The code of a message that came in none of the known ways.
pub const NO_REASON: &str = "no_reason";

/// What people are shown of a code and of a reason, in characters. Those of Holdfast are shorter, but anybody may have sent
/// the message.
const LONGEST_CODE: usize = 100;
const LONGEST_REASON: usize = 2_000;

/// What the id of a reservation is called in a body, that of a booking, and that of a place in a line.
const RESERVATION: &[&str] = &["reservation_id", "reservationId"];
const BOOKING: &[&str] = &["booking_id", "bookingId"];
const PLACE: &[&str] = &["queue_item_id"];

/// What a function attaches to a message that it dead-letters.
pub const REASON: Stamp = Stamp { always: &REASON_ATTRIBUTES, sometimes: &[] };

/// What it attaches at least, beside a body that is almost as large as SQS takes one.
const REASON_OF_A_LARGE_BODY: Stamp = Stamp { always: &["error_code"], sometimes: &REASON_ATTRIBUTES };

/// What EventBridge attaches to an event that it could not deliver to a rule's target:
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html>.
pub const UNDELIVERED: Stamp = Stamp {
    always: &["RULE_ARN", "TARGET_ARN", "ERROR_CODE"],
    sometimes: &["ERROR_MESSAGE", "EXHAUSTED_RETRY_CONDITION", "RETRY_ATTEMPTS"],
};

/// How a message came into the dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The function sent it, with its reason.
    Function,
    /// SQS moved it, because it was received too often.
    Queue,
    /// EventBridge sent it, because it could not deliver it to the queue before this one.
    EventBridge,
    /// Something else sent it, such as a person.
    Unknown,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Function => "function",
            Self::Queue => "queue",
            Self::EventBridge => "EventBridge",
            Self::Unknown => "unknown",
        })
    }
}

/// A message of a dead-letter queue, in hand.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The message's id in the dead-letter queue.
    pub id: String,
    /// The id in the queue before, and so in the function's log, when it is another.
    pub source_id: Option<String>,
    /// How it came here.
    pub origin: Origin,
    /// Why, as a stable name.
    pub code: String,
    /// Why, for people.
    pub why: String,
    /// The reservation that the body names, else the booking, else the place in a line; if it can be read.
    pub about: Option<String>,
    /// When it was sent; what SQS moved keeps the time of its first queue.
    pub sent: Option<SystemTime>,
    /// What deletes it, or makes it visible again.
    pub(super) receipt: String,
    /// The body, which goes back byte for byte.
    pub(super) body: String,
    /// The producer's attributes, without what the function or EventBridge added.
    pub(super) attributes: HashMap<String, MessageAttributeValue>,
    /// The X-Ray header, the one system attribute that a sender can set.
    pub(super) trace_header: Option<String>,
    /// The group by which SQS deals fairly, if the producer gave one.
    pub(super) group_id: Option<String>,
}

impl Letter {
    /// Reads what SQS gave out. None for an answer without id, receipt or body, which SQS never gives.
    pub fn read(message: Message) -> Option<Self> {
        let system = message.attributes.unwrap_or_default();
        let mut attributes = message.message_attributes.unwrap_or_default();
        let (id, body) = (message.message_id?, message.body?);
        let dead_letter = if leaves_room_for_a_reason(&body) { REASON } else { REASON_OF_A_LARGE_BODY };
        let (dead_letter, undelivered) = (dead_letter.take_off(&mut attributes), UNDELIVERED.take_off(&mut attributes));
        let source_id = dead_letter.as_ref().and_then(|dead_letter| dead_letter.get("source_message_id")).cloned();
        // The move by SQS is the last thing that happened to a message that it moved: an older reason on it is history.
        let moved = system.contains_key(&MessageSystemAttributeName::DeadLetterQueueSourceArn);
        let (origin, code, why) = match (moved, &dead_letter, &undelivered) {
            (true, ..) => (Origin::Queue, MAX_RECEIVE_COUNT.to_owned(), why_moved(dead_letter.as_ref())),
            (false, Some(dead_letter), _) => {
                (Origin::Function, of(dead_letter, "error_code"), of(dead_letter, "error_message"))
            }
            (false, None, Some(notes)) => (Origin::EventBridge, of(notes, "ERROR_CODE"), why_undelivered(notes)),
            (false, None, None) => (Origin::Unknown, NO_REASON.to_owned(), "nothing on it says who sent it".to_owned()),
        };
        Some(Self {
            about: about(&body),
            sent: system.get(&MessageSystemAttributeName::SentTimestamp).and_then(|sent| epoch_ms(sent)),
            trace_header: system.get(&MessageSystemAttributeName::AwsTraceHeader).cloned(),
            group_id: system.get(&MessageSystemAttributeName::MessageGroupId).cloned(),
            receipt: message.receipt_handle?,
            source_id: source_id.filter(|source| *source != id),
            code: harmless(&cut(&code, LONGEST_CODE)).into_owned(),
            why: harmless(&cut(&why, LONGEST_REASON)).into_owned(),
            id,
            origin,
            body,
            attributes,
        })
    }

    /// Whether the message goes, or went, by this id.
    pub fn is_called(&self, id: &str) -> bool {
        self.id == id || self.source_id.as_deref() == Some(id)
    }
}

/// The attributes that one sender adds. They are its own only where all that it always adds are there; a producer may
/// well use one of the names for itself.
pub struct Stamp {
    always: &'static [&'static str],
    sometimes: &'static [&'static str],
}

impl Stamp {
    /// The names to take off a message; none where a part that is always there is missing.
    pub fn names_on(&self, has: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
        let complete = self.always.iter().all(|name| has(name));
        self.always.iter().chain(self.sometimes).copied().filter(move |_| complete)
    }

    /// Takes the stamp off and answers with its texts; None, and nothing taken off, where it is not there.
    fn take_off(&self, attributes: &mut HashMap<String, MessageAttributeValue>) -> Option<HashMap<String, String>> {
        let names: Vec<&str> = self.names_on(|name| attributes.contains_key(name)).collect();
        let taken = names.iter().filter_map(|name| {
            let value = attributes.remove(*name)?;
            Some(((*name).to_owned(), value.string_value.unwrap_or_default()))
        });
        (!names.is_empty()).then(|| taken.collect())
    }
}

fn of(texts: &HashMap<String, String>, name: &str) -> String {
    texts.get(name).cloned().unwrap_or_default()
}

fn why_moved(dead_letter: Option<&HashMap<String, String>>) -> String {
    let moved = "SQS moved it after too many receives, and the function said nothing; look in its log for this id, for \
                 time-outs and for failed starts";
    match dead_letter {
        Some(dead_letter) => {
            format!(
                "{moved} (an earlier dead letter said {}: {})",
                of(dead_letter, "error_code"),
                of(dead_letter, "error_message")
            )
        }
        None => moved.to_owned(),
    }
}

fn why_undelivered(notes: &HashMap<String, String>) -> String {
    let rule_arn = of(notes, "RULE_ARN");
    let rule = rule_arn.split_once(":rule/").map_or(rule_arn.as_str(), |(_, rule)| rule);
    let mut circumstances = vec![format!("rule {rule}")];
    circumstances.extend(notes.get("EXHAUSTED_RETRY_CONDITION").cloned());
    circumstances.extend(notes.get("RETRY_ATTEMPTS").map(|attempts| format!("{attempts} retries")));
    format!("{} ({})", of(notes, "ERROR_MESSAGE"), circumstances.join(", ")).trim_start().to_owned()
}

/// What a body is about: the reservation that it names, else the booking, else the place in a line. It may have any of the
/// forms that the functions take. Their own parsers do not serve here: they answer only for what is valid in every field, and
/// what is dead often is not.
pub fn about(body: &str) -> Option<String> {
    let envelope: Value = serde_json::from_str(body).ok()?;
    [RESERVATION, BOOKING, PLACE].into_iter().find_map(|names| id_under(names, &envelope))
}

/// The reservation that a body names, also where it is no valid event.
pub fn reservation_id(body: &str) -> Option<String> {
    let envelope: Value = serde_json::from_str(body).ok()?;
    id_under(RESERVATION, &envelope)
}

/// The first id that a body has under one of these names, unless it is one that nothing is called by.
fn id_under(names: &[&str], envelope: &Value) -> Option<String> {
    let scopes = [&envelope["detail"], &envelope["payload"], envelope];
    let mut ids = scopes.into_iter().flat_map(|scope| names.iter().filter_map(move |name| scope[*name].as_str()));
    let id = ids.next()?;
    let valid = (1..=256).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    valid.then(|| id.to_owned())
}

fn epoch_ms(text: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(text.parse().ok()?))
}

#[cfg(test)]
pub(super) mod tests;
