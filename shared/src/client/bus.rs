//! The event bus: events are put on it, and only the bus's own word says that one is there.

use aws_sdk_eventbridge::{
    Client,
    types::{PutEventsRequestEntry, PutEventsResultEntry},
};

use super::aws::fault;
use crate::failure::quoted;

/// The `source` of our events.
pub const SOURCE: &str = "holdfast";

/// The bus takes ten events in one call.
const MOST: usize = 10;

/// The codes by which the bus says that it will never take an entry as it is.
const NEVER: [&str; 4] =
    ["InvalidArgument", "MalformedDetail", "NotAuthorizedForDetailTypeException", "NotAuthorizedForSourceException"];

/// The bus that our events go to.
#[derive(Debug, Clone)]
pub struct EventBus {
    client: Client,
    name: String,
}

/// The event is not on the bus, or nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The bus will never take it as it is.
    #[error("the bus refuses the event: {0}")]
    Refused(String),
    /// Anything else; a repeat may succeed.
    #[error("{0}")]
    Untaken(String),
}

/// An event to put on the bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What has happened.
    pub detail_type: &'static str,
    /// To what, and how.
    pub detail: serde_json::Value,
}

impl EventBus {
    /// The bus with this name or ARN.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// Puts one event on the bus. `Ok`: it is there. It takes as long as one call to AWS.
    ///
    /// # Errors
    /// It is not there, or nobody knows.
    pub async fn put(&self, detail_type: &'static str, detail: serde_json::Value) -> Result<(), Unavailable> {
        self.put_group(&[Entry { detail_type, detail }]).await?.pop().unwrap_or_else(|| Err(unsaid()))
    }

    /// Puts events on the bus, in as few calls as it allows. The results are in their order; `Ok`: it is there.
    pub async fn put_all(&self, entries: &[Entry]) -> Vec<Result<(), Unavailable>> {
        let mut results = Vec::with_capacity(entries.len());
        for group in entries.chunks(MOST) {
            match self.put_group(group).await {
                Ok(put) => results.extend(put),
                Err(error) => results.extend(group.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }

    async fn put_group(&self, group: &[Entry]) -> Result<Vec<Result<(), Unavailable>>, Unavailable> {
        let mut call = self.client.put_events();
        for Entry { detail_type, detail } in group {
            let entry = PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(SOURCE)
                .detail_type(*detail_type)
                .detail(detail.to_string());
            call = call.entries(entry.build());
        }
        let answer = call.send().await.map_err(|error| Unavailable::Untaken(fault(&error)))?;
        // A failed entry comes inside a successful answer, and only the bus itself gives an entry its id.
        if answer.entries().len() != group.len() {
            return Err(unsaid());
        }
        let result = |entry: &PutEventsResultEntry| match (entry.error_code(), entry.event_id()) {
            (None, Some(id)) if !id.is_empty() => Ok(()),
            (None, _) => Err(unsaid()),
            (Some(code), _) => {
                let text = format!("{code}: {}", entry.error_message().unwrap_or_default());
                let text = quoted(&text).into_owned();
                Err(if NEVER.contains(&code) { Unavailable::Refused(text) } else { Unavailable::Untaken(text) })
            }
        };
        Ok(answer.entries().iter().map(result).collect())
    }
}

fn unsaid() -> Unavailable {
    Unavailable::Untaken("the bus's answer does not say that it has the entry".to_owned())
}
