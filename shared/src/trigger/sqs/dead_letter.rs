//! Why a message lies in a dead-letter queue, as the attributes that it carries there.

use std::{borrow::Cow, collections::HashMap};

use aws_sdk_sqs::{error::BuildError, types::MessageAttributeValue};

use super::queue::{QueueError, SQS_LIMIT, STRING};

/// Body and attributes of a message may have 1 MiB together.
const LARGEST_MESSAGE: usize = 1024 * 1024;

/// The part of an error's text that has precedence over the message's own attributes.
const LEAST_REASON: usize = 100;

/// The attributes that tell a dead-lettered message from others: those of its [`DeadLetterReason`], and the id that it had
/// before.
pub const REASON_ATTRIBUTES: [&str; 4] = ["error_code", "error_message", "event_type", "source_message_id"];

/// A body that is no longer leaves so much of SQS's 1 MiB that all attributes of the reason fit, whatever they say.
pub const LARGEST_BODY: usize = LARGEST_MESSAGE - 8 * 1024;

/// Whether a body is no longer than [`LARGEST_BODY`].
pub fn leaves_room_for_a_reason(body: &str) -> bool {
    body.len() <= LARGEST_BODY
}

/// Whether SQS takes the text as a body: the characters of XML 1.0.
pub fn is_text_for_sqs(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..))
}

/// Why a message lies in a dead-letter queue; it travels there as message attributes.
#[derive(Debug)]
pub struct DeadLetterReason<'a> {
    /// `error_code`: a stable name.
    pub code: &'a str,
    /// `error_message`: what happened, for people.
    pub message: &'a str,
    /// `event_type`: the function that gave up.
    pub event_type: &'a str,
}

/// A message on its way into another queue.
#[derive(Debug)]
pub(in crate::trigger) struct Letter<'a> {
    /// Its body. SQS takes no empty one.
    pub(in crate::trigger) body: &'a str,
    /// What it was called where it came from.
    pub(in crate::trigger) message_id: Cow<'a, str>,
    /// Its group, which standard queues deal fairly by.
    pub(in crate::trigger) group_id: Option<String>,
    /// Its own attributes, in the order in which they are kept where not all of them fit.
    pub(in crate::trigger) attributes: Vec<(String, MessageAttributeValue)>,
}

/// Ours first, then as many of the message's own as fit, by their number and by the size that the body leaves. Where it is
/// tight the error's text is shortened, then own attributes are left out, then ours but the code.
pub(super) fn reason_attributes(
    letter: &Letter<'_>,
    reason: &DeadLetterReason<'_>,
) -> Result<HashMap<String, MessageAttributeValue>, QueueError> {
    let mut room = Room { bytes: LARGEST_MESSAGE.saturating_sub(letter.body.len()), attributes: HashMap::new() };
    let [code, message, event_type, message_id] = REASON_ATTRIBUTES;
    if !room.take(code.to_owned(), string(reason.code)?, 0) {
        return Err(QueueError::TooLarge);
    }
    room.take(event_type.to_owned(), string(reason.event_type)?, 0);
    room.take(message_id.to_owned(), string(&letter.message_id)?, 0);

    let text = attribute_text(reason.message);
    let least = message.len() + STRING.len() + text.len().min(LEAST_REASON);
    // A message that was redriven carries our names from the last time: those are replaced, not kept.
    let own = letter.attributes.iter().filter(|(name, _)| !REASON_ATTRIBUTES.contains(&name.as_str()));
    for (name, value) in own.take(SQS_LIMIT - REASON_ATTRIBUTES.len()) {
        room.take(name.clone(), value.clone(), least);
    }

    let mut bytes = room.bytes.saturating_sub(message.len() + STRING.len()).min(text.len());
    while !text.is_char_boundary(bytes) {
        bytes -= 1;
    }
    if bytes > 0 {
        room.take(message.to_owned(), string(&text[..bytes])?, 0);
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

/// A text as an attribute, in the form that SQS takes.
pub(in crate::trigger) fn string(value: &str) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder().data_type(STRING).string_value(attribute_text(value)).build()
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

#[cfg(test)]
mod tests {
    use aws_lambda_events::sqs::{SqsMessage, SqsMessageAttribute};

    use super::*;
    use crate::trigger::sqs::Record;

    const REASON: DeadLetterReason<'static> =
        DeadLetterReason { code: "malformed_body", message: "why", event_type: "t" };

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
    fn the_reason_comes_first_and_own_attributes_fill_up_to_ten() {
        let own: Vec<(String, String)> = (0..12).map(|n| (format!("own-{n:02}"), "v".to_owned())).collect();
        let own: Vec<(&str, &str)> = own.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let attributes = reason_attributes(&record(&own).letter().unwrap(), &REASON).unwrap();
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
    fn a_large_message_is_dead_lettered_with_what_of_its_reason_fits() {
        let text = "é".repeat(1_000);
        let reason = DeadLetterReason { message: &text, ..REASON };
        let mut record = record(&[("own", &"v".repeat(400)), ("small", "v")]);
        let mut sent = |left: usize| {
            record.body = "x".repeat(LARGEST_MESSAGE - left);
            let attributes = reason_attributes(&record.letter().unwrap(), &reason).unwrap();
            assert!(size(&record, &attributes) <= LARGEST_MESSAGE, "{left} bytes were left");
            let message = attributes.get("error_message").map_or(0, |value| value.string_value().unwrap().len());
            let mut names: Vec<String> = attributes.into_keys().collect();
            names.sort();
            (names.join(" "), message)
        };
        assert_eq!(sent(4_000), ("error_code error_message event_type own small source_message_id".into(), 2_000));
        let (names, message) = sent(1_000);
        assert_eq!(names, "error_code error_message event_type own small source_message_id");
        assert!((LEAST_REASON..2_000).contains(&message), "the text is shortened first: {message}");
        assert_eq!(sent(300).0, "error_code error_message event_type small source_message_id");
        assert_eq!(sent(200).0, "error_code error_message event_type source_message_id");
        assert_eq!(sent(80).0, "error_code event_type source_message_id");
        assert_eq!(sent(31).0, "error_code");
    }

    #[test]
    fn a_body_that_leaves_no_room_for_a_code_is_not_sent() {
        let mut record = record(&[]);
        for left in [0, 29] {
            record.body = "x".repeat(LARGEST_MESSAGE - left);
            assert!(
                matches!(reason_attributes(&record.letter().unwrap(), &REASON), Err(QueueError::TooLarge)),
                "{left} bytes were left"
            );
        }
    }

    #[test]
    fn a_redriven_message_gets_its_new_reason_in_place_of_the_old_one() {
        let attributes = reason_attributes(&record(&[("error_code", "old")]).letter().unwrap(), &REASON).unwrap();
        assert_eq!(attributes["error_code"].string_value(), Some("malformed_body"));
    }

    #[test]
    fn an_attribute_is_never_empty_and_never_holds_what_sqs_refuses() {
        assert_eq!(attribute_text(""), "-");
        assert_eq!(attribute_text("a\u{0}b"), "a\u{fffd}b");
        assert_eq!(attribute_text(&"x".repeat(2_000)).len(), 1_000);
    }
}
