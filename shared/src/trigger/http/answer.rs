//! What a request is answered: the form that API Gateway takes, and the form of errors.

use std::{collections::BTreeMap, io, time::Duration};

use aws_smithy_types::base64;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE},
};
use hyper::body::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Body, trace::TraceId};
use crate::{backoff::whole_seconds, name::Named};

/// Lambda takes answers of up to six megabytes, the JSON around the body included.
const LONGEST_ANSWER: usize = 6 * 1024 * 1024;

/// JSON makes at most six characters of a byte, so that less than this fits whatever it holds.
const SURELY_FITS: usize = LONGEST_ANSWER / 8;

/// The answer to an HTTP API's event, in payload format 2.0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The status.
    pub status_code: u16,
    /// The headers but for cookies; several of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The values of `set-cookie`, which can't be joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// The body: a text as it is, anything else in Base64.
    pub body: String,
    /// Whether the body is in Base64.
    pub is_base64_encoded: bool,
}

impl Answer {
    /// The answer of these parts.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut joined: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in headers.iter().filter(|(name, _)| *name != SET_COOKIE) {
            let value = text(value);
            joined
                .entry(name.as_str().to_owned())
                .and_modify(|earlier| {
                    earlier.push_str(", ");
                    earlier.push_str(&value);
                })
                .or_insert(value);
        }
        let cookies = headers.get_all(SET_COOKIE).iter().map(text).collect();
        let (body, is_base64_encoded) = match str::from_utf8(body) {
            Ok(text) if text.is_empty() || is_text(headers) => (text.to_owned(), false),
            Ok(_) | Err(_) => (base64::encode(body), true),
        };
        Self { status_code: status.as_u16(), headers: joined, cookies, body, is_base64_encoded }
    }

    /// Whether Lambda takes it.
    pub(super) fn fits(&self) -> bool {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let cookies = self.cookies.iter().map(String::len);
        if self.body.len() + headers.chain(cookies).sum::<usize>() < SURELY_FITS {
            return true;
        }
        let mut length = Length(0);
        serde_json::to_writer(&mut length, self).is_ok() && length.0 <= LONGEST_ANSWER
    }
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Whether the body may go as a text, by what its headers say of it. It then still has to be one.
fn is_text(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let of_text = content_type.starts_with("text/")
        || ["application/json", "application/xml", "application/javascript"].contains(&content_type.as_str())
        || ["+json", "+xml"].iter().any(|suffix| content_type.ends_with(suffix));
    of_text && !headers.contains_key(CONTENT_ENCODING)
}

/// An error as a client reads it: `{"error": {"code", "message", "traceId", "details"}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorAnswer {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Value,
    retry_after: Option<Duration>,
}

impl ErrorAnswer {
    /// An error for programs by its `code`, for people by its `message`: what happened, to which thing, and what to do.
    pub fn new(status: StatusCode, code: impl Named, message: impl Into<String>) -> Self {
        Self { status, code: code.name(), message: message.into(), details: Value::Null, retry_after: None }
    }

    /// The same error with what a program may want to know beyond its code, such as the fields that are wrong.
    pub fn with_details(self, details: Value) -> Self {
        Self { details, ..self }
    }

    /// The same error with the time after which another try makes sense, in a `Retry-After` of whole seconds, rounded up.
    pub fn retry_after(self, wait: impl Into<Option<Duration>>) -> Self {
        Self { retry_after: wait.into(), ..self }
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What programs know it by.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What it says to people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// After which time another try makes sense, where waiting helps.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What is answered to the request with this id.
    pub fn body(&self, trace_id: &str) -> Value {
        let Self { code, message, details, .. } = self;
        json!({"error": {"code": code, "message": message, "traceId": trace_id, "details": details}})
    }

    /// The response to the request with this id.
    pub fn response(&self, trace_id: &TraceId) -> Response<Body> {
        self.in_bytes(trace_id).map(Body::new)
    }

    /// The answer to the request with this id.
    pub(super) fn answer(&self, trace_id: &TraceId) -> Answer {
        let (head, body) = self.in_bytes(trace_id).into_parts();
        Answer::of(head.status, &head.headers, &body)
    }

    fn in_bytes(&self, trace_id: &TraceId) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.body(trace_id.as_str()).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, header};
    use http_body_util::BodyExt;

    use super::*;
    use crate::{name::names, trigger::http::trace::trace_of};

    names! {
        /// Codes of no real service.
        enum Code {
            /// The only one.
            SeatUnavailable = "SEAT_UNAVAILABLE",
        }
    }

    fn answer(headers: &[(HeaderName, &'static str)], body: &[u8]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        Answer::of(StatusCode::OK, &map, body)
    }

    #[test]
    fn a_text_stays_text() {
        for content_type in [
            "text/plain; charset=utf-8",
            "TEXT/HTML",
            "application/json",
            "application/problem+json;x=y",
            "application/xml",
            "image/svg+xml",
            "application/javascript",
        ] {
            let answer = answer(&[(CONTENT_TYPE, content_type)], "{\"a\": \"é\"}".as_bytes());
            assert_eq!((answer.body.as_str(), answer.is_base64_encoded), ("{\"a\": \"é\"}", false), "{content_type}");
        }
    }

    #[test]
    fn whatever_is_no_text_goes_in_base64() {
        for headers in [
            &[(CONTENT_TYPE, "image/png")][..],
            &[(CONTENT_TYPE, "application/proto")],
            &[(CONTENT_TYPE, "application/grpc-web+proto")],
            &[],
            &[(CONTENT_TYPE, "application/json"), (CONTENT_ENCODING, "gzip")],
        ] {
            let answer = answer(headers, b"ab\n");
            assert_eq!((answer.body.as_str(), answer.is_base64_encoded), ("YWIK", true), "{headers:?}");
        }
        let broken = answer(&[(CONTENT_TYPE, "text/plain")], b"\xff\xfe");
        assert_eq!((broken.body.as_str(), broken.is_base64_encoded), ("//4=", true), "it says text and is none");
    }

    #[test]
    fn cookies_go_apart_and_other_headers_are_joined() {
        let headers = [
            (SET_COOKIE, "a=1; Path=/"),
            (header::VARY, "origin"),
            (SET_COOKIE, "b=2"),
            (header::VARY, "accept"),
            (header::ETAG, "\"x\""),
        ];
        let answer = answer(&headers, b"");
        assert_eq!(answer.cookies, ["a=1; Path=/", "b=2"]);
        let expected = [("etag", "\"x\""), ("vary", "origin, accept")];
        assert_eq!(answer.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn an_answer_is_written_in_the_form_of_payload_format_2() {
        let written = |answer: &Answer| serde_json::to_value(answer).unwrap();
        let plain = answer(&[(CONTENT_TYPE, "text/plain")], b"hello");
        let expected = json!({
            "statusCode": 200, "headers": {"content-type": "text/plain"}, "body": "hello", "isBase64Encoded": false,
        });
        assert_eq!(written(&plain), expected, "without cookies there is no field for them");
        assert_eq!(written(&answer(&[(SET_COOKIE, "a=1")], b""))["cookies"], json!(["a=1"]));
    }

    #[test]
    fn an_answer_fits_by_what_lambda_counts() {
        let of = |body: String| Answer { body, ..answer(&[], b"") };
        let around = serde_json::to_string(&of(String::new())).unwrap().len();
        assert!(of("a".repeat(LONGEST_ANSWER - around)).fits());
        assert!(!of("a".repeat(LONGEST_ANSWER - around + 1)).fits());
        assert!(!of("\u{1}".repeat(LONGEST_ANSWER / 6)).fits(), "such a character takes six");
        assert!(of("\u{1}".repeat(SURELY_FITS - 1)).fits());
        let cookies = vec!["a".repeat(LONGEST_ANSWER)];
        assert!(!Answer { cookies, ..answer(&[], b"") }.fits(), "what is no body counts as well");
    }

    #[tokio::test]
    async fn an_error_has_the_form_that_clients_read() {
        let error = ErrorAnswer::new(StatusCode::CONFLICT, Code::SeatUnavailable, "seat A-1 is taken");
        let (trace_id, _) = trace_of(&HeaderMap::new());
        let response = error.response(&trace_id);
        assert_eq!((response.status(), response.headers().get(RETRY_AFTER)), (StatusCode::CONFLICT, None));
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let expected = json!({"error": {
            "code": "SEAT_UNAVAILABLE", "message": "seat A-1 is taken", "traceId": trace_id.as_str(), "details": null,
        }});
        assert_eq!(body, expected);

        let error = error.with_details(json!({"seats": ["A-1"]})).retry_after(Duration::from_millis(1_001));
        let response = error.response(&trace_id);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let body: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(body["error"]["details"], json!({"seats": ["A-1"]}));
    }
}
