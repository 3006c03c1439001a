//! What has become of reservations is told to others: each change of the table brings the reservation's unpublished events,
//! which are published and then forgotten. Whatever dies in between leaves them marked, and they are published once more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use aws_sdk_eventbridge as eventbridge;
use futures_util::{StreamExt, stream};
use serde_dynamo::{AttributeValue, Item};
use serde_json::{Map, Value, json};
use tracing::{error, warn};

use super::{
    Status,
    lifecycle::{Event, EventKind, Reservation},
    table::Table,
};
use crate::{
    client::{
        aws::table::ID,
        bus::{Entry, EventBus, Unavailable},
        queue::{Delayed, Queue},
    },
    config::ConfigError,
    deadline::{Deadline, epoch_ms, moment},
    name::Named,
    start::{Parts, probe},
    trigger::stream::{Change, Follower, Stopped},
};

/// The `source` of a timer: the result of it, which has the same type, comes from another, so that no rule takes the one for
/// the other.
const TIMER_SOURCE: &str = "reservation-api";

/// How many reservations are cleared at a time.
const SIDE_BY_SIDE: usize = 10;

/// Publishes what is marked in the table.
#[derive(Debug)]
pub struct Relay {
    name: &'static str,
    table: Table,
    expiries: Queue,
    bus: EventBus,
}

impl Relay {
    /// As the environment says: `RESERVATIONS_TABLE`, `EXPIRY_QUEUE_URL`, `EVENT_BUS_NAME`. Nothing: what is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let table = Table::configured(&mut parts.reader, parts.aws);
        let bus = EventBus::new(eventbridge::Client::new(parts.aws), parts.reader.required("EVENT_BUS_NAME"));
        let expiries = Queue::configured(parts, "EXPIRY_QUEUE_URL");
        Some(Self { name: parts.name, table, expiries, bus })
    }

    /// Publishes the events of these reservations, each with its place in the batch. The answer is the first place that must
    /// come again, and why.
    async fn publish(&self, reservations: &BTreeMap<usize, Reservation>) -> Result<(), Stopped> {
        let now = epoch_ms(SystemTime::now());
        let (mut timers, mut entries) = (Vec::new(), Vec::new());
        for (at, reservation) in reservations {
            for event in &reservation.events {
                match event.kind {
                    EventKind::Timer if is_settled(reservation) => {}
                    EventKind::Timer => timers.push((*at, timer(reservation, now))),
                    EventKind::Created
                    | EventKind::Confirmed
                    | EventKind::Cancelled
                    | EventKind::Expired
                    | EventKind::Failed => entries.push((*at, entry(reservation, event))),
                }
            }
        }
        let (timers_at, timers): (Vec<usize>, Vec<Delayed>) = timers.into_iter().unzip();
        let (entries_at, entries): (Vec<usize>, Vec<Entry>) = entries.into_iter().unzip();
        let (sent, put) = tokio::join!(self.expiries.send_all(&timers), self.bus.put_all(&entries));

        let mut again: BTreeMap<usize, String> = BTreeMap::new();
        let mut refused: BTreeSet<usize> = BTreeSet::new();
        for (at, result) in timers_at.into_iter().zip(sent) {
            if let Err(error) = result {
                again.insert(at, format!("send the timer: {error}"));
            }
        }
        for ((at, entry), result) in entries_at.into_iter().zip(&entries).zip(put) {
            match result {
                Ok(()) => {}
                Err(Unavailable::Untaken(cause)) => {
                    again.insert(at, format!("publish {}: {cause}", entry.detail_type));
                }
                // It would stand in the way of all that follow. It stays marked, so that the sweep tries it again.
                Err(error @ Unavailable::Refused(_)) => {
                    let (reservation_id, detail_type) = (&reservations[&at].id, entry.detail_type);
                    error!(reservation_id, detail_type, error = %error, "an event stays unpublished");
                    refused.insert(at);
                }
            }
        }
        let told = reservations.iter().filter(|(at, _)| !again.contains_key(at) && !refused.contains(at));
        let told: Vec<(String, u64)> =
            told.map(|(_, reservation)| (reservation.id.clone(), reservation.version)).collect();
        let clearing = stream::iter(told).map(|(id, version)| self.clear(id, version));
        clearing.buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
        again.into_iter().next().map_or(Ok(()), |(at, cause)| Err(Stopped { at, cause }))
    }

    /// Forgets what is published. Where that fails, the sweep publishes it once more.
    async fn clear(&self, id: String, version: u64) {
        if let Err(error) = self.table.clear(&id, version).await {
            warn!(reservation_id = id, error = %error, "published events are still marked");
        }
    }
}

impl Follower for Relay {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn probe(&self) -> Result<(), ConfigError> {
        probe::table(self.name, "RESERVATIONS_TABLE", self.table.probe()).await
    }

    async fn follow(&self, changes: &[Change], deadline: Deadline) -> Result<(), Stopped> {
        // The last change of a reservation has all of its events.
        let mut last: BTreeMap<String, (usize, Reservation)> = BTreeMap::new();
        for (at, change) in changes.iter().enumerate() {
            let Some(item) = change.item.clone() else { continue };
            match serde_dynamo::from_item::<_, Reservation>(item) {
                Ok(reservation) if reservation.events.is_empty() => {}
                Ok(reservation) => {
                    last.insert(reservation.id.clone(), (at, reservation));
                }
                // It would stand in the way of all that follow.
                Err(fault) => {
                    let reservation_id = change.item.as_ref().and_then(id_of);
                    error!(reservation_id, error = %fault, "a reservation can't be read, and its events stay unpublished");
                }
            }
        }
        let reservations: BTreeMap<usize, Reservation> = last.into_values().collect();
        match tokio::time::timeout(deadline.spare(), self.publish(&reservations)).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let at = reservations.keys().next().copied().unwrap_or_default();
                Err(Stopped { at, cause: "the time of the invocation was over".to_owned() })
            }
        }
    }
}

/// The id in an item that can't be read whole.
fn id_of(item: &Item) -> Option<&str> {
    if let AttributeValue::S(id) = item.get(ID)? { Some(id) } else { None }
}

/// Whether nothing is left to be done when its time is over.
fn is_settled(reservation: &Reservation) -> bool {
    match &reservation.status {
        Status::Confirmed | Status::Cancelled | Status::Failed | Status::Refunded => true,
        Status::Pending | Status::Hold | Status::Expired | Status::Other(_) => false,
    }
}

/// The message that says that a hold has run out, to be delivered when it has: an event as producers send it.
fn timer(reservation: &Reservation, now: u64) -> Delayed {
    let body = json!({
        "version": "0",
        "id": format!("{}#{}", reservation.id, reservation.version),
        "detail-type": "reservation.expired",
        "source": TIMER_SOURCE,
        "time": moment(now),
        "detail": {
            "reservation_id": reservation.id,
            "event_id": reservation.show_id,
            "user_id": reservation.user_id,
            "seat_ids": reservation.seat_ids,
            "qty": reservation.quantity,
            "expires_at": moment(reservation.hold_expires_at),
            "trace_id": reservation.trace_id,
        },
    });
    Delayed { body: body.to_string(), delay: Duration::from_millis(reservation.hold_expires_at.saturating_sub(now)) }
}

/// What has happened, as others read it. What is not known is left out.
fn entry(reservation: &Reservation, event: &Event) -> Entry {
    let Reservation { payment_intent_id, order_id, amount, currency, queue_item_id, trace_id, .. } = reservation;
    let mut detail = json!({
        "reservation_id": reservation.id,
        "event_id": reservation.show_id,
        "user_id": reservation.user_id,
        "seat_ids": reservation.seat_ids,
        "qty": reservation.quantity,
        "status": reservation.status.name(),
        "version": event.n,
        "hold_expires_at": moment(reservation.hold_expires_at),
        "by": event.by.name(),
        "occurred_at": moment(event.at),
        "idempotency_key": format!("{}#{}", reservation.id, event.n),
    });
    let known: Map<String, Value> = [
        ("payment_intent_id", payment_intent_id.clone().map(Value::from)),
        ("order_id", order_id.clone().map(Value::from)),
        ("amount", amount.map(Value::from)),
        ("currency", currency.clone().map(Value::from)),
        ("queue_item_id", queue_item_id.clone().map(Value::from)),
        ("trace_id", trace_id.clone().map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    if let Some(fields) = detail.as_object_mut() {
        fields.extend(known);
    }
    Entry { detail_type: event.kind.name(), detail }
}
