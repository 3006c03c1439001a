//! The waiting room: people join a line before a sale, get a place by the time at which they arrived, and are let in one after
//! the other, never more of them than there are tickets.
//!
//! What decides is pure: the names of places ([`id`]), their order ([`sequence`]), what becomes of a place ([`place`]), and
//! whose turn it is ([`plan`]), all of them about one [`mod@line`]. The [`table`] keeps it. What acts stands on both: who joins
//! gets a place ([`joined`]), each minute has its ticks ([`clock`]), a tick works a line ([`desk`]), a place follows what
//! became of its reservation ([`settled`]), and who is connected is told at once ([`called`]): by a service of others, and by
//! [`push`] to the pages that have [`connected`] with a [`ticket`]. Customers ask the [`service`], which tells them their
//! [`outlook`], and operators open [`lines`] and set them.
//!
//! ```text
//!  join:      message -> item + block of pending people     one transaction, Table::join
//!  sequence:  blocks -> run of places 1..n                  each second, one transaction, Table::append
//!  let in:    plan -> line + pages of 50 places             each second, one transaction, Table::carry_out
//!  claimed:   C -> A                                        place and item, one transaction, Table::admit
//!  given up:  C, P -> X, or the item alone                  place and item, one transaction, Table::leave
//!  a turn:    A -> H -> S                                   each a compare-and-set of one place, Table::replace
//! ```

pub mod called;
pub mod clock;
mod configured;
pub mod connected;
pub mod desk;
pub mod draw;
pub mod id;
pub mod joined;
pub mod line;
pub mod lines;
pub mod measured;
pub mod message;
pub mod news;
mod notice;
pub mod outlook;
pub mod place;
pub mod plan;
pub mod push;
pub mod sequence;
pub mod service;
pub mod settled;
pub mod settling;
pub mod table;
pub mod ticket;

use std::time::Duration;

/// Milliseconds since the epoch, as all times here are.
pub type Moment = u64;

/// A length of time in milliseconds.
pub(crate) fn ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
