//! Who opens a connection to hear at once what becomes of his place shows a [`ticket`], and his place is heard of by
//! that connection until it ends. Nobody is told anything by whoever opens it, and what comes over it says nothing here.
//!
//! | request of the connection | answer |
//! | --- | --- |
//! | `PUT`: it is to be opened | 200: it is written down. 403: no ticket of ours, or one whose time is over. 503: nobody knows whether it is written down, and it is not opened |
//! | `DELETE`: it has ended | 200: it is forgotten, or was never known. 503: a push finds out |
//! | `POST`: a message, by which a page keeps it open | 200 |

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::{Method, Request, Response, StatusCode};
use tower_service::Service;
use tracing::{info, warn};

use super::{
    Moment,
    table::{Table, TableError},
    ticket,
};
use crate::{
    admission::token::Keys,
    config::ConfigError,
    deadline::epoch_ms,
    start::{Parts, probe},
    trigger::http::{Body, ConnectionId, Server},
};

/// What answers the requests of connections.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Kept>);

/// What they are answered with.
#[derive(Debug)]
struct Kept {
    name: &'static str,
    table: Table,
    keys: Keys,
}

impl Connections {
    /// A server of them, as `WAITING_ROOM_TABLE` and the secret say, which looks at its start at the table. Nothing: what is
    /// wrong is noted.
    pub fn served(parts: &mut Parts<'_>) -> Option<Server<Self>> {
        let table = Table::configured(&mut parts.reader, parts.aws);
        let keys = Keys::configured(&mut parts.reader);
        let kept = keys.map(|keys| Kept { name: parts.name, table, keys });
        Server::over(kept, parts, Self, Kept::probe)
    }
}

impl Kept {
    async fn probe(&self) -> Result<(), ConfigError> {
        probe::table(self.name, "WAITING_ROOM_TABLE", self.table.probe_connections()).await
    }

    async fn answer(&self, request: &Request<Body>) -> StatusCode {
        let Some(ConnectionId(connection)) = request.extensions().get() else { return StatusCode::NOT_FOUND };
        let now = epoch_ms(SystemTime::now());
        let done = match *request.method() {
            Method::PUT => self.open(connection, request.uri().query().unwrap_or_default(), now).await,
            Method::DELETE => self.end(connection, now).await,
            Method::POST => Ok(StatusCode::OK),
            _ => Ok(StatusCode::METHOD_NOT_ALLOWED),
        };
        done.unwrap_or_else(|error| {
            warn!(connection, error = %error, "it is not known which place is heard of by a connection");
            StatusCode::SERVICE_UNAVAILABLE
        })
    }

    async fn open(&self, connection: &str, query: &str, now: Moment) -> Result<StatusCode, TableError> {
        match ticket::shown(&self.keys, query, now) {
            Ok(id) => {
                self.table.connect(id, connection, now).await?;
                info!(place_id = %id, connection, "a place is heard of by a connection");
                Ok(StatusCode::OK)
            }
            Err(refused) => {
                info!(connection, "a connection is refused: it showed {refused}");
                Ok(StatusCode::FORBIDDEN)
            }
        }
    }

    async fn end(&self, connection: &str, now: Moment) -> Result<StatusCode, TableError> {
        if let Some(id) = self.table.place_of(connection).await? {
            self.table.disconnect(id, connection, now).await?;
        }
        Ok(StatusCode::OK)
    }
}

impl Service<Request<Body>> for Connections {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kept = self.0.clone();
        async move {
            let mut response = Response::new(Body::default());
            *response.status_mut() = kept.answer(&request).await;
            Ok(response)
        }
        .boxed_local()
    }
}
