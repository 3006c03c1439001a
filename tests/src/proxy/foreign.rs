//! Answers that are not the service's own: another service's page, nothing, what can't be read, what never ends.

use axum::body::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::StreamBody;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Frame,
    header::{HeaderName, HeaderValue},
};

use super::{
    Fault, Service, Side,
    answer::{Parts, Pieces},
};

/// So much of an endless body is one piece.
const PIECE: usize = 64 * 1024;

/// What comes in place of a service's answer.
#[derive(Clone, Debug)]
pub struct Foreign {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    endless: bool,
    after: bool,
}

impl Foreign {
    /// What a fault puts in the place of a service's answer, if it does that.
    pub(super) fn of(fault: Fault, service: Service) -> Option<Self> {
        let (answer, side) = match fault {
            Fault::Silent(side) => (Self::own(service, StatusCode::OK, ""), side),
            Fault::Page(side) => {
                let status = match service {
                    Service::Aws => StatusCode::OK,
                    Service::Rest => StatusCode::BAD_REQUEST, // Plain HTTP at a port for TLS.
                    Service::Grpc => StatusCode::NOT_FOUND,
                };
                (Self::page(status), side)
            }
            Fault::Another(side) => {
                let body = match service {
                    Service::Aws => r#"{"status": "ok"}"#,
                    Service::Rest => r#"{"reservation_id": "rsv_of_another", "status": "EXPIRED"}"#,
                    Service::Grpc => "",
                };
                let answer = Self::own(service, StatusCode::OK, body);
                // UNIMPLEMENTED is what a proxy says while a service is rolled out.
                (if service == Service::Grpc { answer.with("grpc-status", "12") } else { answer }, side)
            }
            Fault::Slow
            | Fault::Refused
            | Fault::Failed(_)
            | Fault::Reset(_)
            | Fault::HalfOpen(_)
            | Fault::Truncated => return None,
        };
        Some(if side == Side::After { answer.after_effect() } else { answer })
    }

    fn own(service: Service, status: StatusCode, body: &'static str) -> Self {
        let kind = match service {
            Service::Aws => "application/x-amz-json-1.0",
            Service::Rest => "application/json",
            Service::Grpc => "application/grpc",
        };
        Self::new(status, body).with("content-type", kind)
    }

    /// An answer with this status and body, for a call that was not carried out.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: HeaderMap::new(), body: body.into(), endless: false, after: false }
    }

    /// A page for people.
    pub fn page(status: StatusCode) -> Self {
        Self::new(status, "<html><body>It works!</body></html>").with("content-type", "text/html")
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// With a body that is said over and over and never ends.
    #[must_use]
    pub fn endless(self) -> Self {
        let body = self.body.repeat((PIECE / self.body.len().max(1)).max(1)).into();
        Self { endless: true, body, ..self }
    }

    /// For a call that was carried out.
    #[must_use]
    pub fn after_effect(self) -> Self {
        Self { after: true, ..self }
    }

    pub(super) fn is_after_effect(&self) -> bool {
        self.after
    }

    pub(super) fn answer(self) -> Response<Pieces> {
        let Self { status, headers, body, endless, .. } = self;
        if !endless {
            return Parts { status, headers, body, trailers: None }.whole();
        }
        let mut response =
            Response::new(StreamBody::new(stream::repeat(body).map(|piece| Ok(Frame::data(piece))).boxed()));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        response
    }
}
