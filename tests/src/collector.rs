//! A collector of spans that keeps what it is sent, for the tests that look at it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// A collector; it ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    /// Its address, for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub url: String,
    exports: Exports,
    _server: AbortOnDropHandle<()>,
}

type Exports = Arc<Mutex<Vec<(Instant, ExportTraceServiceRequest)>>>;

impl Collector {
    /// A collector on a free port of loopback. It takes what can be read as an export of spans, and refuses anything else.
    ///
    /// # Errors
    /// When there is no port to be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let exports = Exports::default();
        let kept = exports.clone();
        let take = async move |body: Bytes| match ExportTraceServiceRequest::decode(body) {
            Ok(export) => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), export));
                StatusCode::OK
            }
            Err(_) => StatusCode::BAD_REQUEST,
        };
        let routes = Router::new().route("/v1/traces", post(take));
        let server = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { url, exports, _server: AbortOnDropHandle::new(server) })
    }

    /// What it was sent, call by call.
    pub fn exports(&self) -> Vec<ExportTraceServiceRequest> {
        self.lock().iter().map(|(_, export)| export.clone()).collect()
    }

    /// When each call arrived.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.lock().iter().map(|(at, _)| *at).collect()
    }

    /// Every span so far, in the order of arrival.
    pub fn spans(&self) -> Vec<Span> {
        let resources = self.exports().into_iter().flat_map(|export| export.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, ExportTraceServiceRequest)>> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of an attribute; empty when there is none.
pub fn text<'a>(attributes: &'a [KeyValue], name: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text,
        _ => "",
    }
}
