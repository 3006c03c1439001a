//! The reservation API: the authority on what a reservation is, and the single place where a race is decided.
//!
//! `PATCH {base}/internal/reservations/{id}` changes the status, `GET` on the same path reads it. For who was admitted to make
//! one there is more to ask ([`Progress`]).

mod answer;
mod progress;
mod token;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_config::SdkConfig;
use http::{
    HeaderMap, Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    request::Builder,
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use percent_encoding::utf8_percent_encode;
use serde_json::{Value, json};
use tokio::time::timeout;
use url::{Host, Url};

use self::{answer::Foreign, token::Renewal};
pub use self::{
    answer::{Answer, Silence, Snapshot},
    progress::Progress,
    token::{TOKEN_FIELD, Token},
};
use crate::{
    client::{
        aws::CALL_TIMEOUT,
        http::{ESCAPED, HttpClient, http_url},
        signature::Signer,
    },
    config::{Reader, Secret},
    failure::{ErrorCode, Failure, Wait, chain, quoted},
    json::Object,
    reservation::{Status, Transition},
    telemetry::trace::TraceContext,
};

/// More of an answer's body is not read: no reservation is that large.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Why no usable answer came.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API itself says that the request is wrong: 400 or 422 with a JSON object.
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
    /// We may not ask this (401, 403), or not by this token.
    #[error("the reservation API answered {status}: {text}{renewal}")]
    Denied {
        /// The answer's status.
        status: StatusCode,
        /// The start of its body.
        text: String,
        /// What came of a look for another token.
        renewal: Renewal,
    },
    /// An answer about another reservation than the one that was asked for.
    #[error(
        "the reservation API answered {status} about another reservation, {id:?}; a cache or a proxy may be at fault"
    )]
    Foreign {
        /// The answer's status.
        status: StatusCode,
        /// The start of the other reservation's id.
        id: String,
    },
    /// An answer that is longer than any reservation.
    #[error("the reservation API answered {status} with a body that is longer than {LARGEST_ANSWER} bytes")]
    TooLong {
        /// The answer's status.
        status: StatusCode,
    },
    /// No answer in time, or no connection.
    #[error("call the reservation API: {0}")]
    Unreachable(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Refused { .. } => Self::permanent(ErrorCode::DownstreamRejected, message),
            Error::Unexpected { retry_after, .. } => {
                Self::Transient { message, wait: retry_after.map_or(Wait::BackOff, Wait::Asked) }
            }
            Error::Denied { .. } | Error::Foreign { .. } | Error::TooLong { .. } | Error::Unreachable(_) => {
                Self::transient(message)
            }
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
}

/// What proves to the API that it is us who call.
#[derive(Debug, Clone)]
pub enum Access {
    /// By nothing: whoever reaches it may call it.
    Open,
    /// By a bearer token.
    Bearer(Arc<Token>),
    /// By a signature of our role, which API Gateway checks before the API hears of us.
    Iam(Signer),
}

/// A client of the reservation API.
#[derive(Debug, Clone)]
pub struct ReservationClient {
    http: HttpClient<Full<Bytes>>,
    timeout: Duration,
    base: Url,
    access: Access,
}

impl Access {
    /// As `RESERVATION_API_AUTH` says: `iam`, `bearer` or `none`. Where it says nothing, the secret's token is used if there is
    /// one. Nothing: what is wrong is noted.
    fn configured(reader: &mut Reader<'_>, aws: &SdkConfig) -> Option<Self> {
        const NAME: &str = "RESERVATION_API_AUTH";

        let asked = reader.optional(NAME);
        match asked.as_deref() {
            Some("none") => return Some(Self::Open),
            Some("iam") => {
                let signer = Signer::of(aws);
                if signer.is_none() {
                    reader.fault(NAME, "is iam, and there are no credentials and no region to sign with");
                }
                return signer.map(Self::Iam);
            }
            Some("bearer") | None => {}
            Some(other) => {
                reader.fault(NAME, format!("must be iam, bearer or none, not {other:?}"));
                return None;
            }
        }
        let Some(token) = reader.secret(TOKEN_FIELD) else {
            if asked.is_some() && reader.has_read_the_secret() {
                reader.fault(NAME, format!("is bearer, and no secret holds {TOKEN_FIELD}"));
            }
            return Some(Self::Open);
        };
        match Token::new(Secret::new(token), reader.secret_store()) {
            Ok(token) => Some(Self::Bearer(Arc::new(token))),
            Err(error) => {
                reader.fault("SECRET_NAME", format!("holds a {TOKEN_FIELD} that {error}"));
                None
            }
        }
    }
}

impl ReservationClient {
    /// A client that gives each call `timeout`, from the connection to the last byte of the answer.
    ///
    /// # Errors
    /// When `base` can't be used.
    pub fn new(base: &str, access: Access, timeout: Duration) -> Result<Self, SetupError> {
        let base = http_url(base).ok_or(SetupError::Base)?;
        let plain = base.query().is_none() && base.fragment().is_none() && base.username().is_empty();
        if !plain || base.password().is_some() {
            return Err(SetupError::Base);
        }
        // Twice that, because the heads of an answer count too.
        let http = HttpClient::new(2 * LARGEST_ANSWER);
        Ok(Self { http, timeout, base, access })
    }

    /// The API that `RESERVATION_API_BASE` names, or the secret, with the access that `RESERVATION_API_AUTH` says. Nothing:
    /// what is wrong is noted.
    pub fn configured(reader: &mut Reader<'_>, aws: &SdkConfig) -> Option<Self> {
        const NAME: &str = "RESERVATION_API_BASE";
        let timeout = reader.milliseconds("RESERVATION_TIMEOUT_MS", Duration::from_secs(2));
        let access = Access::configured(reader, aws);
        let base = reader.required_or_secret(NAME, "reservation_api_base")?;
        Self::new(&base, access?, timeout).map_err(|error| reader.fault(NAME, error)).ok()
    }

    /// The longest that a change and the one look after it take, and the look into the secret for another token.
    pub fn budget(&self) -> Duration {
        let lookup = match &self.access {
            Access::Bearer(_) => CALL_TIMEOUT,
            Access::Open | Access::Iam(_) => Duration::ZERO,
        };
        self.timeout * 2 + lookup
    }

    /// Where the API is.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Whether the token goes over the network for everybody to read: to another host, and without TLS.
    pub fn tells_token_in_clear(&self) -> bool {
        let near = match self.base.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        matches!(self.access, Access::Bearer(_)) && self.base.scheme() == "http" && !near
    }

    /// Looks whether the API is there. Nothing is asked of it and the token stays here (a signature is good for this look
    /// only), so whatever it answers shows that, but
    /// for what only a proxy answers to such a look; the connection is kept for the calls to come.
    ///
    /// # Errors
    /// When no answer came, or one by which no API can be there: plain HTTP has reached a port for TLS, for instance.
    pub async fn probe(&self) -> Result<(), Error> {
        let request = Request::builder().method(Method::HEAD).uri(self.base.as_str());
        let (status, ..) = self.send(request, Bytes::new()).await?;
        match status {
            status @ (StatusCode::BAD_REQUEST
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::UPGRADE_REQUIRED
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => {
                let text = "as a proxy does whose port wants https, or which finds a header too large".to_owned();
                Err(Error::Unexpected { status, text, retry_after: None })
            }
            _ => Ok(()),
        }
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
        let request = request.header("Idempotency-Key", idempotency_key).header(CONTENT_TYPE, "application/json");
        let (status, headers_wait, text) = self.send(request, body.to_string().into()).await?;
        match status {
            StatusCode::CONFLICT => {
                let conflict = self.ours(status, Snapshot::of_conflict(&text, reservation_id))?;
                Ok(Answer::Conflict(Snapshot { retry_after: headers_wait, ..conflict }))
            }
            _ if status.is_success() => Ok(Answer::Accepted(self.read(status, &text, reservation_id)?)),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if self.is_of_the_api(&text) => {
                Err(Error::Refused { status, text: self.quoted(&text) })
            }
            _ => Err(self.unexpected(status, headers_wait, &text).await),
        }
    }

    /// Reads the reservation.
    ///
    /// # Errors
    /// When the answer is not a 200 about it: nothing is known about the reservation then.
    pub async fn get(&self, reservation_id: &str, trace: &TraceContext) -> Result<Snapshot, Error> {
        let request = self.request(Method::GET, reservation_id, trace);
        let (status, wait, text) = self.send(request, Bytes::new()).await?;
        // A GET carries nothing that could be refused for good.
        if status == StatusCode::OK {
            self.read(status, &text, reservation_id)
        } else {
            Err(self.unexpected(status, wait, &text).await)
        }
    }

    fn request(&self, method: Method, reservation_id: &str, trace: &TraceContext) -> Builder {
        // An id stays one segment.
        let segment = utf8_percent_encode(reservation_id, ESCAPED);
        let mut url = self.base.clone();
        url.set_path(&format!("{}/internal/reservations/{segment}", self.base.path().trim_end_matches('/')));
        let mut request = Request::builder().method(method).uri(url.as_str());
        if let Access::Bearer(token) = &self.access {
            request = request.header(AUTHORIZATION, token.header());
        }
        for (name, value) in [("traceparent", &trace.traceparent), ("baggage", &trace.baggage)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }

    /// Status, Retry-After and body of the answer. An answer is read to its end, or there is none.
    async fn send(&self, request: Builder, body: Bytes) -> Result<(StatusCode, Option<Duration>, String), Error> {
        let unsent = Full::new(body.clone());
        let mut request = request.body(unsent).map_err(|error| Error::Unreachable(chain(&error)))?;
        let answer = async {
            if let Access::Iam(signer) = &self.access {
                signer.sign(&mut request, &body, SystemTime::now()).await.map_err(Error::Unreachable)?;
            }
            let answer = self.http.send(request).await.map_err(|error| Error::Unreachable(chain(&error)))?;
            let (status, wait) = (answer.status(), retry_after(answer.headers(), SystemTime::now()));
            let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Error::TooLong { status }
                } else {
                    Error::Unreachable(chain(&*error))
                }
            })?;
            Ok((status, wait, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        let late = |_| Err(Error::Unreachable(format!("timed out after {} ms", self.timeout.as_millis())));
        timeout(self.timeout, answer).await.unwrap_or_else(late)
    }

    fn read(&self, status: StatusCode, text: &str, reservation_id: &str) -> Result<Snapshot, Error> {
        self.ours(status, Snapshot::of_reservation(text, reservation_id))
    }

    /// A status that nobody knows is told to people, and so is another's id. Our own ids are data, and stay what they are.
    fn ours(&self, status: StatusCode, read: Result<Snapshot, Foreign>) -> Result<Snapshot, Error> {
        match read {
            Ok(mut snapshot) => {
                if let Ok(Status::Other(name)) = &mut snapshot.status {
                    *name = self.hidden(name);
                }
                Ok(snapshot)
            }
            Err(Foreign(id)) => Err(Error::Foreign { status, id: self.quoted(&id) }),
        }
    }

    /// An answer that decides nothing. After one that denies us access the token is looked up again, for the next try.
    async fn unexpected(&self, status: StatusCode, retry_after: Option<Duration>, text: &str) -> Error {
        let text = self.quoted(text);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let renewal = match &self.access {
                    Access::Bearer(token) => token.renew().await,
                    Access::Open | Access::Iam(_) => Renewal::Impossible,
                };
                Error::Denied { status, text, renewal }
            }
            _ => Error::Unexpected { status, text, retry_after },
        }
    }

    fn quoted(&self, text: &str) -> String {
        quoted(&self.hidden(text)).into_owned()
    }

    /// The API, or a gateway before it, has seen our token and may quote the request that it refuses.
    fn hidden(&self, text: &str) -> String {
        match &self.access {
            Access::Bearer(token) => token.hidden_in(text),
            Access::Open | Access::Iam(_) => text.to_owned(),
        }
    }

    /// Whether a refusal is the API's own word. Where API Gateway stands before it, an object without an error's code is the
    /// gateway's.
    fn is_of_the_api(&self, text: &str) -> bool {
        match &self.access {
            Access::Open | Access::Bearer(_) => is_object(text),
            Access::Iam(_) => Object::read(text).is_ok_and(|body| {
                body.object("error").is_ok_and(|error| error.is_some_and(|error| error.text("code").is_some()))
            }),
        }
    }
}

/// The API answers in JSON objects; a page comes from whoever stands before it.
fn is_object(text: &str) -> bool {
    Object::read(text).is_ok()
}

/// Retry-After in seconds, or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?.trim(), now)
}

fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests;
