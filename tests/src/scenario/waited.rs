//! Event files of the waiting room: a batch of a queue, or the minute of its clock, and what becomes of the places in a line.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Record, Scenario, check, form, object::Object};
use crate::{
    catalogue::{self, Entry, System, Trigger},
    reservations::Status,
};

/// What is done with a file about the waiting room, and what must come of it.
#[derive(Debug, Clone)]
pub struct Waited {
    /// The event of a function without a queue.
    pub event: Option<Value>,
    /// The lines before.
    pub given: Vec<GivenLine>,
    /// One promise for each record, or for each line of a minute. A file without promises is run and not judged.
    pub then: Option<Vec<Turned>>,
}

/// A line before the delivery.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenLine {
    /// The show that its tickets are for.
    pub event_id: String,
    /// Its tickets.
    pub tickets: u32,
    /// Whether nobody may join any more.
    #[serde(default)]
    pub closed: bool,
    /// Whether it stands still.
    #[serde(default)]
    pub paused: bool,
    /// Who stands in it, in order.
    #[serde(default)]
    pub people: Vec<Person>,
}

/// Somebody in a line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The customer.
    pub user_id: String,
    /// The tickets that he wants.
    pub seats: u8,
    /// The letter of what his place is, once his turn has come.
    pub place: Option<char>,
    /// Whether the time of that is over.
    #[serde(default)]
    pub overdue: bool,
    /// The reservation that he has made by his turn.
    pub reservation: Option<Status>,
    /// Whether he has left the line.
    #[serde(default)]
    pub left: bool,
    /// Whether he is connected to the realtime service, and looks at the show.
    #[serde(default)]
    pub connected: bool,
}

/// What a record comes to, and how the line that it is about stands after the whole batch. What is left out is not judged.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turned {
    /// How the function ends it; `wound` for a line of a minute.
    pub outcome: String,
    /// Why it is in the dead-letter queue.
    pub error_code: Option<String>,
    /// The show whose line it is about.
    pub event_id: Option<String>,
    /// Letter and seats of the places whose turn has come, in order.
    pub places: Option<String>,
    /// The number of people who wait for a position.
    pub pending: Option<usize>,
    /// The types of what was put on the bus about the line.
    pub told: Option<Vec<String>>,
    /// What people who are connected were told about the line.
    pub heard: Option<Vec<String>>,
    /// The ticks of the line in its queue.
    pub ticks: Option<usize>,
}

/// The function of the waiting room that a file is for.
pub(super) fn function(folder: Option<&str>, function: Option<&str>) -> Option<Entry> {
    let entry = function.or(folder).and_then(catalogue::function)?;
    let answers = matches!(entry.trigger, Trigger::Http | Trigger::WebSocket);
    (entry.system == System::WaitingRoom && !answers).then_some(entry)
}

/// What a file says, as far as it can be read; whatever is wrong is added to `faults`.
pub(super) fn read(entry: &Entry, text: &[u8], faults: &mut Vec<String>) -> Option<(Waited, Vec<Record>, Scenario)> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(text).unwrap_or_default();
    let mut waited = Waited { event: None, given: Vec::new(), then: None };
    let mut records = Vec::new();
    if entry.trigger == Trigger::Schedule {
        match serde_json::from_slice(text) {
            Ok(event @ Value::Object(_)) => waited.event = Some(event),
            Ok(_) | Err(_) => faults.push("it is not an object; write the event as Lambda hands it over".to_owned()),
        }
    } else {
        let others: BTreeMap<&String, &&RawValue> = fields.iter().filter(|(name, _)| *name != "scenario").collect();
        let batch = if fields.is_empty() { Ok(text.to_vec()) } else { serde_json::to_vec(&others) };
        let draft = form::read(&batch.unwrap_or_default(), faults);
        check::all(Some(entry.name), &draft, faults);
        records = draft.records.into_iter().flatten().collect();
    }
    let mut about = String::new();
    if let Some(raw) = fields.get("scenario") {
        let mut scenario = Object::read("scenario", raw, faults)?;
        about = scenario.optional("about").unwrap_or_default();
        waited.given = scenario.optional("given").unwrap_or_default();
        waited.then = scenario.optional("then");
        if waited.then.is_some() && about.is_empty() {
            scenario.fault("\"about\" is missing; say in one sentence what the file shows");
        }
        scenario.end();
    }
    for (index, turned) in waited.then.iter().flatten().enumerate() {
        let about_none = turned.event_id.is_none();
        let Turned { places, pending, told, heard, ticks, .. } = turned;
        let is_judged = places.is_some() || pending.is_some() || told.is_some() || heard.is_some() || ticks.is_some();
        if about_none && is_judged {
            faults.push(format!("scenario.then[{index}]: name the line that it is about by \"event_id\""));
        }
        if ["rejected", "exhausted"].contains(&turned.outcome.as_str()) != turned.error_code.is_some() {
            faults.push(format!("scenario.then[{index}]: \"error_code\" belongs to what is rejected or exhausted"));
        }
    }
    let due = if entry.trigger == Trigger::Schedule { None } else { Some(records.len()) };
    if let (Some(then), Some(due)) = (&waited.then, due)
        && then.len() != due
    {
        faults.push(format!("{due} records but {} promises; give \"scenario.then\" one entry per record", then.len()));
    }
    Some((waited, records, Scenario { about, given: Vec::new(), then: None }))
}
