//! Event files of functions without a queue: the event of an HTTP API, of a table's stream or of the clock, as Lambda hands it
//! over, and what the function promises to make of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{Given, GivenLine, form, object::Object};
use crate::{
    catalogue::{self, CATALOGUE, Entry, System, Trigger},
    inventory::SeatState,
    reservations::Status,
    template::Template,
};

/// The tickets of a line that a file says nothing more of.
const USUAL_TICKETS: u32 = 100;

/// What a function is invoked with, and what it promises.
#[derive(Debug, Clone)]
pub struct Invoked {
    /// How the function is called.
    pub trigger: Trigger,
    /// The whole file, because a function does not read the key `scenario`.
    pub event: Value,
    /// What is on sale before.
    pub on_sale: Vec<OnSale>,
    /// The lines before.
    pub lines: Vec<GivenLine>,
    /// The reservations in the table before, in the order of the scenario's `given`.
    pub known: Vec<Known>,
    /// How many of the next entries the bus does not take.
    pub bus_fails: usize,
    /// One promise for an answer, for each record, or for each reservation that a sweep looks at. A file without promises is
    /// run and not judged.
    pub then: Option<Vec<Effect>>,
}

/// Seats and places of a show that nobody has.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnSale {
    /// The show.
    pub event_id: String,
    /// Its seats.
    #[serde(default)]
    pub seat_ids: Vec<String>,
    /// Its places without a name.
    #[serde(default)]
    pub quantity: u32,
}

/// A reservation in the table of reservations.
#[derive(Debug, Clone)]
pub struct Known {
    /// What of it the inventory knows as well.
    pub given: Given,
    /// The `Idempotency-Key` that it was created under.
    pub key: Option<String>,
    /// How long ago it was created, and changed.
    pub seconds_ago: u64,
    /// Whether what became of it is not published yet.
    pub untold: bool,
}

/// What an invocation comes to, and how the reservation stands after it. What is left out is not judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Effect {
    /// The status of an answer; `done` or `retried` for a record; `rearmed`, `republished` or `left` for a reservation of a
    /// sweep.
    pub outcome: String,
    /// The reservation that it is about.
    pub reservation_id: Option<String>,
    /// Its status in the table.
    pub reservation: Option<Status>,
    /// Its seats in the inventory.
    pub seats: Option<SeatState>,
    /// What went out about it: `timer` to the queue of expiries, anything else to the bus.
    pub told: Option<Vec<String>>,
    /// What its item in the table has still to tell.
    pub untold: Option<Vec<String>>,
    /// Headers of an answer.
    pub headers: BTreeMap<String, String>,
    /// Fields of an answer's body; it may have more.
    pub body: Option<Value>,
    /// The line that it is about.
    pub line: Option<Lined>,
}

/// How a line stands. What is left out is not judged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lined {
    /// The show.
    pub event_id: String,
    /// Letter and seats of the places whose turn has come, in order.
    pub places: Option<String>,
    /// The number of people who are on their way into it.
    pub joins: Option<usize>,
}

/// A line of a file: all of it, or only its show, where nobody stands in it.
#[derive(Deserialize)]
#[serde(untagged)]
enum LineForm {
    Bare(String),
    Whole(GivenLine),
}

impl From<LineForm> for GivenLine {
    fn from(form: LineForm) -> Self {
        match form {
            LineForm::Bare(event_id) => {
                Self { event_id, tickets: USUAL_TICKETS, closed: false, paused: false, people: Vec::new() }
            }
            LineForm::Whole(line) => line,
        }
    }
}

/// The function of an event file without a queue: that of `function` or of the folder, or the one that is invoked by events of
/// this form.
pub(super) fn function(folder: Option<&str>, function: Option<&str>, text: &[u8]) -> Option<Entry> {
    let named = function.or(folder).and_then(catalogue::function);
    if let Some(entry) = named {
        return Some(entry).filter(|entry| entry.trigger != Trigger::Queue);
    }
    let event: Value = serde_json::from_slice(text).ok()?;
    let trigger = if event["requestContext"]["http"].is_object() {
        return routed(&event);
    } else if event["requestContext"]["connectionId"].is_string() {
        return CATALOGUE.into_iter().find(|entry| entry.trigger == Trigger::WebSocket);
    } else if event["Records"][0]["dynamodb"].is_object() {
        Trigger::Stream
    } else if event["detail-type"] == "Scheduled Event" {
        Trigger::Schedule
    } else {
        return None;
    };
    // The files of bookings and of the waiting room are no scenarios of reservations.
    let is_fitting =
        |entry: &Entry| entry.trigger == trigger && matches!(entry.system, System::Settlement | System::Reservations);
    let mut fitting = CATALOGUE.into_iter().filter(is_fitting);
    fitting.next().filter(|_| fitting.next().is_none())
}

/// The function behind the route that the event names, or else the first that answers HTTP.
fn routed(event: &Value) -> Option<Entry> {
    let routes = Template::read().and_then(|template| template.routes()).unwrap_or_default();
    let route = routes.iter().find(|route| event["routeKey"] == route.key.as_str());
    let routed = route.and_then(|route| catalogue::function(&route.function));
    routed.or_else(|| CATALOGUE.into_iter().find(|entry| entry.trigger == Trigger::Http))
}

/// What a file says, as far as it can be read; whatever is wrong is added to `faults`.
pub(super) fn read(entry: &Entry, text: &[u8], faults: &mut Vec<String>) -> Option<(String, Invoked)> {
    let event: Value = match serde_json::from_slice(text) {
        Ok(event @ Value::Object(_)) => event,
        Ok(_) => {
            faults.push("it is not an object; write the event as Lambda hands it over".to_owned());
            return None;
        }
        Err(error) => {
            faults.push(format!("it is not JSON: {error}"));
            return None;
        }
    };
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(text).ok()?;
    let mut invoked = Invoked {
        trigger: entry.trigger,
        event,
        on_sale: Vec::new(),
        lines: Vec::new(),
        known: Vec::new(),
        bus_fails: 0,
        then: None,
    };
    let Some(raw) = fields.get("scenario") else { return Some((String::new(), invoked)) };
    let mut scenario = Object::read("scenario", raw, faults)?;
    let about: Option<String> = scenario.optional("about");
    invoked.on_sale = scenario.optional("on_sale").unwrap_or_default();
    let lines: Option<Vec<LineForm>> = scenario.optional("lines");
    invoked.lines = lines.into_iter().flatten().map(GivenLine::from).collect();
    invoked.bus_fails = scenario.optional("bus_fails").unwrap_or_default();
    let (given, then) = (scenario.list("given").unwrap_or_default(), scenario.list("then"));
    if then.is_some() && about.is_none() {
        scenario.fault("\"about\" is missing; say in one sentence what the file shows");
    }
    scenario.end();
    for (index, raw) in given.into_iter().enumerate() {
        invoked.known.extend(known(&format!("scenario.given[{index}]"), raw, faults));
    }
    if let Some(then) = then {
        let effects = then.into_iter().enumerate();
        let effects = effects.filter_map(|(index, raw)| effect(&format!("scenario.then[{index}]"), raw, faults));
        invoked.then = Some(effects.collect());
    }
    check(&invoked, faults);
    Some((about.unwrap_or_default(), invoked))
}

fn known(place: &str, raw: &RawValue, faults: &mut Vec<String>) -> Option<Known> {
    let mut object = Object::read(place, raw, faults)?;
    let (key, seconds_ago, untold) =
        (object.optional("key"), object.optional("seconds_ago"), object.optional("untold"));
    let given = form::given(object)?;
    Some(Known { given, key, seconds_ago: seconds_ago.unwrap_or_default(), untold: untold.unwrap_or_default() })
}

fn effect(place: &str, raw: &RawValue, faults: &mut Vec<String>) -> Option<Effect> {
    let mut object = Object::read(place, raw, faults)?;
    let (outcome, reservation_id) = (object.required("outcome"), object.optional("reservation_id"));
    let (reservation, seats) = (object.optional("reservation"), object.optional("seats"));
    let (told, untold) = (object.optional("told"), object.optional("untold"));
    let (headers, body) = (object.optional("headers").unwrap_or_default(), object.optional("body"));
    let line = object.optional("line");
    let about_none = reservation_id.is_none();
    let states = reservation.is_some() || seats.is_some() || told.is_some() || untold.is_some();
    if about_none && states {
        object.fault("name the reservation that it is about by \"reservation_id\"");
    }
    object.end();
    Some(Effect { outcome: outcome?, reservation_id, reservation, seats, told, untold, headers, body, line })
}

/// What contradicts itself.
fn check(invoked: &Invoked, faults: &mut Vec<String>) {
    let Some(then) = &invoked.then else { return };
    let (allowed, due): (&[&str], Option<usize>) = match invoked.trigger {
        Trigger::Http | Trigger::WebSocket => (&[], Some(1)),
        Trigger::Stream => (&["done", "retried"], Some(invoked.event["Records"].as_array().map_or(0, Vec::len))),
        Trigger::Schedule => (&["rearmed", "republished", "left"], None),
        Trigger::Queue => (&[], None),
    };
    if due.is_some_and(|due| due != then.len()) {
        let due = due.unwrap_or_default();
        faults.push(format!("\"scenario.then\" has {} promises, and {due} are due", then.len()));
    }
    let mut ids = BTreeSet::new();
    for (index, effect) in then.iter().enumerate() {
        let known = match invoked.trigger {
            Trigger::Http | Trigger::WebSocket => {
                effect.outcome.parse::<u16>().is_ok_and(|status| (100..600).contains(&status))
            }
            Trigger::Stream | Trigger::Schedule | Trigger::Queue => allowed.contains(&effect.outcome.as_str()),
        };
        if !known {
            let rule = if allowed.is_empty() { "the status of an answer".to_owned() } else { allowed.join(" or ") };
            faults.push(format!("scenario.then[{index}]: \"outcome\" is {:?}; write {rule}", effect.outcome));
        }
        if invoked.trigger == Trigger::Schedule && !ids.insert(&effect.reservation_id) {
            faults.push(format!("scenario.then[{index}]: its reservation comes twice, or it names none"));
        }
    }
}
