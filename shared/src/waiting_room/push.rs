//! A push to the pages that a customer has open: that they should look now. It says what happened and nothing of the place, and
//! it carries no right, so that one that is lost, late, doubled or forged changes nobody's place. The page asks.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::timeout;
use tracing::warn;

use super::{
    id::PlaceId,
    measured::{PUSHES, Pushed},
    table::{MOST_CONNECTIONS, Table},
};
use crate::{
    client::{
        aws::CALL_TIMEOUT,
        connections::{ConnectionsClient, Posted},
    },
    config::ConfigError,
    deadline::epoch_ms,
    name::{Named, names},
    start::{Parts, probe},
    telemetry::metrics::{Metrics, Recorder},
};

names! {
    /// What a push says.
    pub enum Kind {
        /// It is his turn.
        Called = "called",
        /// He did not answer in time.
        Passed = "passed",
    }
}

/// Whom a push has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// One page at least.
    BySomebody,
    /// None, because no page is open.
    ByNobody,
    /// Nobody knows, because a push failed. It is in the log.
    Unknown,
}

/// Pushes to pages.
#[derive(Debug)]
pub struct Push {
    table: Table,
    connections: ConnectionsClient,
    metrics: Metrics,
}

impl Push {
    /// As `PUSH_API_BASE`, `PUSH_TIMEOUT_MS` and `WAITING_ROOM_TABLE` say. Nothing: the first is not set, or what is wrong is
    /// noted.
    pub fn if_configured(parts: &mut Parts<'_>) -> Option<Self> {
        let connections = ConnectionsClient::if_configured(&mut parts.reader, parts.aws)?;
        let table = Table::configured(&mut parts.reader, parts.aws);
        let metrics = parts.metrics.clone();
        Some(Self { table, connections, metrics })
    }

    /// The longest that one push takes: to find the connections, to post to them, and to forget who is gone. What is not
    /// forgotten by then is found gone again.
    pub fn budget(&self) -> Duration {
        CALL_TIMEOUT * 2 + self.connections.timeout()
    }

    /// Looks whether the table is fit.
    ///
    /// # Errors
    /// What no waiting can mend.
    pub async fn probe(&self, name: &str) -> Result<(), ConfigError> {
        probe::table(name, "WAITING_ROOM_TABLE", self.table.probe_connections()).await
    }

    /// Tells the pages of a place to look. What fails is counted and written down, and fails nothing.
    pub async fn tell(&self, id: PlaceId, kind: Kind) -> Heard {
        let mut counts = Recorder::default();
        let heard = timeout(self.budget(), self.push(id, kind, &mut counts)).await;
        let heard = heard.unwrap_or_else(|_elapsed| {
            warn!("a push took too long; whoever has a page open finds out when it asks");
            counts.count(&PUSHES, &[Pushed::Failed.name()], 1);
            Heard::Unknown
        });
        self.metrics.write(&counts);
        heard
    }

    async fn push(&self, id: PlaceId, kind: Kind, counts: &mut Recorder) -> Heard {
        let connections = match self.table.connections(id).await {
            Ok(connections) => connections,
            Err(error) => {
                counts.count(&PUSHES, &[Pushed::Failed.name()], 1);
                warn!(error = %error, "whoever has a page open is not told; it finds out when it asks");
                return Heard::Unknown;
            }
        };
        let message = json!({"kind": kind.name()}).to_string();
        let mut posts = Vec::new();
        for connection in &connections {
            posts.push(self.connections.post(connection, &message));
        }
        let (mut heard, mut failed) = (false, false);
        let posted: Vec<_> = stream::iter(posts).buffered(MOST_CONNECTIONS).collect().await;
        for (connection, posted) in connections.iter().zip(posted) {
            let result = match posted {
                Ok(Posted::Taken) => {
                    heard = true;
                    Pushed::Sent
                }
                Ok(Posted::Gone) => {
                    self.forget(id, connection).await;
                    Pushed::Gone
                }
                Err(error) => {
                    failed = true;
                    warn!(connection, error = %error, "a page is not told; it finds out when it asks");
                    Pushed::Failed
                }
            };
            counts.count(&PUSHES, &[result.name()], 1);
        }
        match (heard, failed) {
            (true, _) => Heard::BySomebody,
            (false, true) => Heard::Unknown,
            (false, false) => Heard::ByNobody,
        }
    }

    /// A connection that stays in its list is found gone by the next push.
    async fn forget(&self, id: PlaceId, connection: &str) {
        if let Err(error) = self.table.disconnect(id, connection, epoch_ms(SystemTime::now())).await {
            warn!(connection, error = %error, "a connection that has ended is not forgotten yet");
        }
    }
}
