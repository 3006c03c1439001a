//! From a file's text to its records, in any of the forms in which a person has a message.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    Given, Promise, Record,
    object::{Object, kind},
};
use crate::queue::MessageAttribute;

/// The fields of a message, as Lambda names them and as SQS does.
struct Names {
    id: &'static str,
    body: &'static str,
    system: &'static str,
    attributes: &'static str,
}

const LAMBDA: Names = Names { id: "messageId", body: "body", system: "attributes", attributes: "messageAttributes" };
const SQS: Names = Names { id: "MessageId", body: "Body", system: "Attributes", attributes: "MessageAttributes" };

const FORMS: &str = "a Lambda payload (\"Records\"), what `aws sqs receive-message` prints (\"Messages\"), one message \
                     (\"body\" or \"Body\"), an event (\"detail-type\" or \"type\"), or a list of these";

/// A file as far as it could be read. What could not is a None in its place, so that the rest can still be checked.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) records: Vec<Option<Record>>,
    pub(super) about: String,
    /// Absent where the file says nothing of what exists before.
    pub(super) given: Option<Vec<Option<Given>>>,
    /// Absent where the file promises nothing.
    pub(super) then: Option<Vec<Option<Promise>>>,
}

/// Reads a file, as far as it can be read; whatever is wrong is added to `faults`.
pub(super) fn read(text: &[u8], faults: &mut Vec<String>) -> Draft {
    let mut draft = Draft::default();
    let text = match text_of(text) {
        Ok(text) => text,
        Err(mend) => {
            faults.push(mend);
            return draft;
        }
    };
    let file: &RawValue = match serde_json::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            faults.push(format!("it is not JSON: {error}"));
            return draft;
        }
    };
    if let Ok(messages) = serde_json::from_str::<Vec<&RawValue>>(file.get()) {
        if messages.is_empty() {
            faults.push("it is an empty list; put at least one message into it".to_owned());
        }
        draft.records = elements("message ", 1, &messages, faults);
        return draft;
    }
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(file.get()) else {
        faults.push(format!("it is {}; write {FORMS}", kind(file)));
        return draft;
    };
    for (name, is_payload) in [("Records", true), ("Messages", false)] {
        if !fields.contains_key(name) {
            continue;
        }
        let Some(mut object) = Object::read("", file, faults) else { break };
        let messages = object.list(name).unwrap_or_default();
        let scenario = object.raw("scenario").filter(|_| is_payload);
        if messages.is_empty() {
            object.fault(format!("the batch is empty; put at least one message into {name:?}"));
        }
        draft.records = elements(&format!("{name}["), 0, &messages, faults);
        if let Some(scenario) = scenario {
            read_scenario(scenario, &mut draft, faults);
        }
        return draft;
    }
    if fields.contains_key("scenario") {
        faults.push("a \"scenario\" needs a list of \"Records\" beside it".to_owned());
    }
    draft.records = vec![element("", file, faults)];
    draft
}

fn text_of(text: &[u8]) -> Result<&str, String> {
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16, as PowerShell writes it; save it as UTF-8".to_owned());
    }
    let text = std::str::from_utf8(text).map_err(|error| format!("it is not text in UTF-8: {error}"))?;
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err("it is empty; `aws sqs receive-message` prints nothing when it received nothing".to_owned());
    }
    Ok(text)
}

fn elements(before: &str, first: usize, messages: &[&RawValue], faults: &mut Vec<String>) -> Vec<Option<Record>> {
    let after = if before.ends_with('[') { "]" } else { "" };
    let place = |index: usize| format!("{before}{}{after}", index + first);
    messages.iter().enumerate().map(|(index, raw)| element(&place(index), raw, faults)).collect()
}

/// One message, in any form; None where nothing of it can be used.
fn element(place: &str, raw: &RawValue, faults: &mut Vec<String>) -> Option<Record> {
    let object = Object::read(place, raw, faults)?;
    if object.has("body") || object.has("messageId") {
        return message(&LAMBDA, object);
    }
    if object.has("Body") || object.has("MessageId") {
        return message(&SQS, object);
    }
    if ["detail-type", "type", "detail", "payload"].iter().any(|name| object.has(name)) {
        return Some(new_record(raw.get().to_owned()));
    }
    let mut object = object;
    object.fault(format!("it is no form that is known; write {FORMS}"));
    None
}

fn new_record(body: String) -> Record {
    Record {
        message_id: Uuid::new_v4().to_string(),
        body,
        receive_count: 1,
        system: BTreeMap::new(),
        message_attributes: BTreeMap::new(),
        source_arn: None,
    }
}

/// Whatever else a message has, such as its digest and its receipt, a queue makes anew.
fn message(names: &Names, mut object: Object<'_, '_>) -> Option<Record> {
    let id = object.optional::<String>(names.id);
    let body = match object.raw(names.body) {
        // An object is meant as the text that a queue would hold.
        Some(raw) if raw.get().starts_with('{') => Some(raw.get().to_owned()),
        Some(raw) => match serde_json::from_str::<String>(raw.get()) {
            Ok(body) => Some(body),
            Err(_) if raw.get().starts_with('"') => {
                object.fault(format!("{:?} has half of a surrogate pair, which no queue can hold", names.body));
                None
            }
            Err(_) => {
                object.fault(format!("{:?} is {}, and has to be a text or an object", names.body, kind(raw)));
                None
            }
        },
        None => {
            object.fault(format!("{:?} is missing", names.body));
            None
        }
    };
    let system: BTreeMap<String, Value> = object.optional(names.system).unwrap_or_default();
    let system: BTreeMap<String, String> = system
        .into_iter()
        .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    let receive_count = match system.get("ApproximateReceiveCount") {
        None => 1,
        Some(count) => count.parse().unwrap_or_else(|_| {
            object.fault(format!("\"ApproximateReceiveCount\" is {count:?}; write a whole number"));
            1
        }),
    };
    let attributes: BTreeMap<String, &RawValue> =
        object.raw(names.attributes).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let mut message_attributes = BTreeMap::new();
    for (name, raw) in attributes {
        match serde_json::from_str::<Attribute>(raw.get()) {
            Ok(Attribute { data_type, string_value, binary_value }) => {
                message_attributes.insert(name, MessageAttribute { data_type, string_value, binary_value });
            }
            Err(error) => object.fault(format!("the message attribute {name:?}: {error}")),
        }
    }
    let source_arn = object.optional("eventSourceARN");
    Some(Record {
        message_id: id.unwrap_or_else(|| Uuid::new_v4().to_string()),
        source_arn,
        receive_count,
        system,
        message_attributes,
        ..new_record(body?)
    })
}

/// A message attribute as Lambda spells it and as SQS does.
#[derive(serde::Deserialize)]
struct Attribute {
    #[serde(alias = "DataType", rename = "dataType")]
    data_type: String,
    #[serde(alias = "StringValue", rename = "stringValue", default)]
    string_value: Option<String>,
    #[serde(alias = "BinaryValue", rename = "binaryValue", default)]
    binary_value: Option<String>,
}

fn read_scenario(raw: &RawValue, draft: &mut Draft, faults: &mut Vec<String>) {
    let Some(mut object) = Object::read("scenario", raw, faults) else { return };
    let about: Option<String> = object.optional("about");
    let (given, then) = (object.list("given"), object.list("then"));
    if then.is_some() && about.is_none() {
        object.fault("\"about\" is missing; say in one sentence what the file shows");
    }
    if then.is_some() && given.is_none() {
        object.fault("\"given\" is missing; list the reservations that exist before, or none");
    }
    object.end();
    draft.about = about.unwrap_or_default();
    draft.given = given.map(|given| {
        let read = |(index, raw): (usize, &&RawValue)| read_given(&format!("scenario.given[{index}]"), raw, faults);
        given.iter().enumerate().map(read).collect()
    });
    draft.then = then.map(|then| {
        let read = |(index, raw): (usize, &&RawValue)| read_promise(&format!("scenario.then[{index}]"), raw, faults);
        then.iter().enumerate().map(read).collect()
    });
}

fn read_given(place: &str, raw: &RawValue, faults: &mut Vec<String>) -> Option<Given> {
    given(Object::read(place, raw, faults)?)
}

/// A reservation, of which all fields that are not its own were taken before.
pub(super) fn given(mut object: Object<'_, '_>) -> Option<Given> {
    let (reservation_id, event_id, user_id) =
        (object.required("reservation_id"), object.required("event_id"), object.optional("user_id"));
    let (status, seat_ids, quantity) =
        (object.required("status"), object.optional::<Vec<String>>("seat_ids"), object.optional("quantity"));
    let (payment_intent_id, seats) = (object.optional("payment_intent_id"), object.required("seats"));
    object.end();
    let seat_ids = seat_ids.unwrap_or_default();
    Some(Given {
        quantity: quantity.unwrap_or_else(|| u32::try_from(seat_ids.len()).unwrap_or(u32::MAX).max(1)),
        user_id: user_id.unwrap_or_default(),
        reservation_id: reservation_id?,
        event_id: event_id?,
        status: status?,
        seats: seats?,
        seat_ids,
        payment_intent_id,
    })
}

fn read_promise(place: &str, raw: &RawValue, faults: &mut Vec<String>) -> Option<Promise> {
    let mut object = Object::read(place, raw, faults)?;
    let (message_id, outcome) = (object.required("message_id"), object.required("outcome"));
    let (reservation_id, reservation) = (object.optional("reservation_id"), object.optional("reservation"));
    let (seats, error_code) = (object.optional("seats"), object.optional("error_code"));
    object.end();
    Some(Promise { message_id: message_id?, outcome: outcome?, reservation_id, reservation, seats, error_code })
}
