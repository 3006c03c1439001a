//! EventBridge as a publisher sees it: `PutEvents` with its checks per entry. Rules and targets are not here.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Fault, Settings};

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

/// Takes the entries one by one; a bad one fails alone. Too much of them is refused as a whole.
pub(super) fn put(settings: &mut Settings, input: &Value) -> Result<Value, Fault> {
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
        answers.push(match accept(settings, entry) {
            Ok(entry) => {
                settings.entries.push(entry);
                json!({"EventId": Uuid::new_v4().to_string()})
            }
            Err((code, message)) => {
                failed += 1;
                json!({"ErrorCode": code, "ErrorMessage": message})
            }
        });
    }
    Ok(json!({"FailedEntryCount": failed, "Entries": answers}))
}

fn accept(settings: &mut Settings, entry: &Value) -> Result<BusEntry, (&'static str, String)> {
    if let Some(left) = settings.entries_to_fail.checked_sub(1) {
        settings.entries_to_fail = left;
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
    if !settings.buses.contains(&bus) {
        return Err(("InvalidArgument", format!("Event bus {bus} does not exist.")));
    }
    let trace_header = entry["TraceHeader"].as_str().map(str::to_owned);
    Ok(BusEntry { bus, source, detail_type, detail, trace_header })
}
