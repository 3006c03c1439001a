//! The inventory service: the seats and the quantity stock of events.

mod answer;
mod heard;
mod line;

use std::{
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tonic::{
    Request, Response, Status as GrpcStatus, TimeoutExpired,
    metadata::MetadataValue,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri},
};

pub use self::answer::{Error, ErrorCode, ReserveError};
use self::{
    answer::{committed, released, reserved, unreachable, unread},
    heard::{Heard, Listening},
    line::Line,
    proto::reservation::v1::{
        CommitReservationRequest, ReleaseHoldRequest, ReserveSeatRequest,
        inventory_service_client::InventoryServiceClient,
    },
};
use crate::{
    client::{http::KEPT, tls},
    config::{Reader, Secret},
    failure::chain,
    reservation::{Allotment, ReleaseReason},
    telemetry::trace::TraceContext,
};

/// Generated from `proto/`. The nesting is that of the protobuf packages, because generated code refers to its siblings
/// by it.
mod proto {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]

    pub(super) mod common {
        pub(crate) mod v1 {
            tonic::include_proto!("common.v1");
        }
    }
    pub(super) mod reservation {
        pub(crate) mod v1 {
            tonic::include_proto!("reservation.v1");
        }
    }
}

/// What a call is about, beyond what it does.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The reservation whose hold it is.
    pub reservation_id: &'a str,
    /// What it holds.
    pub allotment: &'a Allotment,
    /// The same for every repeat of the call.
    pub idempotency_key: &'a str,
    /// The trace that the call belongs to.
    pub trace: &'a TraceContext,
}

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

/// A client of the inventory service; clones share its connection.
#[derive(Debug, Clone)]
pub struct InventoryClient {
    endpoint: Endpoint,
    current: Arc<Mutex<Current>>,
    timeout: Duration,
}

#[derive(Debug)]
struct Current {
    line: Line,
    used: SystemTime,
}

impl InventoryClient {
    /// A client whose calls take `timeout` at most, connecting included. It connects on the first call, or earlier by
    /// [`InventoryClient::connect`], so it must be made inside a Tokio runtime.
    ///
    /// # Errors
    /// When no channel can be made of `address` and `tls`.
    pub fn new(address: &str, tls: &TlsMaterial, timeout: Duration) -> Result<Self, SetupError> {
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
        Ok(Self { endpoint, current: Arc::new(Mutex::new(current)), timeout })
    }

    /// The service that `INVENTORY_GRPC_ADDR` names, or the secret; the secret may hold TLS material too. Nothing: what is
    /// wrong is noted. It must be called inside a Tokio runtime.
    pub fn configured(reader: &mut Reader<'_>) -> Option<Self> {
        const NAME: &str = "INVENTORY_GRPC_ADDR";
        let timeout = reader.milliseconds("INVENTORY_TIMEOUT_MS", Duration::from_secs(1));
        let authority = reader.secret("inventory_tls_ca");
        let identity = match (reader.secret("inventory_tls_cert"), reader.secret("inventory_tls_key")) {
            (Some(certificate), Some(key)) => Some((certificate, Secret::new(key))),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                reader.fault("SECRET_NAME", "must hold both of inventory_tls_cert and inventory_tls_key, or neither");
                None
            }
        };
        let address = reader.required_or_secret(NAME, "inventory_grpc_addr")?;
        let client = Self::new(&address, &TlsMaterial { authority, identity }, timeout);
        client.map_err(|error| reader.fault(NAME, error)).ok()
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

    /// Holds seats, or any of a quantity where the allotment names none, until `hold_expires_at`. `Ok`: these seats are held,
    /// by this call or an earlier one; none are named where the inventory counts places only.
    ///
    /// # Errors
    /// See [`ReserveError`] for which of them say that nothing is held.
    pub async fn reserve(&self, call: Call<'_>, hold_expires_at: SystemTime) -> Result<Vec<String>, ReserveError> {
        let Allotment { show_id, seat_ids, quantity, user_id } = call.allotment.clone();
        let asked = seat_ids.clone();
        let message = ReserveSeatRequest {
            reservation_id: call.reservation_id.to_owned(),
            event_id: show_id,
            seat_ids,
            quantity: quantity.try_into().unwrap_or(i32::MAX),
            user_id: user_id.unwrap_or_default(),
            hold_expires_at: Some(hold_expires_at.into()),
            idempotency_key: call.idempotency_key.to_owned(),
        };
        let request = self.request(message, call.trace);
        let answer = self.call(|mut client| async move { client.reserve_seat(request).await }).await?;
        reserved(answer, &asked, quantity)
    }

    /// Turns the hold into a sale. `Ok`: the seats are the customer's, by this call or an earlier one.
    ///
    /// # Errors
    /// See [`Error`] for which of them a repeat can mend.
    pub async fn commit(&self, call: Call<'_>, payment_intent_id: &str) -> Result<(), Error> {
        let Allotment { show_id, seat_ids, quantity, user_id } = call.allotment.clone();
        let message = CommitReservationRequest {
            reservation_id: call.reservation_id.to_owned(),
            event_id: show_id,
            seat_ids,
            quantity: quantity.try_into().unwrap_or(i32::MAX),
            payment_intent_id: payment_intent_id.to_owned(),
            user_id: user_id.unwrap_or_default(),
            idempotency_key: call.idempotency_key.to_owned(),
        };
        let request = self.request(message, call.trace);
        committed(self.call(|mut client| async move { client.commit_reservation(request).await }).await?)
    }

    /// Gives the hold back. `Ok`: the reservation holds nothing any more, by this call or an earlier one.
    ///
    /// # Errors
    /// See [`Error`] for which of them a repeat can mend.
    pub async fn release(&self, call: Call<'_>, reason: ReleaseReason) -> Result<(), Error> {
        let Allotment { show_id, seat_ids, quantity, .. } = call.allotment.clone();
        let message = ReleaseHoldRequest {
            reservation_id: call.reservation_id.to_owned(),
            event_id: show_id,
            seat_ids,
            quantity: quantity.try_into().unwrap_or(i32::MAX),
            reason: reason.name().to_owned(),
            idempotency_key: call.idempotency_key.to_owned(),
        };
        let request = self.request(message, call.trace);
        released(self.call(|mut client| async move { client.release_hold(request).await }).await?)
    }

    fn request<T>(&self, message: T, trace: &TraceContext) -> Request<T> {
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

    /// tonic counts its own timeout from the moment a connection stands; ours includes connecting.
    async fn call<T, F>(&self, ask: impl FnOnce(InventoryServiceClient<Listening>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, GrpcStatus>>,
    {
        let (line, heard) = (self.line(), Arc::new(Heard::default()));
        let client = InventoryServiceClient::new(Listening::on(line.channel.clone(), heard.clone()));
        match tokio::time::timeout(self.timeout, ask(client)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if !timed_out(&status) => {
                Err(if heard.half() { unread(&status) } else { unreachable(&status) })
            }
            Ok(Err(_)) | Err(_) => {
                self.hang_up(&line);
                Err(Error::TimedOut(self.timeout))
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
        InventoryClient::new(address, tls, Duration::from_secs(1)).err()
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
        let client = InventoryClient::new("inventory:8021", &TlsMaterial::default(), Duration::from_secs(1)).unwrap();
        let first = client.line();
        for (unused, kept) in [(0, true), (59, true), (61, false)] {
            client.current().used = SystemTime::now() - Duration::from_secs(unused);
            assert_eq!(client.line().is(&first), kept, "{unused} s");
        }
    }

    #[tokio::test]
    async fn a_connection_without_an_answer_is_left_once_and_not_again_by_those_who_were_on_it() {
        let client = InventoryClient::new("inventory:8021", &TlsMaterial::default(), Duration::from_secs(1)).unwrap();
        let first = client.line();
        client.hang_up(&first);
        let second = client.line();
        assert!(!second.is(&first));
        client.hang_up(&first);
        assert!(client.line().is(&second));
    }
}
