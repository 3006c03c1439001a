#![doc = include_str!("../README.md")]

mod answer;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod refusal;
pub mod request;
mod routes;

use axum::Router;
use futures_util::future::LocalBoxFuture;
use shared::{reservation::service::Reservations, start::Parts, trigger::http::Server};

pub use self::routes::ROUTES;

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "reservation-api";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Server<Router>> {
    let reservations = Reservations::configured(parts);
    let server = Server::configured(reservations.clone().map(routes::router), parts);
    let reservations = reservations?;
    let look = move || -> LocalBoxFuture<'static, _> {
        let reservations = reservations.clone();
        Box::pin(async move { reservations.probe(NAME).await })
    };
    Some(server?.looking(look))
}
