//! The request to pay a customer back, published on the event bus when a payment came too late.

use std::time::Duration;

use aws_sdk_eventbridge::Client;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Done, Outcome,
    lost_race::{Lost, LostRace},
};
use crate::{
    client::{
        aws::CALL_TIMEOUT,
        bus::{EventBus, Unavailable},
    },
    failure::Failure,
    name::names,
    start::Parts,
};

/// The `detail-type` of the request.
pub const DETAIL_TYPE: &str = "payment.refund_requested";

names! {
    /// The codes of events that are rejected here.
    pub enum ErrorCode {
        /// A late approval that nobody could be told about.
        RefundNotDeliverable = "refund_not_deliverable",
    }
}

/// Why the request is not on the bus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no bus.
    #[error("a refund is due, and EVENT_BUS_NAME is not set; set it, or refund by hand and delete the message")]
    NoBus,
    /// The bus did not take it.
    #[error("publish the refund request: {0}")]
    Unavailable(#[from] Unavailable),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NoBus => Self::permanent(ErrorCode::RefundNotDeliverable, message),
            Error::Unavailable(_) => Self::transient(message),
        }
    }
}

/// Publishes refund requests. The payment of a lost race bought nothing, so its customer gets the money back.
#[derive(Debug, Clone)]
pub struct RefundPublisher {
    bus: Option<EventBus>,
}

impl RefundPublisher {
    /// Without a `bus`, every request is refused.
    pub fn new(bus: Option<EventBus>) -> Self {
        Self { bus }
    }
}

impl LostRace for RefundPublisher {
    const OUTCOME: Outcome = Outcome::LateApproval;

    /// The bus that `EVENT_BUS_NAME` names.
    fn configured(parts: &mut Parts<'_>) -> Self {
        let name = parts.reader.optional("EVENT_BUS_NAME");
        Self::new(name.map(|name| EventBus::new(Client::new(parts.aws), name)))
    }

    fn budget(&self) -> Duration {
        CALL_TIMEOUT
    }

    /// `Ok`: the request is on the bus. A repeat of it carries the same key, so that its consumer can tell one.
    async fn follow(&self, lost: Lost<'_>) -> Result<Done, Failure> {
        let Lost { event, status, paid_twice, show_id, key, trace } = lost;
        let bus = self.bus.as_ref().ok_or(Error::NoBus)?;
        let status_name = status.name();
        let reason =
            if paid_twice { "paid_twice".to_owned() } else { format!("reservation_{}", status_name.to_lowercase()) };
        let payment = event.payment.as_ref();
        let detail = json!({
            "reservation_id": event.reservation_id,
            "payment_intent_id": payment.map(|payment| payment.intent_id.as_str()),
            "amount": payment.and_then(|payment| payment.amount),
            "currency": payment.and_then(|payment| payment.currency.as_deref()),
            "reservation_status": status_name,
            "reason": reason,
            "event_id": show_id.or(event.holding.show_id.as_deref()),
            "trace_id": event.trace_id.as_deref().or_else(|| trace.trace_id()),
            "requested_at": OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            "idempotency_key": key.step("refund"),
        });
        bus.put(DETAIL_TYPE, detail).await.map_err(Error::Unavailable)?;
        Ok(Done::noted(Self::OUTCOME, format!("refund requested: {reason}")))
    }
}
