//! What of an answer was the service's own word.
//!
//! Where an answer can't be read, tonic makes a status of its own, under the same codes that a service uses. What came over
//! the wire tells the two apart: a service's own status stands in the headers or in the trailers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http_body_util::{BodyExt, Limited};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service, http},
    transport::{Channel, Error as TransportError},
};

/// More of an answer is not read: an answer is one message, and tonic reads none that is longer.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

const STATUS: &str = "grpc-status";

/// What was heard of one call so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    answered: AtomicBool,
    said: AtomicBool,
}

impl Heard {
    /// Whether an answer began, with the HTTP status of a good one, and its end with the service's status did not come.
    pub(super) fn half(&self) -> bool {
        self.answered.load(Relaxed) && !self.said.load(Relaxed)
    }

    fn look_at(&self, headers: &http::HeaderMap) {
        if headers.contains_key(STATUS) {
            self.said.store(true, Relaxed);
        }
    }
}

/// A channel that carries one call and tells what was heard.
#[derive(Debug)]
pub(in crate::client) struct Listening {
    channel: Channel,
    heard: Arc<Heard>,
}

impl Listening {
    pub(super) fn on(channel: Channel, heard: Arc<Heard>) -> Self {
        Self { channel, heard }
    }
}

impl Service<http::Request<Body>> for Listening {
    type Response = http::Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answer, heard) = (self.channel.call(request), self.heard.clone());
        Box::pin(async move {
            let answer = answer.await?;
            heard.answered.store(answer.status() == http::StatusCode::OK, Relaxed);
            heard.look_at(answer.headers());
            Ok(answer.map(|body| {
                let body = body.map_frame(move |frame| {
                    frame.trailers_ref().inspect(|trailers| heard.look_at(trailers));
                    frame
                });
                Body::new(Limited::new(body, LONGEST_ANSWER))
            }))
        })
    }
}
