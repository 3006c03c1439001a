//! By which id a request is found: in the log, in the answer, at whatever is called for it.

use std::fmt;

use http::HeaderMap;
use uuid::Uuid;

use crate::telemetry::trace::{TraceContext, begun_by_x_ray, foreign_id};

/// The header that each answer has.
pub(super) const X_TRACE_ID: &str = "x-trace-id";

/// The id under which a request is logged and that its answer names in `X-Trace-Id`: an extension of each request.
///
/// It comes from `traceparent`, else from `X-Amzn-Trace-Id`, else it is the client's own `X-Trace-Id`, else a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceId(String);

impl TraceId {
    /// The id as text: at most 64 of `[A-Za-z0-9._-]`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The request's id, and the context that goes on to whatever is called for it.
pub(super) fn trace_of(headers: &HeaderMap) -> (TraceId, TraceContext) {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let (x_ray, baggage) = (text("x-amzn-trace-id"), text("baggage"));
    let stated = TraceContext::first_of([text("traceparent")], x_ray, [baggage]);
    let found = Some(stated).filter(|context| context.trace_id().is_some());
    if let Some(context) = found.or_else(|| begun_by_x_ray(x_ray?, baggage)) {
        return (TraceId(context.trace_id().unwrap_or_default().to_owned()), context);
    }
    let new = || Uuid::new_v4().simple().to_string();
    let id = text(X_TRACE_ID).and_then(|id| foreign_id(id.to_owned())).unwrap_or_else(new);
    // An id that is none of the W3C's can't be in a context, so the calls are then in a trace of their own.
    let context = TraceContext::begun(&id, true, baggage).or_else(|| TraceContext::begun(&new(), true, baggage));
    (TraceId(id), context.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const W3C: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: (&str, &str) = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    const ROOT: (&str, &str) = ("x-amzn-trace-id", "Root=1-6a5145a9-1bae89e2512ec92d5d9438a0");
    const OWN: (&str, &str) = ("x-trace-id", "local-trace-17");

    fn trace(headers: &[(&'static str, &'static str)]) -> (String, TraceContext) {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let (id, context) = trace_of(&headers.collect());
        (id.to_string(), context)
    }

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], expected: &str) {
        assert_eq!(trace(headers).0, expected, "{headers:?}");
    }

    #[test]
    fn the_first_of_the_four_that_is_valid_gives_the_id() {
        check(&[PARENT, ROOT, OWN], W3C);
        check(&[("traceparent", "junk"), ROOT, OWN], "6a5145a91bae89e2512ec92d5d9438a0");
        check(&[("x-amzn-trace-id", "junk"), OWN], "local-trace-17");
        let (id, context) = trace(&[("x-trace-id", "4111 1111 1111 1111")]);
        assert_eq!((id.len(), context.trace_id()), (32, Some(id.as_str())), "a new one");
        assert_ne!(trace(&[]).0, trace(&[]).0);
    }

    #[test]
    fn a_header_that_cannot_be_text_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert("x-trace-id", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(trace_of(&headers).0.as_str().len(), 32);
    }

    #[test]
    fn what_is_called_for_a_request_is_in_its_trace() {
        assert_eq!(trace(&[PARENT]).1.traceparent.as_deref(), Some(PARENT.1));
        for headers in [&[ROOT][..], &[("x-trace-id", W3C)], &[]] {
            let (id, context) = trace(headers);
            assert_eq!(context.trace_id(), Some(id.as_str()), "{headers:?}");
        }
        let (_, context) = trace(&[OWN, ("baggage", "a=b")]);
        assert!(context.trace_id().is_some(), "an id of no known form is not lost, nor is there no context");
        assert_eq!(context.baggage.as_deref(), Some("a=b"));
    }
}
