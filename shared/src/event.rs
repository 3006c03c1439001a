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
    failure::Failure,
    field,
    idempotency::Key,
    json::{Fault, Object},
};

/// The code of a body that is no JSON object, or an ambiguous one.
pub const MALFORMED_BODY: &str = "malformed_body";
/// The code of an event that is not the function's own.
pub const UNKNOWN_TYPE: &str = "unknown_type";
/// The code of a field that is missing or breaks its rule.
pub const INVALID_FIELD: &str = "invalid_field";

/// The events that are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// A hold ran out before it was paid.
    ReservationExpired,
    /// A payment went through.
    PaymentApproved,
    /// A payment did not go through.
    PaymentFailed,
}

impl EventType {
    /// The name in envelopes, keys, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReservationExpired => "reservation.expired",
            Self::PaymentApproved => "payment.approved",
            Self::PaymentFailed => "payment.failed",
        }
    }
}

/// A valid event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub event_type: EventType,
    /// The reservation that it happened to.
    pub reservation_id: String,
    /// The payment, for the two payment events.
    pub payment: Option<Payment>,
    /// What the tickets are for, as far as the producer says.
    pub event_id: Option<String>,
    /// The seats, as far as the producer says.
    pub seat_ids: Vec<String>,
    /// How many tickets, as far as the producer says.
    pub quantity: Option<u32>,
    /// The customer, as far as the producer says.
    pub user_id: Option<String>,
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
    /// In the currency's minor unit. An approval always has it; nothing hangs on that of a failure, so it has none.
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
        let envelope =
            Object::read(body).map_err(|fault| Failure::permanent(MALFORMED_BODY, format!("the body {fault}")))?;
        let event_type = event_type(own, &envelope)?;
        if event_type != own {
            return Err(unknown_type(own, &format!("not {:?}; check the rule that routes it here", event_type.name())));
        }
        let fields = Fields::of(&envelope)?;
        let (payment, expires_at) = match own {
            EventType::ReservationExpired => (None, fields.time(&["expires_at", "expiresAt"])?),
            EventType::PaymentApproved => (Some(payment(&fields, Some(fields.amount()?.required("amount")?))?), None),
            EventType::PaymentFailed => (Some(payment(&fields, None)?), None),
        };
        let seat_ids = fields.seats()?;
        let quantity = fields.quantity(seat_ids.len())?;
        let trace_id = fields.text(&["trace_id", "traceId"], field::trace_id);
        let context = |name| [envelope.text(name), fields.text(&[name], Some)];
        Ok(Self {
            event_type,
            reservation_id: fields.id(&["reservation_id", "reservationId"])?.required("reservation_id")?,
            payment,
            event_id: fields.id(&["event_id", "eventId"])?,
            seat_ids,
            quantity,
            user_id: fields.text(&["user_id", "userId"], field::carried),
            expires_at,
            trace_id: trace_id.or_else(|| field::trace_id(envelope.text("trace_id")?)),
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
    pub fn unchanging(&self) -> String {
        match (self.event_type, &self.payment) {
            (EventType::PaymentApproved, Some(Payment { amount: Some(amount), .. })) => format!("amount={amount}"),
            (EventType::PaymentApproved | EventType::PaymentFailed | EventType::ReservationExpired, _) => String::new(),
        }
    }

    /// How long an expiry is too early. Payments never wait.
    pub fn early_by(&self, now: SystemTime) -> Option<Duration> {
        match self.event_type {
            EventType::ReservationExpired => self.expires_at?.duration_since(now).ok().filter(|wait| !wait.is_zero()),
            EventType::PaymentApproved | EventType::PaymentFailed => None,
        }
    }
}

trait Required<T> {
    fn required(self, name: &str) -> Result<T, Failure>;
}

impl<T> Required<T> for Option<T> {
    fn required(self, name: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::permanent(INVALID_FIELD, format!("{name} is missing")))
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
    match name {
        "reservation.expired" | "reservation.hold.expired" => Ok(EventType::ReservationExpired),
        "payment.approved" => Ok(EventType::PaymentApproved),
        "payment.failed" => Ok(EventType::PaymentFailed),
        "Payment Status Updated" => status_update(own, envelope),
        other => Err(unknown_type(
            own,
            &format!("not {:?}; check the rule that routes it here", crate::failure::quoted(other)),
        )),
    }
}

fn status_update(own: EventType, envelope: &Object<'_>) -> Result<EventType, Failure> {
    let status = match envelope.object("detail") {
        Ok(Some(detail)) => decisive(own, &detail, "status")?,
        Ok(None) | Err(Fault::NotAnObject | Fault::Unreadable(_)) => None,
        Err(fault @ Fault::Ambiguous) => return Err(unusable("detail", &fault)),
    };
    match status.as_ref().and_then(Value::as_str) {
        Some("PAYMENT_STATUS_COMPLETED" | "PAYMENT_STATUS_APPROVED" | "COMPLETED" | "APPROVED") => {
            Ok(EventType::PaymentApproved)
        }
        Some("PAYMENT_STATUS_FAILED" | "FAILED") => Ok(EventType::PaymentFailed),
        Some(_) | None => {
            Err(unknown_type(own, "and the payment's status is none that it knows; check the rule's pattern"))
        }
    }
}

/// A field that says what kind of event this is.
fn decisive(own: EventType, object: &Object<'_>, name: &str) -> Result<Option<Value>, Failure> {
    object.get(name).map_err(|fault| match fault {
        Fault::Ambiguous => unusable(name, &fault),
        Fault::Unreadable(_) | Fault::NotAnObject => unknown_type(own, &format!("and the event's {name} {fault}")),
    })
}

fn unknown_type(own: EventType, found: &str) -> Failure {
    Failure::permanent(UNKNOWN_TYPE, format!("this function settles {}, {found}", own.name()))
}

#[cfg(test)]
mod tests;
