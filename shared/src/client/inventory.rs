//! The inventory service: the seats and the quantity stock of events.

mod answer;

use std::time::{Duration, SystemTime};

use tonic::{Response, Status as GrpcStatus};

pub use self::answer::{Error, ErrorCode, ReserveError};
use self::answer::{committed, released, reserved};
use super::grpc::{
    Connection, Listening, Names,
    proto::reservation::v1::{
        CommitReservationRequest, ReleaseHoldRequest, ReserveSeatRequest,
        inventory_service_client::InventoryServiceClient,
    },
};
pub use super::grpc::{SetupError, TlsMaterial};
use crate::{
    reservation::{Allotment, Hold, ReleaseReason},
    start::Parts,
    telemetry::trace::TraceContext,
};

const NAMES: Names = Names {
    address: "INVENTORY_GRPC_ADDR",
    timeout: "INVENTORY_TIMEOUT_MS",
    address_field: "inventory_grpc_addr",
    authority_field: "inventory_tls_ca",
    identity_fields: ["inventory_tls_cert", "inventory_tls_key"],
};

const RESERVE: &str = "ReserveSeat";
const COMMIT: &str = "CommitReservation";
const RELEASE: &str = "ReleaseHold";

/// What is asked of the inventory, as its calls are measured.
pub const METHODS: [&str; 3] = [RESERVE, COMMIT, RELEASE];

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

/// A client of the inventory service; clones share its connection.
#[derive(Debug, Clone)]
pub struct InventoryClient(Connection);

impl InventoryClient {
    /// A client whose calls take `timeout` at most, connecting included. It connects on the first call, or earlier by
    /// [`Connection::connect`], so it must be made inside a Tokio runtime.
    ///
    /// # Errors
    /// When no channel can be made of `address` and `tls`.
    pub fn new(address: &str, tls: &TlsMaterial, timeout: Duration) -> Result<Self, SetupError> {
        Connection::new(address, tls, timeout).map(Self)
    }

    /// The service that `INVENTORY_GRPC_ADDR` names, or the secret; the secret may hold TLS material too. Nothing: what is
    /// wrong is noted. It must be called inside a Tokio runtime.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let address = parts.reader.required_or_secret(NAMES.address, NAMES.address_field);
        Connection::configured(parts, &NAMES, address).map(Self)
    }

    /// The connection that its calls go over.
    pub fn connection(&self) -> &Connection {
        &self.0
    }

    /// Holds seats, or any of a quantity where the allotment names none, until `hold_expires_at`. `Ok`: these seats are held,
    /// by this call or an earlier one.
    ///
    /// # Errors
    /// See [`ReserveError`] for which of them say that nothing is held.
    pub async fn reserve(&self, call: Call<'_>, hold_expires_at: SystemTime) -> Result<Hold, ReserveError> {
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
        let request = self.0.request(message, call.trace);
        let answer = self.call(RESERVE, |mut client| async move { client.reserve_seat(request).await }).await?;
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
        let request = self.0.request(message, call.trace);
        committed(self.call(COMMIT, |mut client| async move { client.commit_reservation(request).await }).await?)
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
        let request = self.0.request(message, call.trace);
        released(self.call(RELEASE, |mut client| async move { client.release_hold(request).await }).await?)
    }

    async fn call<T, F>(
        &self,
        method: &'static str,
        ask: impl FnOnce(InventoryServiceClient<Listening>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, GrpcStatus>>,
    {
        Ok(self.0.call(method, |channel| ask(InventoryServiceClient::new(channel))).await?)
    }
}
