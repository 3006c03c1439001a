//! The service and the lines behind their paths.

use std::sync::Arc;

use axum::Router;
use shared::{trigger::http::rpc, waiting_room::service::WaitingRoom};

use crate::{
    lines,
    page::{self, Page},
    proto::booking_worker::v1::BookingWorkerServiceExt,
    service::Service,
};

/// A longer message is not read. One that is too long for its fields is read, so that it is told which.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// The calls, as their requests are counted. Those without effects come by GET too, so that caches can keep their answers.
const CALLS: [&str; 7] = [
    "POST /booking_worker.v1.BookingWorkerService/EnqueueBooking",
    "POST /booking_worker.v1.BookingWorkerService/GetQueuePosition",
    "POST /booking_worker.v1.BookingWorkerService/GetQueueStatus",
    "GET /booking_worker.v1.BookingWorkerService/GetQueueStatus",
    "POST /booking_worker.v1.BookingWorkerService/CancelQueueItem",
    "POST /booking_worker.v1.BookingWorkerService/Health",
    "GET /booking_worker.v1.BookingWorkerService/Health",
];

/// All requests that are answered, as they are counted.
pub const ROUTES: [&str; CALLS.len() + lines::ROUTES.len() + 1] = {
    let mut routes = [page::ROUTE; CALLS.len() + lines::ROUTES.len() + 1];
    let mut index = 0;
    while index < routes.len() - 1 {
        routes[index] = if index < CALLS.len() { CALLS[index] } else { lines::ROUTES[index - CALLS.len()] };
        index += 1;
    }
    routes
};

/// The service, the lines for their operators, and the page for people.
pub(crate) fn router(room: Arc<WaitingRoom>, page: &Page) -> Router {
    let lines = lines::router(Arc::new(room.lines()));
    let service = Arc::new(Service { room }).register(connectrpc::Router::new());
    rpc::router(service, CALLS, LONGEST_MESSAGE).merge(lines).merge(page.router())
}
