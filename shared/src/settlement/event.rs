//! From a message body to an event that can be trusted: every form that producers in the field send, one type out.
//!
//! | form | type in | ids in | the rest in |
//! | --- | --- | --- | --- |
//! | EventBridge envelope (canonical) | `detail-type` | `detail` | `detail` |
//! | W2, an older envelope | `type` | `detail` | `detail` |
//! | W1, the oldest envelope | `type` | top level | `payload` |
//! | PAY, a payment service's own | `detail-type` "Payment Status Updated" and `detail.status` | `detail` | `detail` |
//!
//! Names may be camelCase, and numbers may be strings. A form that has what it needs is read as itself: `detail-type` goes
//! before `type`, `detail` before `payload`, and a payment's intent id before its payment id.
//!
//! What is not read is not judged, and what is only carried on is left out when it is odd.

mod fields;

use std::time::{Duration, SystemTime};

use serde_json::Value;

use self::fields::{Fields, unusable};
use crate::{
    failure::{Failure, quoted},
    field,
    idempotency::Key,
    json::{Fault, Object},
    name::{Named, names},
    reservation::Holding,
    telemetry::trace,
};

names! {
    /// The codes of bodies that hold no valid event.
    pub enum ErrorCode {
        /// The body is no JSON object, or an ambiguous one.
        MalformedBody = "malformed_body",
        /// The event is not the function's own.
        UnknownType = "unknown_type",
        /// A field is missing or breaks its rule.
        InvalidField = "invalid_field",
    }
}

names! {
    /// The events that are settled, by their names in envelopes, keys, logs and metrics.
    pub enum EventType {
        /// A hold ran out before it was paid.
        ReservationExpired = "reservation.expired",
        /// A payment went through.
        PaymentApproved = "payment.approved",
        /// A payment did not go through.
        PaymentFailed = "payment.failed",
        /// A customer gave the reservation up.
        ReservationCancelled = "reservation.cancelled",
        /// A customer confirmed the reservation, which is paid.
        ReservationConfirmed = "reservation.confirmed",
    }
}

impl EventType {
    /// Whether the event is one of a payment, and names it.
    pub fn is_of_a_payment(self) -> bool {
        match self {
            Self::PaymentApproved | Self::PaymentFailed | Self::ReservationConfirmed => true,
            Self::ReservationExpired | Self::ReservationCancelled => false,
        }
    }
}

/// The detail-types that say themselves what happened.
pub const DETAIL_TYPES: [(&str, EventType); 6] = [
    ("reservation.expired", EventType::ReservationExpired),
    ("reservation.hold.expired", EventType::ReservationExpired),
    ("payment.approved", EventType::PaymentApproved),
    ("payment.failed", EventType::PaymentFailed),
    ("reservation.cancelled", EventType::ReservationCancelled),
    ("reservation.confirmed", EventType::ReservationConfirmed),
];

/// The detail-type of a payment whose status says what happened.
pub const STATUS_UPDATE: &str = "Payment Status Updated";

/// The statuses of such a payment.
pub const PAYMENT_STATUSES: [(&str, EventType); 6] = [
    ("PAYMENT_STATUS_COMPLETED", EventType::PaymentApproved),
    ("PAYMENT_STATUS_APPROVED", EventType::PaymentApproved),
    ("COMPLETED", EventType::PaymentApproved),
    ("APPROVED", EventType::PaymentApproved),
    ("PAYMENT_STATUS_FAILED", EventType::PaymentFailed),
    ("FAILED", EventType::PaymentFailed),
];

/// A valid event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub event_type: EventType,
    /// The reservation that it happened to.
    pub reservation_id: String,
    /// The payment, for an event of one.
    pub payment: Option<Payment>,
    /// What the reservation holds, as far as the producer says.
    pub holding: Holding,
    /// When a hold ends, as far as the producer says. Only an expiry has it.
    pub expires_at: Option<SystemTime>,
    /// The producer's own name for the trace.
    pub trace_id: Option<String>,
    /// `traceparent` of the envelope, then of the detail.
    pub traceparents: [Option<String>; 2],
    /// `baggage` of the envelope, then of the detail.
    pub baggages: [Option<String>; 2],
}

/// The payment of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The payment's id.
    pub intent_id: String,
    /// In the currency's minor unit. An approval always has it; nothing hangs on that of another event, so it has none.
    pub amount: Option<u64>,
    /// ISO 4217.
    pub currency: Option<String>,
}

impl Event {
    /// Reads the body of a message that must hold an event of type `own`.
    ///
    /// # Errors
    /// Permanent: a body that is wrong once is wrong forever.
    pub fn parse(own: EventType, body: &str) -> Result<Self, Failure> {
        let envelope = Object::read(body)
            .map_err(|fault| Failure::permanent(ErrorCode::MalformedBody, format!("the body {fault}")))?;
        let event_type = event_type(own, &envelope)?;
        if event_type != own {
            return Err(unknown_type(own, &format!("not {:?}; check the rule that routes it here", event_type.name())));
        }
        let fields = Fields::of(&envelope)?;
        let (payment, expires_at) = match own {
            EventType::ReservationExpired => (None, fields.time(&["expires_at", "expiresAt"])?),
            EventType::PaymentApproved => (Some(payment(&fields, Some(fields.amount()?.required("amount")?))?), None),
            EventType::PaymentFailed | EventType::ReservationConfirmed => (Some(payment(&fields, None)?), None),
            EventType::ReservationCancelled => (None, None),
        };
        let seat_ids = fields.seats()?;
        let quantity = fields.quantity(seat_ids.len())?;
        let trace_id = fields.text(&["trace_id", "traceId"], trace::foreign_id);
        let context = |name| [envelope.text(name), fields.text(&[name], Some)];
        Ok(Self {
            event_type,
            reservation_id: fields.id(&["reservation_id", "reservationId"])?.required("reservation_id")?,
            payment,
            holding: Holding {
                show_id: fields.id(&["event_id", "eventId"])?,
                user_id: fields.text(&["user_id", "userId"], field::carried),
                seat_ids,
                quantity,
            },
            expires_at,
            trace_id: trace_id.or_else(|| trace::foreign_id(envelope.text("trace_id")?)),
            traceparents: context("traceparent"),
            baggages: context("baggage"),
        })
    }

    /// The business identity: the same however often a producer sends the event.
    pub fn key(&self) -> Key {
        let name = self.event_type.name();
        match &self.payment {
            None => Key::of(&[name, &self.reservation_id]),
            Some(payment) => Key::of(&[name, &self.reservation_id, &payment.intent_id]),
        }
    }

    /// What must be the same in every event under one key, as text. Only an approval has such a thing, its amount; what
    /// some producers leave out is not part of it.
    pub fn fingerprint(&self) -> String {
        match (self.event_type, &self.payment) {
            (EventType::PaymentApproved, Some(Payment { amount: Some(amount), .. })) => format!("amount={amount}"),
            (
                EventType::PaymentApproved
                | EventType::PaymentFailed
                | EventType::ReservationExpired
                | EventType::ReservationCancelled
                | EventType::ReservationConfirmed,
                _,
            ) => String::new(),
        }
    }

    /// How long an expiry is too early. Nothing else waits.
    pub fn early_by(&self, now: SystemTime) -> Option<Duration> {
        match self.event_type {
            EventType::ReservationExpired => self.expires_at?.duration_since(now).ok().filter(|wait| !wait.is_zero()),
            EventType::PaymentApproved
            | EventType::PaymentFailed
            | EventType::ReservationCancelled
            | EventType::ReservationConfirmed => None,
        }
    }
}

trait Required<T> {
    fn required(self, name: &str) -> Result<T, Failure>;
}

impl<T> Required<T> for Option<T> {
    fn required(self, name: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::permanent(ErrorCode::InvalidField, format!("{name} is missing")))
    }
}

fn payment(fields: &Fields<'_>, amount: Option<u64>) -> Result<Payment, Failure> {
    // A payment service has an id of its own for what the intent became, so the two may well differ.
    let intent_id = match fields.id(&["payment_intent_id", "paymentIntentId"])? {
        Some(intent_id) => intent_id,
        None => fields.id(&["payment_id", "paymentId"])?.required("payment_intent_id")?,
    };
    Ok(Payment { intent_id, amount, currency: fields.text(&["currency"], field::carried) })
}

fn event_type(own: EventType, envelope: &Object<'_>) -> Result<EventType, Failure> {
    let name = match decisive(own, envelope, "detail-type")? {
        Some(name) => Some(name),
        None => decisive(own, envelope, "type")?,
    };
    let name = name.as_ref().and_then(Value::as_str);
    let name = name.ok_or_else(|| unknown_type(own, "and the event has no detail-type"))?;
    if name == STATUS_UPDATE {
        return status_update(own, envelope);
    }
    named(name, &DETAIL_TYPES)
        .ok_or_else(|| unknown_type(own, &format!("not {:?}; check the rule that routes it here", quoted(name))))
}

/// What a table says of a name.
fn named(name: &str, table: &[(&str, EventType)]) -> Option<EventType> {
    table.iter().find(|(known, _)| *known == name).map(|(_, event_type)| *event_type)
}

fn status_update(own: EventType, envelope: &Object<'_>) -> Result<EventType, Failure> {
    let status = match envelope.object("detail") {
        Ok(Some(detail)) => decisive(own, &detail, "status")?,
        Ok(None) | Err(Fault::NotAnObject | Fault::Unreadable(_)) => None,
        Err(fault @ Fault::Ambiguous) => return Err(unusable("detail", &fault)),
    };
    let known = status.as_ref().and_then(Value::as_str).and_then(|status| named(status, &PAYMENT_STATUSES));
    known.ok_or_else(|| unknown_type(own, "and it does not know the payment's status; check the rule's pattern"))
}

/// A field that says what kind of event this is.
fn decisive(own: EventType, object: &Object<'_>, name: &str) -> Result<Option<Value>, Failure> {
    object.get(name).map_err(|fault| match fault {
        Fault::Ambiguous => unusable(name, &fault),
        Fault::Unreadable(_) | Fault::NotAnObject => unknown_type(own, &format!("and the event's {name} {fault}")),
    })
}

fn unknown_type(own: EventType, found: &str) -> Failure {
    Failure::permanent(ErrorCode::UnknownType, format!("this function settles {}, {found}", own.name()))
}

#[cfg(test)]
mod tests;
