//! What others are told of a booking whose room was taken: that its payment is to be paid back, and that it is refused, so that
//! the service which promised the room can tell the guest.

use std::time::Duration;

use aws_sdk_eventbridge::Client;
use futures_util::{StreamExt, stream};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    ErrorCode,
    event::{Created, EventType},
    recorder::Entry,
};
use crate::{
    client::{
        aws::CALL_TIMEOUT,
        bus::{self, EventBus},
    },
    failure::Failure,
    idempotency::Key,
    name::Named,
    start::Parts,
};

/// The `detail-type` of the request to pay back.
pub const REFUND_REQUESTED: &str = "payment.refund_requested";

/// The `detail-type` of the news that a booking is refused.
pub const REFUSED: &str = "booking.refused";

/// Why: the room is another's.
const REASON: &str = "room_unavailable";

/// A refusal is two events at most, and the bus takes ten of them in one call.
const IN_ONE_CALL: usize = 5;

/// How many calls are made at a time: those of a hundred bookings, the most that a batch of Kafka has by the template.
const SIDE_BY_SIDE: usize = 20;

/// Tells others of refused bookings.
#[derive(Debug)]
pub struct Refusals {
    bus: Option<EventBus>,
}

/// A refused booking.
#[derive(Debug)]
pub struct Refusal {
    booking_id: String,
    is_paid: bool,
    events: Vec<bus::Entry>,
}

impl Refusal {
    /// The refusal of this booking.
    pub fn of(entry: &Entry<Created>) -> Self {
        let Entry { event, trace_id, .. } = entry;
        let key = Key::of(&[EventType::Created.name(), &event.booking_id]);
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let refund = event.payment_id.as_ref().map(|payment_id| bus::Entry {
            detail_type: REFUND_REQUESTED,
            detail: json!({
                "booking_id": event.booking_id,
                "payment_intent_id": payment_id,
                // The event has no amount: all of it is meant.
                "amount": null,
                "currency": null,
                "reason": REASON,
                "trace_id": trace_id,
                "requested_at": now,
                "idempotency_key": key.step("refund"),
            }),
        });
        let refused = bus::Entry {
            detail_type: REFUSED,
            detail: json!({
                "booking_id": event.booking_id,
                "room_id": event.room,
                "start_date": event.stay.start_date.to_string(),
                "end_date": event.stay.end_date.to_string(),
                "reason": REASON,
                "trace_id": trace_id,
                "refused_at": now,
                "idempotency_key": key.step("refused"),
            }),
        };
        let is_paid = refund.is_some();
        Self { booking_id: event.booking_id.clone(), is_paid, events: refund.into_iter().chain([refused]).collect() }
    }
}

impl Refusals {
    /// The longest that [`Refusals::tell`] takes.
    pub const BUDGET: Duration = CALL_TIMEOUT;

    /// The bus that `EVENT_BUS_NAME` names.
    pub fn configured(parts: &mut Parts<'_>) -> Self {
        let name = parts.reader.optional("EVENT_BUS_NAME");
        Self { bus: name.map(|name| EventBus::new(Client::new(parts.aws), name)) }
    }

    /// Tells of refused bookings, in calls side by side. `Ok`: all of it is on the bus, and this is what it was. A repeat
    /// carries the same keys.
    pub async fn tell(&self, refusals: impl Iterator<Item = Refusal>) -> Vec<(String, Result<&'static str, Failure>)> {
        let refusals: Vec<Refusal> = refusals.collect();
        let calls: Vec<_> = refusals.chunks(IN_ONE_CALL).map(|group| self.tell_group(group)).collect();
        stream::iter(calls).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>().await.into_iter().flatten().collect()
    }

    async fn tell_group(&self, group: &[Refusal]) -> Vec<(String, Result<&'static str, Failure>)> {
        let Some(bus) = &self.bus else {
            return group.iter().map(|refusal| (refusal.booking_id.clone(), without_a_bus(refusal))).collect();
        };
        let events: Vec<bus::Entry> = group.iter().flat_map(|refusal| refusal.events.iter().cloned()).collect();
        told(group, &bus.put_all(&events).await)
    }
}

/// What became of each refusal, by the bus's word on the events of all, which stand in the same order.
fn told(group: &[Refusal], mut put: &[Result<(), bus::Unavailable>]) -> Vec<(String, Result<&'static str, Failure>)> {
    let told = |refusal: &Refusal| {
        let (own, rest) = put.split_at(refusal.events.len().min(put.len()));
        put = rest;
        let told = match own.iter().find_map(|result| result.as_ref().err()) {
            None if own.len() < refusal.events.len() => {
                Err(Failure::transient("the room is taken, and the bus does not say that it has the news"))
            }
            None if refusal.is_paid => Ok("the room is taken; a refund was requested"),
            None => Ok("the room is taken; nothing was paid"),
            Some(fault) => Err(Failure::transient(format!(
                "the room is taken, and not all of its events could be published: {fault}"
            ))),
        };
        (refusal.booking_id.clone(), told)
    };
    group.iter().map(told).collect()
}

fn without_a_bus(refusal: &Refusal) -> Result<&'static str, Failure> {
    if !refusal.is_paid {
        return Ok("the room is taken; nothing was paid, and there is no bus to tell others by");
    }
    Err(Failure::permanent(
        ErrorCode::RefundNotDeliverable,
        "the room is taken and a refund is due, and EVENT_BUS_NAME is not set; set it, or refund by hand and delete the message",
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::booking::event::BookingEvent;

    #[track_caller]
    fn refusal(id: &str, payment: Value) -> Refusal {
        let body = json!({
            "bookingId": id, "userId": "jane@example.com", "roomId": "101", "guests": 2, "startDate": "2026-06-10",
            "endDate": "2026-06-12", "paymentId": payment,
        });
        let event = Created::parse(&body.to_string()).unwrap();
        Refusal::of(&Entry { event, source: "sqs".to_owned(), trace_id: Some("t-1".to_owned()) })
    }

    #[track_caller]
    fn events(payment: Value) -> Vec<bus::Entry> {
        refusal("b#1", payment).events
    }

    #[test]
    fn each_refusal_is_told_by_the_results_of_its_own_events_wherever_the_bus_took_only_some() {
        let group = [refusal("a", json!("pi_1")), refusal("b", Value::Null), refusal("c", json!("pi_3"))];
        let lost = || bus::Unavailable::Untaken("it has no room".to_owned());
        // All answers of the bus to five events, of which a has two, b one and c two.
        for answer in 0..1_u32 << 5 {
            let is_put = |event: u32| answer & 1 << event != 0;
            let put: Vec<_> = (0..5).map(|event| is_put(event).then_some(()).ok_or_else(lost)).collect();
            let ended = told(&group, &put).into_iter().map(|(id, told)| (id, told.is_ok())).collect::<Vec<_>>();
            let expected = [("a", is_put(0) && is_put(1)), ("b", is_put(2)), ("c", is_put(3) && is_put(4))];
            assert_eq!(ended, expected.map(|(id, is_told)| (id.to_owned(), is_told)), "{answer:05b}");
        }
        let too_few = told(&group, &[Ok(()), Ok(())]);
        assert_eq!(too_few.iter().map(|(_, told)| told.is_ok()).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn a_refusal_is_told_with_keys_that_a_repeat_has_too_and_names_no_person() {
        let (first, second) = (events(json!("pi_1")), events(json!("pi_1")));
        for events in [&first, &second] {
            let [refund, refused] = events.as_slice() else { panic!("{events:?}") };
            assert_eq!((refund.detail_type, refused.detail_type), (REFUND_REQUESTED, REFUSED));
            assert_eq!(refund.detail["idempotency_key"], "booking.created#b%231#refund");
            assert_eq!(refused.detail["idempotency_key"], "booking.created#b%231#refused");
            assert_eq!(refund.detail["payment_intent_id"], "pi_1");
            assert_eq!(
                (&refund.detail["amount"], &refund.detail["reason"]),
                (&Value::Null, &json!("room_unavailable"))
            );
            assert_eq!(
                (&refused.detail["start_date"], &refused.detail["end_date"]),
                (&json!("2026-06-10"), &json!("2026-06-12"))
            );
            assert!(!format!("{events:?}").contains("jane"), "{events:?}");
        }
    }

    #[test]
    fn nothing_is_paid_back_that_was_not_paid() {
        for payment in [Value::Null, json!("")] {
            let events = events(payment);
            assert_eq!(events.iter().map(|event| event.detail_type).collect::<Vec<_>>(), [REFUSED]);
        }
    }
}
