//! A connection to a gRPC service: how it is configured, kept and given up, and what of an answer was the service's own word.

mod heard;
mod line;
mod measured;
pub(super) mod proto;

use std::{
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tonic::{
    Request, Response, Status as GrpcStatus, TimeoutExpired,
    metadata::MetadataValue,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri},
};

pub(super) use self::heard::Listening;
pub use self::measured::{Code, METRICS};
use self::{heard::Heard, line::Line, measured::CLIENT_SECONDS, proto::common::v1::ErrorCode};
use crate::{
    client::{http::KEPT, tls},
    config::{Reader, Secret},
    failure::{chain, quoted},
    name::Named,
    start::Parts,
    telemetry::{metrics::Metrics, trace::TraceContext},
};

/// Certificates beyond those of the system; each is PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// Trusted in addition to the system's authorities.
    pub authority: Option<String>,
    /// Our own certificate and its key, where the service asks for them.
    pub identity: Option<(String, Secret)>,
}

/// An address or TLS material that no channel can be made with. The text fits after the variable's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The address is not usable.
    #[error("must be host:port, or an http or https URL without a path")]
    Address,
    /// TLS material without TLS would be an unencrypted connection that looks encrypted.
    #[error("must be an https URL, because TLS material is configured")]
    NotEncrypted,
    /// The TLS material is not usable.
    #[error("can't be reached with the TLS material given: {0}")]
    Tls(String),
}

/// The names of what a service is configured by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// The variable of its address.
    pub(super) address: &'static str,
    /// The variable of a call's timeout, in milliseconds.
    pub(super) timeout: &'static str,
    /// The field of the secret that stands in for the address.
    pub(super) address_field: &'static str,
    /// The field of the secret with an authority in PEM.
    pub(super) authority_field: &'static str,
    /// The fields of the secret with our own certificate and its key, both in PEM.
    pub(super) identity_fields: [&'static str; 2],
}

/// Why a call has no response. The text fits after what the service did not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The service's own status, or the word of whatever stands before it.
    #[error("{}", described(.0))]
    Status(GrpcStatus),
    /// The status that tonic made of an answer whose end, with the service's own status, it did not get to.
    #[error("its answer could not be read: {}", described(.0))]
    Unread(GrpcStatus),
    /// No answer within the call's timeout; what happened there is unknown.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// A connection to a service; clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    endpoint: Endpoint,
    current: Arc<Mutex<Current>>,
    timeout: Duration,
    metrics: Metrics,
}

#[derive(Debug)]
struct Current {
    line: Line,
    used: SystemTime,
}

impl Connection {
    /// A connection whose calls take `timeout` at most, connecting included, and are measured for nobody. It connects on the
    /// first call, or earlier by [`Connection::connect`], so it must be made inside a Tokio runtime.
    ///
    /// # Errors
    /// When no channel can be made of `address` and `tls`.
    pub(super) fn new(address: &str, tls: &TlsMaterial, timeout: Duration) -> Result<Self, SetupError> {
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let uri: Uri = url.parse().map_err(|_| SetupError::Address)?;
        let host = uri.host().is_some_and(|host| !host.is_empty());
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        // Without a scheme, only host:port says that a port was meant at all.
        let port = address.contains("://") || uri.port_u16().is_some();
        let credentials = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !host || !bare || !port || credentials || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(SetupError::Address);
        }
        let encrypted = uri.scheme_str() == Some("https");
        let mut endpoint = Endpoint::from(uri).connect_timeout(timeout);
        if encrypted {
            // Text without any certificate in it would count as an authority and add none.
            if tls.authority.as_ref().is_some_and(|authority| !authority.contains("-----BEGIN CERTIFICATE-----")) {
                return Err(SetupError::Tls("the authority holds no PEM certificate".to_owned()));
            }
            endpoint = endpoint.tls_config(tls_config(tls)).map_err(|error| SetupError::Tls(chain(&error)))?;
        } else if *tls != TlsMaterial::default() {
            return Err(SetupError::NotEncrypted);
        }
        let current = Current { line: Line::to(&endpoint), used: SystemTime::now() };
        Ok(Self { endpoint, current: Arc::new(Mutex::new(current)), timeout, metrics: Metrics::default() })
    }

    /// A connection to the service at `address`, as the environment and the secret say beyond that. Nothing: what is wrong is
    /// noted. It must be called inside a Tokio runtime.
    pub(super) fn configured(parts: &mut Parts<'_>, names: &Names, address: Option<String>) -> Option<Self> {
        let reader: &mut Reader<'_> = &mut parts.reader;
        let timeout = reader.milliseconds(names.timeout, Duration::from_secs(1));
        let authority = reader.secret(names.authority_field);
        let [certificate, key] = names.identity_fields;
        let identity = match (reader.secret(certificate), reader.secret(key)) {
            (Some(certificate), Some(key)) => Some((certificate, Secret::new(key))),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                reader.fault("SECRET_NAME", format!("must hold both of {certificate} and {key}, or neither"));
                None
            }
        };
        let made = Self::new(&address?, &TlsMaterial { authority, identity }, timeout);
        let made = made.map_err(|error| reader.fault(names.address, error)).ok();
        Some(Self { metrics: parts.metrics.clone(), ..made? })
    }

    /// The longest that one call takes.
    pub fn budget(&self) -> Duration {
        self.timeout
    }

    /// Where the service is.
    pub fn address(&self) -> &Uri {
        self.endpoint.uri()
    }

    /// Connects now, TLS included, and keeps the connection for the calls to come. Without one, the first call connects.
    ///
    /// # Errors
    /// Why there is no connection within the timeout of a call.
    pub async fn connect(&self) -> Result<(), String> {
        let line = match tokio::time::timeout(self.timeout, Line::made_to(&self.endpoint)).await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_elapsed) => return Err(format!("no connection within {} ms", self.timeout.as_millis())),
        };
        *self.current() = Current { line, used: SystemTime::now() };
        Ok(())
    }

    /// A message with the trace and the time that its call belongs to.
    pub(super) fn request<T>(&self, message: T, trace: &TraceContext) -> Request<T> {
        let mut request = Request::new(message);
        // The server is told the deadline too, so that it stops working for nobody.
        request.set_timeout(self.timeout);
        for (name, value) in [("traceparent", &trace.traceparent), ("baggage", &trace.baggage)] {
            if let Some(value) = value.as_ref().and_then(|value| MetadataValue::try_from(value).ok()) {
                request.metadata_mut().insert(name, value);
            }
        }
        request
    }

    /// Asks, by a client on the channel that `ask` gets, and measures under `method` how long that takes.
    pub(super) async fn call<T, F>(&self, method: &'static str, ask: impl FnOnce(Listening) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, GrpcStatus>>,
    {
        let started = Instant::now();
        let result = self.ask(ask).await;
        let values = [method, Code::of(&result).name()];
        self.metrics.record(|recorder| recorder.duration(&CLIENT_SECONDS, &values, started.elapsed()));
        result
    }

    /// tonic counts its own timeout from the moment a connection stands; ours includes connecting.
    async fn ask<T, F>(&self, ask: impl FnOnce(Listening) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, GrpcStatus>>,
    {
        let (line, heard) = (self.line(), Arc::new(Heard::default()));
        let channel = Listening::on(line.channel.clone(), heard.clone());
        match tokio::time::timeout(self.timeout, ask(channel)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if !timed_out(&status) => {
                Err(if heard.half() { Fault::Unread(status) } else { Fault::Status(status) })
            }
            Ok(Err(_)) | Err(_) => {
                self.hang_up(&line);
                Err(Fault::TimedOut(self.timeout))
            }
        }
    }

    /// Lets the calls to come go out on a new connection, because a call had no answer on this one: it may have died in
    /// silence, as one does behind a NAT gateway, or what is behind it may hang. Calls that are out already end as they will.
    fn hang_up(&self, failed: &Line) {
        let mut current = self.current();
        // Of several calls that had no answer on one connection, the first ends it.
        if current.line.is(failed) {
            current.line = Line::to(&self.endpoint);
        }
    }

    /// The connection for a call that begins now. After a long pause, as HTTP has it too, the one before is not even tried.
    fn line(&self) -> Line {
        let (mut current, now) = (self.current(), SystemTime::now());
        if now.duration_since(current.used).is_ok_and(|unused| unused > KEPT) {
            current.line = Line::to(&self.endpoint);
        }
        current.used = now;
        current.line.clone()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A status as text: its code and what came with it, as far as it may be quoted.
pub(super) fn described(status: &GrpcStatus) -> String {
    format!("{:?}: {}", status.code(), quoted(&chain(status)))
}

/// Whether a fault inside a response is one. Protobuf says by one without code and message that there is none.
pub(super) fn says_something(error: &proto::common::v1::Error) -> bool {
    error.code != 0 || !error.message.is_empty()
}

/// The code of a fault inside a response, and its text for people; of a code that is not known, the text alone.
pub(super) fn code_and_text(error: &proto::common::v1::Error) -> Result<(ErrorCode, String), String> {
    let text = |name: &str| format!("{name}: {}", quoted(&error.message));
    match ErrorCode::try_from(error.code) {
        Ok(code) => Ok((code, text(code.as_str_name()))),
        Err(_unknown) => Err(text(&format!("error code {}, which is not known", error.code))),
    }
}

/// Whether tonic's own clock ran out: it counts the same time, so either of the two may be first.
fn timed_out(status: &GrpcStatus) -> bool {
    let mut source = status.source();
    while let Some(cause) = source {
        if cause.is::<TimeoutExpired>() {
            return true;
        }
        source = cause.source();
    }
    false
}

fn tls_config(material: &TlsMaterial) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new().trust_anchors(tls::authorities().roots.iter().cloned());
    if let Some(authority) = &material.authority {
        config = config.ca_certificate(Certificate::from_pem(authority));
    }
    if let Some((certificate, key)) = &material.identity {
        config = config.identity(Identity::from_pem(certificate, key.expose()));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str, tls: &TlsMaterial) -> Option<SetupError> {
        Connection::new(address, tls, Duration::from_secs(1)).err()
    }

    #[tokio::test]
    async fn an_address_is_host_and_port_or_a_url() {
        for address in ["inventory:8021", "127.0.0.1:8021", "http://inventory:8021", "https://inventory", "http://h/"] {
            assert_eq!(refusal(address, &TlsMaterial::default()), None, "{address}");
        }
        for address in
            ["", "inventory", ":8021", "ftp://inventory:1", "http://h/path", "http://h?x=1", "u:p@h:1", "a b:1"]
        {
            assert_eq!(refusal(address, &TlsMaterial::default()), Some(SetupError::Address), "{address}");
        }
    }

    #[tokio::test]
    async fn tls_material_is_never_left_unused() {
        let tls = TlsMaterial { authority: Some("pem".into()), identity: None };
        assert_eq!(refusal("inventory:8021", &tls), Some(SetupError::NotEncrypted));
    }

    #[tokio::test]
    async fn a_connection_serves_until_it_was_not_used_for_a_minute() {
        let client = Connection::new("inventory:8021", &TlsMaterial::default(), Duration::from_secs(1)).unwrap();
        let first = client.line();
        for (unused, kept) in [(0, true), (59, true), (61, false)] {
            client.current().used = SystemTime::now() - Duration::from_secs(unused);
            assert_eq!(client.line().is(&first), kept, "{unused} s");
        }
    }

    #[tokio::test]
    async fn a_connection_without_an_answer_is_left_once_and_not_again_by_those_who_were_on_it() {
        let client = Connection::new("inventory:8021", &TlsMaterial::default(), Duration::from_secs(1)).unwrap();
        let first = client.line();
        client.hang_up(&first);
        let second = client.line();
        assert!(!second.is(&first));
        client.hang_up(&first);
        assert!(client.line().is(&second));
    }
}
