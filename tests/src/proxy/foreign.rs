//! Answers that are not the service's own: another service's page, nothing, what can't be read, what never ends.

use axum::body::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::StreamBody;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Frame,
    header::{HeaderName, HeaderValue},
};

use super::{answer::Answer, answer::Parts};

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

    pub(super) fn answer(self) -> Response<Answer> {
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
