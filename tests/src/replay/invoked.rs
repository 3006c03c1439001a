//! An event without a queue, handed to its function, and what came of it.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use shared::{
    deadline::epoch_ms,
    reservation::{
        Hold,
        lifecycle::{By, Change, Decision, Payment, Reservation, Shortage, Terms, Wish},
    },
};

use super::{FileReport, RecordReport, put_line, table, waited::places};
use crate::{
    catalogue::Trigger,
    lambda::{Function, Invocation},
    queue::Queue,
    reservations::Status,
    scenario::{Effect, Invoked, Known, Lined},
    stack::{RESERVATIONS, Stack},
    stream::checkpoint,
};

/// The queue of the timers.
const EXPIRIES: &str = "reservation-expired";

/// The queues of the waiting room that its door writes to.
const JOINS: &str = "waiting-room-joined";
const TICKS: &str = "waiting-room-ticked";

/// What an invocation can have changed.
struct Baseline<'a> {
    stack: &'a Stack,
    /// The queue of the timers, which was empty before.
    timers: Queue,
    /// The queue of people who join lines, which was empty before.
    joins: Queue,
    /// How many events were on the bus before.
    published: usize,
}

/// Puts in place what the file takes for given, invokes the function once, and judges.
pub(super) async fn run(stack: &Stack, function: &Function, invoked: &Invoked) -> FileReport {
    let given = put_in_place(stack, invoked).await;
    if let Err(fault) = given {
        return FileReport::failed(fault);
    }
    stack.queue(TICKS);
    let (timers, joins) = (stack.queue(EXPIRIES), stack.queue(JOINS));
    let baseline = Baseline { stack, timers, joins, published: stack.aws.bus_entries().len() };
    stack.aws.fail_entries_next(invoked.bus_fails);
    let invocation = function.invoke(invoked.event.to_string()).await;
    let found = match found(invoked, &invocation) {
        Ok(found) => found,
        Err(fault) => return FileReport::failed(fault),
    };
    let mut records = Vec::new();
    for (index, mut effect) in found.into_iter().enumerate() {
        let promise = invoked.then.as_ref().and_then(|then| match invoked.trigger {
            Trigger::Schedule => then.iter().find(|one| one.reservation_id == effect.reservation_id),
            Trigger::Http | Trigger::WebSocket | Trigger::Stream | Trigger::Queue => then.get(index),
        });
        effect.reservation_id = promise.and_then(|promise| promise.reservation_id.clone()).or(effect.reservation_id);
        effect.line = promise.and_then(|promise| promise.line.clone());
        if let Err(fault) = baseline.look(&mut effect).await {
            return FileReport::failed(fault);
        }
        records.push(RecordReport {
            error: error_of(&effect),
            latency: Some(invocation.duration),
            faults: promise.map(|promise| faults(promise, &effect)).unwrap_or_default(),
            reservation_id: effect.reservation_id,
            reservation: effect.reservation,
            seats: effect.seats,
            ..RecordReport::of(&index.to_string(), &effect.outcome)
        });
    }
    let is_judged = invoked.then.is_some();
    let missed = invoked.then.iter().flatten().filter(|promise| {
        let is_about = |record: &RecordReport| record.reservation_id == promise.reservation_id;
        invoked.trigger == Trigger::Schedule && !records.iter().any(is_about)
    });
    let missed: Vec<&str> = missed.filter_map(|promise| promise.reservation_id.as_deref()).collect();
    if !missed.is_empty() {
        return FileReport::failed(format!("nothing was done about {}", missed.join(", ")));
    }
    FileReport { records, invocation_fault: None, is_judged, notes: Vec::new() }
}

/// What the answer and the log say, before a look at the reservations.
fn found(invoked: &Invoked, invocation: &Invocation) -> Result<Vec<Effect>, String> {
    let answer = invocation.result.as_ref();
    match invoked.trigger {
        Trigger::Http | Trigger::WebSocket => {
            let answer = answer.map_err(ToString::to_string)?;
            let answer: Value =
                serde_json::from_slice(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
            let headers = answer["headers"].as_object().into_iter().flatten();
            let body = answer["body"].as_str().map(|body| serde_json::from_str(body).unwrap_or_else(|_| json!(body)));
            Ok(vec![Effect {
                outcome: answer["statusCode"].to_string(),
                reservation_id: body
                    .as_ref()
                    .and_then(|body: &Value| body["reservationId"].as_str().map(str::to_owned)),
                headers: headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect(),
                body,
                ..Effect::default()
            }])
        }
        Trigger::Stream => {
            let records = invoked.event["Records"].as_array().map(Vec::as_slice).unwrap_or_default();
            let text = |record: &Value, path: &str| record.pointer(path).and_then(Value::as_str).map(str::to_owned);
            let numbers: Vec<String> =
                records.iter().map(|record| text(record, "/dynamodb/SequenceNumber").unwrap_or_default()).collect();
            // An invocation that fails leaves all of its batch in the shard.
            let done = answer.map_or(0, |answer| checkpoint(answer, &numbers));
            let ended = |(index, record): (usize, &Value)| Effect {
                outcome: if index < done { "done" } else { "retried" }.to_owned(),
                reservation_id: text(record, "/dynamodb/Keys/id/S"),
                ..Effect::default()
            };
            Ok(records.iter().enumerate().map(ended).collect())
        }
        Trigger::Schedule => {
            answer.map_err(ToString::to_string)?;
            let lines: Vec<Value> = invocation.logs.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let act = |id: &str| {
                let of_it = lines.iter().find(|line| line["reservation_id"] == id && line["act"].is_string());
                of_it.and_then(|line| line["act"].as_str()).unwrap_or("left").to_owned()
            };
            let ended = |known: &Known| Effect {
                outcome: act(&known.given.reservation_id),
                reservation_id: Some(known.given.reservation_id.clone()),
                ..Effect::default()
            };
            Ok(invoked.known.iter().map(ended).collect())
        }
        Trigger::Queue => Err("it has a queue".to_owned()),
    }
}

impl Baseline<'_> {
    /// Adds how the reservation stands now, and what went out about it.
    async fn look(&self, effect: &mut Effect) -> Result<(), String> {
        if let Some(line) = &mut effect.line {
            *line = self.line(&line.event_id).await?;
        }
        let Some(id) = &effect.reservation_id else { return Ok(()) };
        let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}, "ConsistentRead": true});
        let item = self.stack.aws.dynamodb("GetItem", &key).await.map_err(|error| error.to_string())?;
        let item = &item["Item"];
        effect.reservation = serde_json::from_value(item["status"]["S"].clone()).ok();
        effect.seats = effect.reservation.map(|_| self.stack.inventory.seat_state(id));
        let untold = item["events"]["L"].as_array().into_iter().flatten();
        effect.untold = Some(untold.filter_map(|event| event["M"]["type"]["S"].as_str().map(str::to_owned)).collect());
        let timers = self.timers.messages().into_iter().filter(|message| message.body.contains(id.as_str()));
        let entries = self.stack.aws.bus_entries().into_iter().skip(self.published);
        let events = entries.filter(|entry| entry.detail["reservation_id"] == **id).map(|entry| entry.detail_type);
        effect.told = Some(timers.map(|_| "timer".to_owned()).chain(events).collect());
        Ok(())
    }

    /// How a line stands now.
    async fn line(&self, show_id: &str) -> Result<Lined, String> {
        let joins = self.joins.messages().into_iter().filter(|message| message.body.contains(show_id)).count();
        let places = places(&table(self.stack), show_id).await?;
        Ok(Lined { event_id: show_id.to_owned(), places: Some(places), joins: Some(joins) })
    }
}

/// What an error answer says of itself.
fn error_of(effect: &Effect) -> Option<String> {
    let error = &effect.body.as_ref()?["error"];
    Some(format!("{}: {}", error["code"].as_str()?, error["message"].as_str()?))
}

/// What is not as promised, a sentence each.
fn faults(promise: &Effect, found: &Effect) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |what: &str, found: String, promised: Option<String>| {
        if promised.as_ref().is_some_and(|promised| *promised != found) {
            faults.push(format!("{what} {found}; promised: {}", promised.unwrap_or_default()));
        }
    };
    let status = |status: Option<Status>| status.map_or_else(|| "none".to_owned(), |status| status.to_string());
    let list = |list: &Vec<String>| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    expect("the outcome is", found.outcome.clone(), Some(promise.outcome.clone()));
    if promise.reservation_id.is_some() {
        expect("the reservation is", status(found.reservation), Some(status(promise.reservation)));
        let seats = |seats: Option<_>| {
            seats.map_or_else(|| "none".to_owned(), |seats: crate::inventory::SeatState| seats.to_string())
        };
        expect("its seats are", seats(found.seats), Some(seats(promise.seats)));
    }
    let told = |told: &Option<Vec<String>>| told.as_ref().map(list);
    expect("what went out about it is", told(&found.told).unwrap_or_default(), told(&promise.told));
    expect("what it has still to tell is", told(&found.untold).unwrap_or_default(), told(&promise.untold));
    for (name, value) in &promise.headers {
        let found = found.headers.get(name).cloned().unwrap_or_else(|| "not there".to_owned());
        expect(&format!("the header {name} is"), found, Some(value.clone()));
    }
    if let Some(line) = &promise.line {
        let found = found.line.clone().unwrap_or_default();
        expect("the places are", found.places.unwrap_or_default(), line.places.clone());
        let number = |number: Option<usize>| number.map(|number| number.to_string());
        expect("people on their way are", number(found.joins).unwrap_or_default(), number(line.joins));
    }
    if let Some(body) = &promise.body {
        let found = found.body.clone().unwrap_or_default();
        differences("the body", body, &found, &mut faults);
    }
    faults
}

/// What of `promised` is not in `found`, which may have more fields.
fn differences(place: &str, promised: &Value, found: &Value, faults: &mut Vec<String>) {
    match (promised, found) {
        (Value::Object(promised), Value::Object(found)) => {
            for (name, value) in promised {
                differences(&format!("{place}.{name}"), value, found.get(name).unwrap_or(&Value::Null), faults);
            }
        }
        (Value::Array(promised), Value::Array(found)) if promised.len() == found.len() => {
            for (index, (value, found)) in promised.iter().zip(found).enumerate() {
                differences(&format!("{place}[{index}]"), value, found, faults);
            }
        }
        _ if promised == found => {}
        _ => faults.push(format!("{place} is {found}; promised: {promised}")),
    }
}

async fn put_in_place(stack: &Stack, invoked: &Invoked) -> Result<(), String> {
    for on_sale in &invoked.on_sale {
        stack.inventory.stock(&on_sale.event_id, &on_sale.seat_ids, on_sale.quantity);
    }
    for line in &invoked.lines {
        put_line(stack, &table(stack), line).await?;
    }
    for known in &invoked.known {
        stack.seed(std::slice::from_ref(&known.given));
        put(stack, known).await?;
    }
    Ok(())
}

/// Puts a reservation into the table, as the code would have written it.
///
/// # Errors
/// When no reservation can be so, or the table does not take it.
pub async fn put(stack: &Stack, known: &Known) -> Result<(), String> {
    let reservation = reservation(known)?;
    let item = serde_json::to_value(&reservation).map_err(|error| error.to_string())?;
    let mut item: Map<String, Value> = match item {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, attribute(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    if known.untold {
        item.insert("unpublished".to_owned(), json!({"S": "yes"}));
    }
    let put = json!({"TableName": RESERVATIONS, "Item": item});
    stack.aws.dynamodb("PutItem", &put).await.map(drop).map_err(|error| error.to_string())
}

/// The reservation as it would have come to this status.
fn reservation(known: &Known) -> Result<Reservation, String> {
    let (given, terms) = (&known.given, Terms::DEFAULT);
    let created = epoch_ms(SystemTime::now() - Duration::from_secs(known.seconds_ago));
    let wish = Wish {
        user_id: given.user_id.clone(),
        show_id: given.event_id.clone(),
        seat_ids: given.seat_ids.clone(),
        quantity: given.quantity,
        key: known.key.clone().unwrap_or_else(|| given.reservation_id.clone()),
        trace_id: None,
    };
    let mut pending = Reservation::pending(&wish, None, "another invocation", created, &terms);
    pending.id.clone_from(&given.reservation_id);
    let held = pending.held(Hold { seat_ids: given.seat_ids.clone(), price: None }, created).to;
    let intent_id = given.payment_intent_id.clone().unwrap_or_else(|| "pi_given".to_owned());
    let payment = Payment { intent_id, amount: None, currency: None };
    let changed = |decision| match decision {
        Decision::Write(change) => Ok(change.to),
        Decision::Already | Decision::Refused { .. } => {
            Err(format!("{} can't be {}", given.reservation_id, given.status))
        }
    };
    let Change { to: failed, .. } = pending.refused_seats(Shortage::SeatUnavailable, true, created);
    let mut reservation = match given.status {
        Status::Pending => pending,
        Status::Hold => held,
        Status::Confirmed => changed(held.confirm(&payment, By::Payment, created, &terms))?,
        Status::Cancelled => changed(held.cancel(By::Client, created))?,
        Status::Expired => changed(held.expire(By::Worker, held.hold_expires_at))?,
        Status::Failed => failed,
        Status::Refunded => return Err(format!("{}: no reservation is refunded", given.reservation_id)),
    };
    if !known.untold {
        reservation.events.clear();
    }
    Ok(reservation)
}

/// A value as an attribute of DynamoDB.
fn attribute(value: Value) -> Value {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(value) => json!({"BOOL": value}),
        Value::Number(number) => json!({"N": number.to_string()}),
        Value::String(text) => json!({"S": text}),
        Value::Array(items) => json!({"L": items.into_iter().map(attribute).collect::<Vec<_>>()}),
        Value::Object(fields) => {
            json!({"M": fields.into_iter().map(|(name, value)| (name, attribute(value))).collect::<Map<_, _>>()})
        }
    }
}
