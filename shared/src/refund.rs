//! The request to pay a customer back, published on the event bus when a payment came too late.

use aws_sdk_eventbridge::{Client, types::PutEventsRequestEntry};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    aws::fault,
    failure::{Failure, quoted},
};

/// The `source` of our events.
pub const SOURCE: &str = "holdfast";
/// The `detail-type` of the request.
pub const DETAIL_TYPE: &str = "payment.refund_requested";
/// The code of a late approval that nobody could be told about.
pub const REFUND_NOT_DELIVERABLE: &str = "refund_not_deliverable";

/// A payment that bought nothing.
#[derive(Debug)]
pub struct Refund<'a> {
    /// The reservation it was for.
    pub reservation_id: &'a str,
    /// The payment.
    pub payment_intent_id: &'a str,
    /// What was paid, in the currency's minor unit.
    pub amount: Option<u64>,
    /// ISO 4217.
    pub currency: Option<&'a str>,
    /// What the reservation is instead.
    pub reservation_status: &'a str,
    /// `reservation_expired`, `paid_twice` and the like.
    pub reason: &'a str,
    /// What the tickets were for.
    pub event_id: Option<&'a str>,
    /// The producer's trace.
    pub trace_id: Option<&'a str>,
    /// The same for every repeat, so that the consumer can tell one.
    pub idempotency_key: &'a str,
}

/// Why the request is not on the bus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no bus.
    #[error("a refund is due, and EVENT_BUS_NAME is not set; set it, or refund by hand and delete the message")]
    NoBus,
    /// The bus did not take it.
    #[error("publish the refund request: {0}")]
    Unavailable(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NoBus => Self::permanent(REFUND_NOT_DELIVERABLE, message),
            Error::Unavailable(_) => Self::transient(message),
        }
    }
}

/// The bus that refund requests go to.
#[derive(Debug, Clone)]
pub struct RefundDesk {
    client: Client,
    bus: Option<String>,
}

impl RefundDesk {
    /// Without a `bus`, every request is refused.
    pub fn new(client: Client, bus: Option<String>) -> Self {
        Self { client, bus }
    }

    /// Publishes a refund request. `Ok`: it is on the bus.
    ///
    /// # Errors
    /// It is not, or nobody knows; a repeat carries the same key.
    pub async fn request(&self, refund: &Refund<'_>) -> Result<(), Error> {
        let bus = self.bus.as_deref().ok_or(Error::NoBus)?;
        let detail = json!({
            "reservation_id": refund.reservation_id,
            "payment_intent_id": refund.payment_intent_id,
            "amount": refund.amount,
            "currency": refund.currency,
            "reservation_status": refund.reservation_status,
            "reason": refund.reason,
            "event_id": refund.event_id,
            "trace_id": refund.trace_id,
            "requested_at": OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            "idempotency_key": refund.idempotency_key,
        });
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(bus)
            .source(SOURCE)
            .detail_type(DETAIL_TYPE)
            .detail(detail.to_string())
            .build();
        let sent = self.client.put_events().entries(entry).send().await;
        let answer = sent.map_err(|error| Error::Unavailable(fault(&error)))?;
        // A failed entry comes inside a successful answer, and only the bus itself gives an entry its id.
        match answer.entries() {
            [entry] if entry.error_code().is_none() && entry.event_id().is_some_and(|id| !id.is_empty()) => Ok(()),
            [entry] if entry.error_code().is_some() => {
                let (code, message) =
                    (entry.error_code().unwrap_or_default(), entry.error_message().unwrap_or_default());
                Err(Error::Unavailable(quoted(&format!("{code}: {message}")).into_owned()))
            }
            _ => Err(Error::Unavailable("the bus's answer does not say that it has the entry".to_owned())),
        }
    }
}
