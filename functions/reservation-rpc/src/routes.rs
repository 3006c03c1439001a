//! The service behind its paths.

use std::sync::Arc;

use axum::Router;
use shared::{reservation::service::Reservations, trigger::http::rpc};

use crate::{proto::reservation::v1::ReservationServiceExt, service::Service};

/// A longer message is not read.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// The calls, as their requests are counted.
pub const ROUTES: [&str; 6] = [
    "POST /reservation.v1.ReservationService/CreateReservation",
    "POST /reservation.v1.ReservationService/GetReservation",
    "POST /reservation.v1.ReservationService/ConfirmReservation",
    "POST /reservation.v1.ReservationService/CancelReservation",
    "POST /reservation.v1.ReservationService/ListReservations",
    "POST /reservation.v1.ReservationService/ExtendHold",
];

/// The service.
pub(crate) fn router(reservations: Arc<Reservations>) -> Router {
    rpc::router(Arc::new(Service { reservations }).register(connectrpc::Router::new()), ROUTES, LONGEST_MESSAGE)
}
