//! The reservation API: the authority on what a reservation is, and the single place where a race is decided.
//!
//! `PATCH {base}/internal/reservations/{id}` changes the status, `GET` on the same path reads it.

mod answer;

use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderValue, RETRY_AFTER},
};
use serde_json::{Value, json};

pub use self::answer::{Answer, Snapshot, Status};
use crate::{
    config::Secret,
    failure::{DOWNSTREAM_REJECTED, Failure, chain, quoted},
    telemetry::trace::TraceContext,
};

/// More of an answer is not read: no reservation is that large.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Everything but RFC 3986's unreserved characters is escaped, so that an id stays one path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The status change that an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// What the reservation must become.
    pub wanted: Status,
    /// The payment that confirms it.
    pub payment_intent_id: Option<String>,
}

/// Why no usable answer came.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong (400, 422).
    #[error("the reservation API refused the request with {status}: {text}")]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// The start of its body.
        text: String,
    },
    /// Any other status: the API, a gateway before it, or our access to it is not as it should be.
    #[error("the reservation API answered {status}: {text}")]
    Unexpected {
        /// The answer's status.
        status: StatusCode,
        /// The start of its body.
        text: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that can't be read.
    #[error("the reservation API answered {status} with a body that can't be read: {text}")]
    Unreadable {
        /// The answer's status.
        status: StatusCode,
        /// What is wrong with the body.
        text: String,
    },
    /// No answer in time, or no connection.
    #[error("call the reservation API: {0}")]
    Unreachable(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Refused { .. } => Self::permanent(DOWNSTREAM_REJECTED, message),
            Error::Unexpected { retry_after, .. } => Self::Transient { message, at_least: retry_after },
            Error::Unreadable { .. } | Error::Unreachable(_) => Self::transient(message),
        }
    }
}

/// A base URL or a token that no request could be made with. The text fits after the variable's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The base is no usable URL.
    #[error("must be an http or https URL without query, fragment or credentials")]
    Base,
    /// The token can't stand in a header.
    #[error("must consist of visible ASCII characters")]
    Token,
    /// The HTTP client could not be built.
    #[error("can't be used: {0}")]
    Client(String),
}

/// A client of the reservation API.
#[derive(Debug, Clone)]
pub struct ReservationClient {
    http: Client,
    base: Url,
    authorization: Option<HeaderValue>,
}

impl ReservationClient {
    /// A client that gives each call `timeout`, from the connection to the last byte of the answer.
    ///
    /// # Errors
    /// When `base` or `token` can't be used.
    pub fn new(base: &str, token: Option<&Secret>, timeout: Duration) -> Result<Self, SetupError> {
        let base = Url::parse(base).map_err(|_| SetupError::Base)?;
        let plain = base.query().is_none() && base.fragment().is_none() && base.username().is_empty();
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || !plain || base.password().is_some() {
            return Err(SetupError::Base);
        }
        let authorization = token.map(|token| {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| SetupError::Token)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let http = Client::builder()
            .timeout(timeout)
            // A redirect would carry the token to wherever the answer says.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SetupError::Client(chain(&error)))?;
        Ok(Self { http, base, authorization: authorization.transpose()? })
    }

    /// Where the API is.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Looks whether the API is there. Whatever it answers shows that, so nothing is asked of it and the token stays here;
    /// the connection is kept for the calls to come.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn probe(&self) -> Result<(), Error> {
        let answer = self.http.head(self.base.clone()).send().await;
        answer.map(drop).map_err(unreachable)
    }

    /// Asks for a status change.
    ///
    /// `Ok` is what the API decided, be it the wanted status or a lost race.
    ///
    /// # Errors
    /// Nothing is known about the reservation.
    pub async fn change_status(
        &self,
        reservation_id: &str,
        transition: &Transition,
        idempotency_key: &str,
        trace: &TraceContext,
    ) -> Result<Answer, Error> {
        let mut body = json!({"status": transition.wanted.name()});
        if let Some(payment) = &transition.payment_intent_id {
            body["payment_intent_id"] = Value::from(payment.as_str());
        }
        let request = self.request(Method::PATCH, reservation_id, trace);
        let request = request.header("Idempotency-Key", idempotency_key).json(&body);
        let (status, headers_wait, text) = send(request).await?;
        match status {
            StatusCode::CONFLICT => Ok(Answer::Conflict(Snapshot::of_conflict(&text))),
            _ if status.is_success() => Ok(Answer::Accepted(readable(status, &text)?)),
            _ => Err(refusal(status, headers_wait, &text)),
        }
    }

    /// Reads the reservation.
    ///
    /// # Errors
    /// Whatever is not a 200 with a readable body: nothing is known about the reservation then.
    pub async fn get(&self, reservation_id: &str, trace: &TraceContext) -> Result<Snapshot, Error> {
        let (status, wait, text) = send(self.request(Method::GET, reservation_id, trace)).await?;
        if status == StatusCode::OK {
            return readable(status, &text);
        }
        // A GET carries nothing that could be refused for good.
        Err(Error::Unexpected { status, retry_after: wait, text: quoted(&text).into_owned() })
    }

    fn request(&self, method: Method, reservation_id: &str, trace: &TraceContext) -> RequestBuilder {
        let segment = utf8_percent_encode(reservation_id, SEGMENT);
        let mut url = self.base.clone();
        url.set_path(&format!("{}/internal/reservations/{segment}", self.base.path().trim_end_matches('/')));
        let mut request = self.http.request(method, url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        for (name, value) in [("traceparent", &trace.traceparent), ("baggage", &trace.baggage)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }
}

/// The URL may hold an id; the log line has it already.
fn unreachable(error: reqwest::Error) -> Error {
    Error::Unreachable(chain(&error.without_url()))
}

async fn send(request: RequestBuilder) -> Result<(StatusCode, Option<Duration>, String), Error> {
    let mut response = request.send().await.map_err(unreachable)?;
    let (status, wait) = (response.status(), retry_after(&response, SystemTime::now()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST_ANSWER {
            return Err(Error::Unreadable { status, text: format!("it is longer than {LARGEST_ANSWER} bytes") });
        }
    }
    Ok((status, wait, String::from_utf8_lossy(&body).into_owned()))
}

fn readable(status: StatusCode, text: &str) -> Result<Snapshot, Error> {
    Snapshot::of_reservation(text).map_err(|fault| Error::Unreadable { status, text: fault })
}

/// Only what says that the request itself is wrong is final.
fn refusal(status: StatusCode, retry_after: Option<Duration>, text: &str) -> Error {
    let text = quoted(text).into_owned();
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Error::Refused { status, text },
        _ => Error::Unexpected { status, text, retry_after },
    }
}

/// Retry-After in seconds, or as a date.
fn retry_after(response: &Response, now: SystemTime) -> Option<Duration> {
    parse_retry_after(response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim(), now)
}

fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(base: &str, id: &str) -> String {
        let client = ReservationClient::new(base, None, Duration::from_secs(1)).unwrap();
        client.request(Method::GET, id, &TraceContext::default()).build().unwrap().url().to_string()
    }

    #[test]
    fn an_id_is_one_path_segment_whatever_it_holds() {
        assert_eq!(url("http://api:8010", "rsv_1"), "http://api:8010/internal/reservations/rsv_1");
        assert_eq!(url("http://api/v2/", "a/../b"), "http://api/v2/internal/reservations/a%2F..%2Fb");
        assert_eq!(url("http://api", "a?b#c%2F"), "http://api/internal/reservations/a%3Fb%23c%252F");
        assert_eq!(url("http://api", "a\\b@c:d"), "http://api/internal/reservations/a%5Cb%40c%3Ad");
    }

    #[test]
    fn a_base_that_is_no_plain_http_url_is_refused() {
        for base in ["", "api:8010", "ftp://api", "http://", "http://api?x=1", "http://api#x", "http://user:pw@api"] {
            let refused = ReservationClient::new(base, None, Duration::from_secs(1)).err();
            assert_eq!(refused, Some(SetupError::Base), "{base}");
        }
    }

    #[test]
    fn a_token_that_could_split_a_header_is_refused() {
        let token = Secret::new("a\r\nHost: evil");
        let refused = ReservationClient::new("http://api", Some(&token), Duration::from_secs(1)).err();
        assert_eq!(refused, Some(SetupError::Token));
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |text| parse_retry_after(text, now);
        assert_eq!(at("120"), Some(Duration::from_secs(120)));
        assert_eq!(at("Thu, 01 Jan 1970 00:17:40 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(at("Thu, 01 Jan 1970 00:00:00 GMT"), None, "the past asks for no wait");
        assert_eq!(at("soon"), None);
    }
}
