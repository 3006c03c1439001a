//! Answers: those of the service, whole or cut off, and those of a service that can't.

use std::{io, time::Duration};

use axum::body::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::StreamBody;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Frame,
    header::{CONTENT_LENGTH, HeaderValue},
};
use serde_json::json;

use super::Service;

/// A body, piece by piece, which may break off.
pub(super) type Pieces = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// What was sent gets to the caller before the connection ends; a server sends nothing of what it can't finish at once.
const ON_THE_WAY: Duration = Duration::from_millis(20);

/// What a service answered.
pub(super) struct Parts {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Parts {
    pub(super) fn whole(self) -> Response<Pieces> {
        let body = (!self.body.is_empty()).then(|| Frame::data(self.body.clone()));
        let trailers = self.trailers.clone().map(Frame::trailers);
        let frames = body.into_iter().chain(trailers).map(Ok).collect::<Vec<_>>();
        self.with(stream::iter(frames).boxed())
    }

    /// Half of the body, under a header that promises all of it, and then the end of the connection.
    pub(super) fn truncated(self) -> Response<Pieces> {
        let half = self.body.slice(..self.body.len() / 2);
        let end = async {
            tokio::time::sleep(ON_THE_WAY).await;
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut off on demand"))
        };
        self.with(stream::iter([Ok(Frame::data(half))]).chain(stream::once(end)).boxed())
    }

    fn with(self, frames: BoxStream<'static, io::Result<Frame<Bytes>>>) -> Response<Pieces> {
        let mut response = Response::new(StreamBody::new(frames));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        // A response with trailers states no length.
        if self.trailers.is_none() {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        response
    }
}

/// The service is too busy.
pub(super) fn refusal(service: Service) -> Response<Pieces> {
    match service {
        Service::Aws => aws(StatusCode::BAD_REQUEST, "ThrottlingException"),
        Service::Rest => rest(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
        Service::Grpc => grpc(tonic::Code::Unavailable),
    }
}

/// The service has a fault.
pub(super) fn failure(service: Service) -> Response<Pieces> {
    match service {
        Service::Aws => aws(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
        Service::Rest => rest(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        Service::Grpc => grpc(tonic::Code::DeadlineExceeded),
    }
}

fn aws(status: StatusCode, kind: &str) -> Response<Pieces> {
    let body = json!({"__type": kind, "message": "a fault on demand"});
    answered(status, &[("content-type", "application/x-amz-json-1.0")], body.to_string())
}

fn rest(status: StatusCode, code: &str) -> Response<Pieces> {
    let body = json!({"error": {"code": code, "message": "a fault on demand"}});
    answered(status, &[("content-type", "application/json")], body.to_string())
}

/// A call without an answer has its status in the headers.
fn grpc(code: tonic::Code) -> Response<Pieces> {
    let code = (code as i32).to_string();
    let headers = [("content-type", "application/grpc"), ("grpc-status", &code), ("grpc-message", "a fault on demand")];
    answered(StatusCode::OK, &headers, String::new())
}

fn answered(status: StatusCode, headers: &[(&'static str, &str)], body: String) -> Response<Pieces> {
    let pairs = headers.iter().filter_map(|(name, value)| Some(((*name).parse().ok()?, value.parse().ok()?)));
    Parts { status, headers: pairs.collect(), body: body.into(), trailers: None }.whole()
}
