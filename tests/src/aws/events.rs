//! EventBridge: `PutEvents` with its checks per entry, and rules with a queue as their target. What a queue refuses is
//! dropped, where EventBridge would try for a day.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{Contents, Fault};
use crate::{
    pattern::Pattern,
    queue::{Message, Queue},
};

const MAX_ENTRIES: usize = 10;
/// EventBridge takes no more of source, type and detail in a request, over all entries.
const MAX_BYTES: usize = 1024 * 1024;

/// An event that a bus accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct BusEntry {
    /// The bus's name.
    pub bus: String,
    /// Who published it.
    pub source: String,
    /// The event type.
    pub detail_type: String,
    /// The event.
    pub detail: Value,
    /// The X-Ray header, if one was given.
    pub trace_header: Option<String>,
}

/// A rule of a bus: the events that it chooses go to one queue.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The bus's name.
    pub bus: String,
    /// `EventPattern`.
    pub pattern: Pattern,
    /// `Targets`.
    pub target: Queue,
}

/// Takes the entries one by one; a bad one fails alone. Too much of them is refused as a whole.
pub(super) fn put(contents: &mut Contents, input: &Value) -> Result<Value, Fault> {
    let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() || entries.len() > MAX_ENTRIES {
        let message = format!("1 validation error detected: 'entries' must have 1 to {MAX_ENTRIES} members");
        return Err(Fault::client("ValidationException", message));
    }
    let text = |entry: &Value, name: &str| entry[name].as_str().map_or(0, str::len);
    let size = |entry| ["Source", "DetailType", "Detail"].map(|name| text(entry, name)).iter().sum::<usize>();
    if entries.iter().map(size).sum::<usize>() > MAX_BYTES {
        let message = format!("Total size of the entries in the request is over the limit of {MAX_BYTES} bytes.");
        return Err(Fault::client("ValidationException", message));
    }
    let (mut answers, mut failed) = (Vec::new(), 0);
    for entry in entries {
        answers.push(match accept(contents, entry) {
            Ok(entry) => {
                let id = Uuid::new_v4().to_string();
                deliver(&contents.rules, &entry, &id);
                contents.entries.push(entry);
                json!({"EventId": id})
            }
            Err((code, message)) => {
                failed += 1;
                json!({"ErrorCode": code, "ErrorMessage": message})
            }
        });
    }
    Ok(json!({"FailedEntryCount": failed, "Entries": answers}))
}

/// Hands an event on to the targets of the rules that choose it.
fn deliver(rules: &[Rule], entry: &BusEntry, id: &str) {
    let time = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let event = json!({
        "version": "0",
        "id": id,
        "detail-type": entry.detail_type,
        "source": entry.source,
        "account": "000000000000",
        "time": time.format(&Rfc3339).unwrap_or_default(),
        "region": "us-east-1",
        "resources": [],
        "detail": entry.detail,
    });
    for rule in rules.iter().filter(|rule| rule.bus == entry.bus && rule.pattern.matches(&event)) {
        let message = Message { trace_header: entry.trace_header.clone(), ..Message::new(event.to_string()) };
        drop(rule.target.send(message));
    }
}

fn accept(contents: &mut Contents, entry: &Value) -> Result<BusEntry, (&'static str, String)> {
    if let Some(left) = contents.entries_to_fail.checked_sub(1) {
        contents.entries_to_fail = left;
        return Err(("InternalFailure", "failed on demand".to_owned()));
    }
    let required = |name: &str| {
        let value = entry[name].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
        let reason = || format!("Parameter {name} is not valid. Reason: {name} is a required argument.");
        value.ok_or_else(|| ("InvalidArgument", reason()))
    };
    let (source, detail_type, detail) = (required("Source")?, required("DetailType")?, required("Detail")?);
    if source.starts_with("aws.") {
        return Err(("NotAuthorizedForSourceException", format!("Not authorized for the source {source}.")));
    }
    let detail: Value = serde_json::from_str(&detail)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| ("MalformedDetail", "Detail is malformed.".to_owned()))?;
    let bus = entry["EventBusName"].as_str().unwrap_or("default");
    let bus = bus.rsplit("event-bus/").next().unwrap_or(bus).to_owned(); // A name or an ARN.
    if !contents.buses.contains(&bus) {
        return Err(("InvalidArgument", format!("Event bus {bus} does not exist.")));
    }
    let trace_header = entry["TraceHeader"].as_str().map(str::to_owned);
    Ok(BusEntry { bus, source, detail_type, detail, trace_header })
}
