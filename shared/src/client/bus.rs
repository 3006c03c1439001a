//! The event bus: one event is put on it, and only the bus's own word says that it is there.

use aws_sdk_eventbridge::{Client, types::PutEventsRequestEntry};

use super::aws::fault;
use crate::failure::quoted;

/// The `source` of our events.
pub const SOURCE: &str = "holdfast";

/// The bus that our events go to.
#[derive(Debug, Clone)]
pub struct EventBus {
    client: Client,
    name: String,
}

/// The event is not on the bus, or nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

impl EventBus {
    /// The bus with this name or ARN.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// Puts one event on the bus. `Ok`: it is there. It takes as long as one call to AWS.
    ///
    /// # Errors
    /// It is not there, or nobody knows.
    pub async fn put(&self, detail_type: &str, detail: &serde_json::Value) -> Result<(), Unavailable> {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(detail_type)
            .detail(detail.to_string())
            .build();
        let sent = self.client.put_events().entries(entry).send().await;
        let answer = sent.map_err(|error| Unavailable(fault(&error)))?;
        // A failed entry comes inside a successful answer, and only the bus itself gives an entry its id.
        match answer.entries() {
            [entry] if entry.error_code().is_none() && entry.event_id().is_some_and(|id| !id.is_empty()) => Ok(()),
            [entry] if entry.error_code().is_some() => {
                let (code, message) =
                    (entry.error_code().unwrap_or_default(), entry.error_message().unwrap_or_default());
                Err(Unavailable(quoted(&format!("{code}: {message}")).into_owned()))
            }
            _ => Err(Unavailable("the bus's answer does not say that it has the entry".to_owned())),
        }
    }
}
