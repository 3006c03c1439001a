//! What SQS refuses to take.
//!
//! A message is checked as a whole before it comes into a queue: its characters, its size, its delay and its attributes.

use super::{MAX_DELAY, MAX_MESSAGE_ATTRIBUTES, MAX_MESSAGE_BYTES, Message, MessageAttribute, QueueError};

pub(super) fn check_message(message: &Message) -> Result<(), QueueError> {
    let invalid = |reason: String| Err(QueueError::InvalidParameterValue(reason));
    if message.body.is_empty() {
        return Err(QueueError::MissingBody);
    }
    if let Some(character) = message.body.chars().find(|character| !is_allowed(*character)) {
        return Err(QueueError::InvalidMessageContents(character.into()));
    }
    if message.delay > MAX_DELAY {
        return invalid(format!(
            "Value {} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900.",
            message.delay.as_secs()
        ));
    }
    if message.attributes.len() > MAX_MESSAGE_ATTRIBUTES {
        return invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{MAX_MESSAGE_ATTRIBUTES}].",
            message.attributes.len()
        ));
    }
    let grouped =
        |group: &String| (1..=128).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_graphic());
    if message.group_id.as_ref().is_some_and(|group| !grouped(group)) {
        return invalid(
            "Value for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include alphanumeric and \
             punctuation characters. 1 to 128 in length."
                .to_owned(),
        );
    }
    let mut bytes = message.body.len();
    for (name, attribute) in &message.attributes {
        check_attribute(name, attribute)?;
        let value = attribute.string_value.as_ref().map_or(0, String::len);
        // Base64 writes three bytes as four characters.
        let binary = attribute.binary_value.as_ref().map_or(0, |value| value.trim_end_matches('=').len() * 3 / 4);
        bytes += name.len() + attribute.data_type.len() + value + binary;
    }
    if bytes > MAX_MESSAGE_BYTES {
        return invalid(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {MAX_MESSAGE_BYTES} bytes."
        ));
    }
    Ok(())
}

fn check_attribute(name: &str, attribute: &MessageAttribute) -> Result<(), QueueError> {
    let invalid = |reason: &str| {
        Err(QueueError::InvalidParameterValue(format!("The message attribute '{name}' is invalid. Reason: {reason}")))
    };
    let lower = name.to_ascii_lowercase();
    let spelled = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    if name.is_empty() || name.len() > 256 || !name.chars().all(spelled) {
        return invalid("a name has 1 to 256 letters, digits, underscores, hyphens and periods.");
    }
    if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return invalid("a name neither starts nor ends with a period, nor has two in a row.");
    }
    if lower.starts_with("aws.") || lower.starts_with("amazon.") {
        return invalid("the prefix is reserved.");
    }
    let kind = attribute.data_type.split('.').next().unwrap_or_default();
    let value = match kind {
        "String" | "Number" => attribute.string_value.as_deref(),
        "Binary" => attribute.binary_value.as_deref(),
        _ => return invalid("the type is not String, Number or Binary."),
    };
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return invalid("it must contain a non-empty value of its type.");
    };
    if !value.chars().all(is_allowed) {
        return invalid("the value holds a character that SQS does not take.");
    }
    if kind == "Number" && value.parse::<f64>().is_err() {
        return invalid("the value is not a number.");
    }
    Ok(())
}

/// The characters of XML 1.0, which is what SQS takes; surrogates cannot occur in a Rust string.
fn is_allowed(character: char) -> bool {
    matches!(character, '\u{9}' | '\u{A}' | '\u{D}' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
