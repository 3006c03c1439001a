//! From a message body to an event that can be trusted: every form that producers in the field send, one type out.
//!
//! | form | type in | ids in | the rest in |
//! | --- | --- | --- | --- |
//! | EventBridge envelope (canonical) | `detail-type` | `detail` | `detail` |
//! | W2, an older envelope | `type` | `detail` | `detail` |
//! | W1, the oldest envelope | `type` | top level | `payload` |
//! | PAY, a payment service's own | `detail-type` "Payment Status Updated" and `detail.status` | `detail` | `detail` |
//!
//! Names may be camelCase, and numbers may be strings.

mod fields;

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use self::fields::Fields;
use crate::{failure::Failure, idempotency::Key};

/// The code of a body that is no JSON object.
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
    /// When a hold ends, as far as the producer says.
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
    /// In the currency's minor unit; an approval always has it.
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
        let envelope = object(body)?;
        let Some(event_type) = event_type(&envelope) else {
            return Err(Failure::permanent(UNKNOWN_TYPE, unknown_type(own, type_name(&envelope))));
        };
        if event_type != own {
            return Err(Failure::permanent(UNKNOWN_TYPE, unknown_type(own, Some(event_type.name()))));
        }
        let fields = Fields::of(&envelope)?;
        let payment = match own {
            EventType::ReservationExpired => None,
            EventType::PaymentApproved => {
                Some(Payment { amount: Some(fields.amount()?.required("amount")?), ..payment(&fields)? })
            }
            EventType::PaymentFailed => Some(payment(&fields)?),
        };
        let seat_ids = fields.seats()?;
        let quantity = fields.quantity(seat_ids.len())?;
        Ok(Self {
            event_type,
            reservation_id: fields.id(&["reservation_id", "reservationId"])?.required("reservation_id")?,
            payment,
            event_id: fields.id(&["event_id", "eventId"])?,
            seat_ids,
            quantity,
            user_id: fields.text(&["user_id", "userId"]),
            expires_at: fields.time(&["expires_at", "expiresAt"])?,
            trace_id: fields.text(&["trace_id", "traceId"]).or_else(|| text_of(&envelope, "trace_id")),
            traceparents: [text_of(&envelope, "traceparent"), fields.text(&["traceparent"])],
            baggages: [text_of(&envelope, "baggage"), fields.text(&["baggage"])],
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

fn payment(fields: &Fields<'_>) -> Result<Payment, Failure> {
    let names = ["payment_intent_id", "paymentIntentId", "payment_id", "paymentId"];
    let intent_id = fields.id(&names)?.required("payment_intent_id")?;
    Ok(Payment { intent_id, amount: fields.amount()?, currency: fields.text(&["currency"]) })
}

fn object(body: &str) -> Result<Map<String, Value>, Failure> {
    if body.trim().is_empty() {
        return Err(Failure::permanent(MALFORMED_BODY, "the body is empty"));
    }
    match serde_json::from_str(body) {
        Ok(Value::Object(envelope)) => Ok(envelope),
        Ok(_) => Err(Failure::permanent(MALFORMED_BODY, "the body is JSON, but not an object")),
        Err(error) => Err(Failure::permanent(MALFORMED_BODY, format!("the body is not JSON: {error}"))),
    }
}

fn type_name(envelope: &Map<String, Value>) -> Option<&str> {
    envelope.get("detail-type").or_else(|| envelope.get("type"))?.as_str()
}

fn event_type(envelope: &Map<String, Value>) -> Option<EventType> {
    match type_name(envelope)? {
        "reservation.expired" | "reservation.hold.expired" => Some(EventType::ReservationExpired),
        "payment.approved" => Some(EventType::PaymentApproved),
        "payment.failed" => Some(EventType::PaymentFailed),
        "Payment Status Updated" => match envelope.get("detail")?.get("status")?.as_str()? {
            "PAYMENT_STATUS_COMPLETED" | "PAYMENT_STATUS_APPROVED" | "COMPLETED" | "APPROVED" => {
                Some(EventType::PaymentApproved)
            }
            "PAYMENT_STATUS_FAILED" | "FAILED" => Some(EventType::PaymentFailed),
            _ => None,
        },
        _ => None,
    }
}

fn unknown_type(own: EventType, found: Option<&str>) -> String {
    let own = own.name();
    match found {
        Some("Payment Status Updated") => {
            format!(
                "this function settles {own}, and the payment's status is none that it knows; check the rule's pattern"
            )
        }
        Some(found) => format!(
            "this function settles {own}, not {:?}; check the rule that routes it here",
            crate::failure::quoted(found)
        ),
        None => format!("this function settles {own}, and the event has no detail-type"),
    }
}

fn text_of(envelope: &Map<String, Value>, name: &str) -> Option<String> {
    envelope.get(name)?.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests;
