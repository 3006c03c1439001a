#![doc = include_str!("../README.md")]

use shared::{start::Parts, trigger::http::Server, waiting_room::connected::Connections};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "waiting-room-connected";

/// What happens to connections, as it is counted: the routes of its API.
pub const ROUTES: [&str; 3] = ["$connect", "$disconnect", "$default"];

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Server<Connections>> {
    Connections::served(parts)
}
