//! Event files of the bookings: a batch of a queue, records of a topic or a call of the migration, and what becomes of it in a
//! database.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use shared::{
    booking,
    name::Named,
    trigger::{kafka, sqs},
};

use super::{Record, Scenario, check, form, hold, object::Object};
use crate::catalogue::{self, Entry, RECORDING, System, Trigger};

/// What is done with a file about bookings, and what must come of it. Guests and rooms are those of
/// [`crate::postgres::Server::furnished`].
#[derive(Debug, Clone)]
pub struct Booked {
    /// The event, where the function is invoked with it as it stands; without one the records go through the function's queue.
    pub event: Option<Value>,
    /// The bookings that were written before.
    pub given: Vec<Value>,
    /// The cancellations that came before, after those.
    pub given_cancelled: Vec<Value>,
    /// What it promises. A file without promises is run and not judged.
    pub then: Option<Then>,
}

/// What a file about bookings promises.
#[derive(Debug, Clone)]
pub enum Then {
    /// One promise for each record: in the order of `Records`, or by its place in a topic.
    Records(Vec<Booking>),
    /// The answer of the function.
    Answer(Value),
}

/// What one record comes to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Booking {
    /// Its topic, partition and offset, as in `booking-events-0@41`.
    pub source: Option<String>,
    /// How the function ends it.
    pub outcome: String,
    /// The booking that it is about.
    pub booking_id: Option<String>,
    /// The booking's status after the whole batch; nothing: there is no such booking.
    pub booking: Option<String>,
    /// Why it is in the dead-letter queue.
    pub error_code: Option<String>,
}

impl Booked {
    /// The records of a topic, by their places.
    pub fn sources(&self) -> Vec<String> {
        let topics = self.event.as_ref().and_then(|event| event["records"].as_object()).into_iter().flatten();
        let places = |(partition, records): (&String, &Value)| -> Vec<String> {
            let records = records.as_array().into_iter().flatten();
            records.map(|record| format!("{partition}@{}", record["offset"])).collect()
        };
        topics.flat_map(places).collect()
    }

    /// What it promises of its records.
    pub fn promises(&self) -> &[Booking] {
        match &self.then {
            Some(Then::Records(records)) => records,
            Some(Then::Answer(_)) | None => &[],
        }
    }
}

/// The function of the bookings that a file is for: that of `function` or of the folder, or else that of its events.
pub(super) fn function(folder: Option<&str>, function: Option<&str>, text: &[u8]) -> Option<Entry> {
    let named = function.or(folder).and_then(catalogue::function);
    let of_type = || {
        let records = form::read(text, &mut Vec::new()).records;
        let types = records.iter().flatten().filter_map(|record| of_type(&record.body));
        let mut types: Vec<&str> = types.collect();
        types.dedup();
        catalogue::function(<[&str; 1]>::try_from(types).ok()?[0])
    };
    named.or_else(of_type).filter(|entry| entry.system == System::Bookings)
}

fn of_type(body: &str) -> Option<&'static str> {
    let event: Value = serde_json::from_str(body).ok()?;
    let is_of = |name: &str| event["detail-type"] == name || event["type"] == name;
    RECORDING.into_iter().find(|function| is_of(function.event_type)).map(|function| function.name)
}

/// What a file says, as far as it can be read; whatever is wrong is added to `faults`.
pub(super) fn read(
    entry: &Entry,
    text: &[u8],
    faults: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Option<(Booked, Vec<Record>, Scenario)> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(text).unwrap_or_default();
    let mut booked = Booked { event: None, given: Vec::new(), given_cancelled: Vec::new(), then: None };
    let mut records = Vec::new();
    if entry.trigger == Trigger::Schedule || fields.contains_key("records") {
        match serde_json::from_slice(text) {
            Ok(event @ Value::Object(_)) => booked.event = Some(event),
            Ok(_) => faults.push("it is not an object; write the event as Lambda hands it over".to_owned()),
            Err(error) => faults.push(format!("it is not JSON: {error}")),
        }
    } else {
        let batch = batch(&fields).unwrap_or_else(|| text.to_vec());
        let mut draft = form::read(&batch, faults);
        let own = draft.records.iter_mut().enumerate().filter(|_| !fields.contains_key("scenario"));
        notes.extend(own.filter_map(|(index, record)| hold::revive(index, record.as_mut()?)));
        check::all(Some(entry.name), &draft, faults);
        records = draft.records.into_iter().flatten().collect();
    }
    let about = match fields.get("scenario") {
        Some(scenario) => read_scenario(entry, scenario, &mut booked, faults)?,
        None => String::new(),
    };
    let due = if booked.event.is_some() { booked.sources().len() } else { records.len() };
    if let Some(Then::Records(then)) = &booked.then
        && then.len() != due
    {
        faults.push(format!("{due} records but {} promises; give \"scenario.then\" one entry per record", then.len()));
    }
    Some((booked, records, Scenario { about, given: Vec::new(), then: None }))
}

/// The batch of a file without its scenario, which is none of reservations.
fn batch(fields: &BTreeMap<String, &RawValue>) -> Option<Vec<u8>> {
    fields.contains_key("scenario").then_some(())?;
    let others: BTreeMap<&String, &&RawValue> = fields.iter().filter(|(name, _)| *name != "scenario").collect();
    serde_json::to_vec(&others).ok()
}

fn read_scenario(entry: &Entry, raw: &RawValue, booked: &mut Booked, faults: &mut Vec<String>) -> Option<String> {
    let mut scenario = Object::read("scenario", raw, faults)?;
    let about: Option<String> = scenario.optional("about");
    booked.given = scenario.optional("given").unwrap_or_default();
    booked.given_cancelled = scenario.optional("given_cancelled").unwrap_or_default();
    if entry.trigger == Trigger::Schedule {
        booked.then = scenario.optional("then").map(Then::Answer);
        scenario.end();
        return Some(about.unwrap_or_default());
    }
    let then = scenario.list("then");
    if then.is_some() && about.is_none() {
        scenario.fault("\"about\" is missing; say in one sentence what the file shows");
    }
    scenario.end();
    if let Some(then) = then {
        let promises = then.into_iter().enumerate().filter_map(|(index, raw)| promise(index, raw, faults));
        booked.then = Some(Then::Records(promises.collect()));
    }
    Some(about.unwrap_or_default())
}

fn promise(index: usize, raw: &RawValue, faults: &mut Vec<String>) -> Option<Booking> {
    let place = format!("scenario.then[{index}]");
    let promise: Booking = match serde_json::from_str(raw.get()) {
        Ok(promise) => promise,
        Err(error) => {
            faults.push(format!("{place}: {error}"));
            return None;
        }
    };
    if !outcomes().any(|known| known == promise.outcome) {
        let known: Vec<&str> = outcomes().collect();
        faults.push(format!("{place}: \"outcome\" is {:?}; write one of {known:?}", promise.outcome));
    }
    let is_dead_lettered = ["rejected", "exhausted"].contains(&promise.outcome.as_str());
    if is_dead_lettered != promise.error_code.is_some() {
        let rule = "\"error_code\" belongs to what is rejected or exhausted, and to nothing else";
        faults.push(format!("{place}: {rule}"));
    }
    Some(promise)
}

/// Every way in which a record can end.
fn outcomes() -> impl Iterator<Item = &'static str> {
    let of_triggers = names::<sqs::Outcome>().chain(names::<kafka::Outcome>());
    names::<booking::Outcome>().chain(of_triggers)
}

fn names<N: Named>() -> impl Iterator<Item = &'static str> {
    N::ALL.iter().map(|name| name.name())
}
