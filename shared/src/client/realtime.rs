//! The realtime service, which pushes to customers who are connected.

use std::time::Duration;

use tonic::Code;

use super::grpc::{
    Connection, Fault, Names, described,
    proto::realtime::v1::{
        BroadcastEventRequest, NotifyBookingResultRequest, NotifyQueuePositionRequest,
        realtime_service_client::RealtimeServiceClient,
    },
};
pub use super::grpc::{SetupError, TlsMaterial};
use crate::{
    failure::{ErrorCode, Failure},
    start::Parts,
    telemetry::trace::TraceContext,
};

const NAMES: Names = Names {
    address: "GRPC_REALTIME_SERVICE_ENDPOINT",
    timeout: "REALTIME_TIMEOUT_MS",
    address_field: "grpc_realtime_service_endpoint",
    authority_field: "realtime_tls_ca",
    identity_fields: ["realtime_tls_cert", "realtime_tls_key"],
};

const PLACE: &str = "NotifyQueuePosition";
const BOOKING: &str = "NotifyBookingResult";
const EVERYBODY: &str = "BroadcastEvent";

/// What is asked of the realtime service, as its calls are measured.
pub const METHODS: [&str; 3] = [PLACE, BOOKING, EVERYBODY];

/// Whom a push is for.
#[derive(Debug, Clone, Copy)]
pub struct Customer<'a> {
    /// The customer.
    pub user_id: &'a str,
    /// The show that it is about.
    pub show_id: &'a str,
}

/// What became of a booking.
#[derive(Debug, Clone, Copy)]
pub struct Booking<'a> {
    /// The reservation.
    pub reservation_id: &'a str,
    /// Whether its customer has his tickets.
    pub has_tickets: bool,
    /// Text for people.
    pub message: &'a str,
}

/// Whom a push reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// One connection at least.
    Somebody,
    /// None, because whoever it was for is not connected.
    Nobody,
}

/// Why it is not known that a push was sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The service does not understand the request. No repeat changes that.
    #[error("the realtime service refused the request: {0}")]
    Refused(String),
    /// Anything else; a repeat may succeed.
    #[error("the realtime service did not say whom it told: {0}")]
    Unavailable(String),
}

/// A client of the realtime service; clones share its connection.
#[derive(Debug, Clone)]
pub struct RealtimeClient(Connection);

impl RealtimeClient {
    /// A client whose calls take `timeout` at most, connecting included. It must be made inside a Tokio runtime.
    ///
    /// # Errors
    /// When no channel can be made of `address` and `tls`.
    pub fn new(address: &str, tls: &TlsMaterial, timeout: Duration) -> Result<Self, SetupError> {
        Connection::new(address, tls, timeout).map(Self)
    }

    /// The service that `GRPC_REALTIME_SERVICE_ENDPOINT` names, or the secret; the secret may hold TLS material too. Nothing:
    /// what is wrong is noted. It must be called inside a Tokio runtime.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let address = parts.reader.required_or_secret(NAMES.address, NAMES.address_field);
        Connection::configured(parts, &NAMES, address).map(Self)
    }

    /// The same service, for who can do without one. Nothing: neither names one, or what is wrong is noted. It must be called
    /// inside a Tokio runtime.
    pub fn if_configured(parts: &mut Parts<'_>) -> Option<Self> {
        let address = parts.reader.optional_or_secret(NAMES.address, NAMES.address_field);
        Connection::configured(parts, &NAMES, address).map(Self)
    }

    /// The connection that its calls go over.
    pub fn connection(&self) -> &Connection {
        &self.0
    }

    /// Tells a customer that something became of his place. It says neither what nor how long he waits still, because the
    /// message has no field for the one, and the other is over: he asks.
    ///
    /// # Errors
    /// See [`Error`] for which of them a repeat can mend.
    pub async fn place(&self, customer: Customer<'_>, position: u64, trace: &TraceContext) -> Result<Reached, Error> {
        let message = NotifyQueuePositionRequest {
            user_id: customer.user_id.to_owned(),
            event_id: customer.show_id.to_owned(),
            position: position.try_into().unwrap_or(i32::MAX),
            estimated_wait_seconds: 0,
            total_in_queue: 0,
        };
        let request = self.0.request(message, trace);
        let asked = self.0.call(PLACE, |channel| async move {
            RealtimeServiceClient::new(channel).notify_queue_position(request).await
        });
        reached(asked.await.map(|answer| answer.delivered))
    }

    /// Tells a customer what became of his booking.
    ///
    /// # Errors
    /// See [`Error`] for which of them a repeat can mend.
    pub async fn booking(
        &self,
        customer: Customer<'_>,
        booking: Booking<'_>,
        trace: &TraceContext,
    ) -> Result<Reached, Error> {
        let message = NotifyBookingResultRequest {
            user_id: customer.user_id.to_owned(),
            booking_id: booking.reservation_id.to_owned(),
            success: booking.has_tickets,
            message: booking.message.to_owned(),
            event_id: customer.show_id.to_owned(),
            ..NotifyBookingResultRequest::default()
        };
        let request = self.0.request(message, trace);
        let asked = self.0.call(BOOKING, |channel| async move {
            RealtimeServiceClient::new(channel).notify_booking_result(request).await
        });
        reached(asked.await.map(|answer| answer.delivered))
    }

    /// Tells everybody who looks at a show. `payload` is JSON.
    ///
    /// # Errors
    /// See [`Error`] for which of them a repeat can mend.
    pub async fn everybody(
        &self,
        show_id: &str,
        event_type: &str,
        payload: &str,
        trace: &TraceContext,
    ) -> Result<Reached, Error> {
        let message = BroadcastEventRequest {
            event_type: event_type.to_owned(),
            room: show_id.to_owned(),
            payload: payload.to_owned(),
            ..BroadcastEventRequest::default()
        };
        let request = self.0.request(message, trace);
        let asked = self.0.call(EVERYBODY, |channel| async move {
            RealtimeServiceClient::new(channel).broadcast_event(request).await
        });
        reached(asked.await.map(|answer| answer.recipients > 0))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Refused(_) => Self::permanent(ErrorCode::DownstreamRejected, message),
            Error::Unavailable(_) => Self::transient(message),
        }
    }
}

/// What an answer says of who got the push. A customer whom the service does not know is not connected.
fn reached(answer: Result<bool, Fault>) -> Result<Reached, Error> {
    match answer {
        Ok(true) => Ok(Reached::Somebody),
        Ok(false) => Ok(Reached::Nobody),
        Err(Fault::Status(status)) => match status.code() {
            Code::NotFound => Ok(Reached::Nobody),
            Code::InvalidArgument => Err(Error::Refused(described(&status))),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => Err(Error::Unavailable(described(&status))),
        },
        Err(fault @ (Fault::Unread(_) | Fault::TimedOut(_))) => Err(Error::Unavailable(fault.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_status_is_final_only_where_the_service_says_that_a_repeat_is_pointless() {
        for code in (0..17).map(Code::from_i32) {
            let meant = reached(Err(Fault::Status(tonic::Status::new(code, "x"))));
            let expected = match &meant {
                Ok(Reached::Nobody) => code == Code::NotFound,
                Ok(Reached::Somebody) => false,
                Err(Error::Refused(_)) => code == Code::InvalidArgument,
                Err(Error::Unavailable(_)) => !matches!(code, Code::NotFound | Code::InvalidArgument),
            };
            assert!(expected, "{code:?}: {meant:?}");
        }
    }

    #[test]
    fn a_status_that_the_client_made_itself_says_nothing() {
        for code in [Code::NotFound, Code::InvalidArgument] {
            let meant = reached(Err(Fault::Unread(tonic::Status::new(code, "x"))));
            assert!(matches!(meant, Err(Error::Unavailable(_))), "{code:?}: {meant:?}");
        }
    }
}
