#![doc = include_str!("../README.md")]

mod answer;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod refusal;
pub mod request;
mod routes;

use axum::Router;
use shared::{reservation::service::Reservations, start::Parts, trigger::http::Server};

pub use self::routes::{ROUTES, router};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "reservation-api";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Server<Router>> {
    Reservations::served(parts, routes::router)
}
