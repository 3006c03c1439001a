#![doc = include_str!("../README.md")]

mod answer;
mod fault;
mod lines;
mod page;
mod request;
mod routes;
mod service;

use axum::Router;
use shared::{start::Parts, trigger::http::Server, waiting_room::service::WaitingRoom};

use self::page::Page;
pub use self::routes::ROUTES;

/// The messages and the service of `proto/`.
mod proto {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::expect_used,
        clippy::unwrap_used,
        clippy::wildcard_enum_match_arm,
        dead_code,
        missing_docs,
        unexpected_cfgs,
        unreachable_pub,
        reason = "it is generated"
    )]

    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "waiting-room";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Server<Router>> {
    let page = Page::configured(&mut parts.reader);
    WaitingRoom::served(parts, |room| {
        let page = page.hearing(room.pushes());
        routes::router(room, &page)
    })
}
