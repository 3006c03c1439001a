//! The functions of the workspace, each with what it is. Every ring takes its work from here: who adds a function adds it to
//! a list here, and a test is red while the lists and the folders in `functions/` differ.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use shared::{
    config::{ConfigError, Reader, Source, secret::SecretFields},
    settlement::{Guard, LostRace, Outcome, Settle, Workflow, event::EventType},
    start::Parts,
    telemetry,
    trigger::sqs::Limits,
};

use crate::{inventory::SeatState, reservations::Status};

/// A system, which a parameter of the template switches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Events about a reservation move it and its seats to one end.
    Settlement,
    /// Reservations are held, confirmed and cancelled.
    Reservations,
    /// Bookings of rooms become rows of a database.
    Bookings,
    /// People stand in a line before they may reserve.
    WaitingRoom,
}

/// How Lambda hands a function its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// By a queue of its own, in batches.
    Queue,
    /// By an HTTP API, request by request.
    Http,
    /// By a WebSocket API, whenever something happens to a connection.
    WebSocket,
    /// By the stream of a table, in batches that are in order.
    Stream,
    /// By the clock.
    Schedule,
}

impl System {
    /// The template's parameter that switches it on.
    pub const fn switch(self) -> &'static str {
        match self {
            Self::Settlement => "Settlement",
            Self::Reservations => "Reservations",
            Self::Bookings => "Bookings",
            Self::WaitingRoom => "WaitingRoom",
        }
    }
}

/// A function of the workspace.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name of its folder, its package and its binary.
    pub name: &'static str,
    /// What it belongs to.
    pub system: System,
    /// How it is called.
    pub trigger: Trigger,
    /// Composes it of its parts as its `main` does. Nothing: what is wrong is noted.
    pub compose: fn(&mut Parts<'_>) -> Option<()>,
}

impl Entry {
    /// Composes the function in this environment, with this secret, if it reads one. It must be called inside a Tokio runtime,
    /// because clients are made.
    ///
    /// # Errors
    /// Every fault of the environment.
    pub fn starts_in(
        &self,
        environment: &dyn Source,
        secret: Option<Result<SecretFields, String>>,
    ) -> Result<(), ConfigError> {
        composed(self.name, environment, secret, self.compose)
    }
}

/// A function that settles the events of one type, from a queue of its own.
#[derive(Debug, Clone, Copy)]
pub struct Settling {
    /// The name of its folder, its package, its binary, its queue and its folder in `events/`.
    pub name: &'static str,
    /// What it does with an event.
    pub workflow: Workflow,
    /// How an event ends that lost its race.
    pub lost_race: Outcome,
    /// Composes it of its parts as its `main` does, and answers with its limits.
    pub limits: fn(&mut Parts<'_>) -> Option<Limits>,
    /// The same, for who asks only whether it can be composed.
    pub compose: fn(&mut Parts<'_>) -> Option<()>,
}

impl Settling {
    /// The events that it settles.
    pub fn event_type(&self) -> EventType {
        self.workflow.event_type
    }

    /// What it makes of a reservation on hold.
    pub fn wanted(&self) -> Status {
        match self.workflow.guard {
            Guard::Confirmed => Status::Confirmed,
            Guard::Cancelled => Status::Cancelled,
            Guard::Expired => Status::Expired,
        }
    }

    /// What it makes of the seats of a reservation on hold.
    pub fn settled(&self) -> SeatState {
        match self.workflow.settle {
            Settle::Commit => SeatState::Sold,
            Settle::Release(_) => SeatState::Free,
        }
    }

    /// Whether it sells, by a payment.
    pub fn sells(&self) -> bool {
        self.workflow.guard == Guard::Confirmed
    }

    /// The function's limits in this environment, with this secret, if it reads one. It must be called inside a Tokio
    /// runtime, because clients are made.
    ///
    /// # Errors
    /// Every fault of the environment.
    pub fn limits_in(
        &self,
        environment: &dyn Source,
        secret: Option<Result<SecretFields, String>>,
    ) -> Result<Limits, ConfigError> {
        composed(self.workflow.name(), environment, secret, self.limits)
    }
}

/// Region and credentials, as Lambda sets them.
pub(crate) fn aws_of_a_test() -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "role")))
        .build()
}

/// A function that reads a queue of its own, whatever its system.
#[derive(Debug, Clone, Copy)]
pub struct Fed {
    /// The name of its folder, its package, its binary, its queue and its folder in `events/`.
    pub name: &'static str,
    /// What its events are called, in its metrics too.
    pub event_type: &'static str,
    /// What it settles; nothing, where it belongs to another system.
    pub settling: Option<Settling>,
    /// Whether a rule of the bus sends to its queue. Otherwise functions do.
    pub is_fed_by_the_bus: bool,
    /// Whether a message that can't be worked is kept for a person, in a dead-letter queue. One that is worth nothing a second
    /// later is not.
    pub keeps_dead_letters: bool,
    /// Whether a fault that lasts up to a message's last receive ends the message. Others try until nobody waits for it any
    /// more, or acknowledge what failed.
    pub gives_up: bool,
    /// Composes it of its parts as its `main` does, and answers with its limits.
    pub limits: fn(&mut Parts<'_>) -> Option<Limits>,
}

impl Fed {
    /// The system that it belongs to.
    ///
    /// # Panics
    /// When it is none of the catalogue. A test holds that it is one.
    pub fn system(&self) -> System {
        let entry = function(self.name);
        entry.unwrap_or_else(|| panic!("{} is no function", self.name)).system
    }
}

/// Every function that reads a queue of its own.
pub fn all_fed() -> impl Iterator<Item = Fed> {
    let settling = |settling: Settling| Fed {
        name: settling.name,
        event_type: settling.workflow.name(),
        settling: Some(settling),
        is_fed_by_the_bus: true,
        keeps_dead_letters: true,
        gives_up: true,
        limits: settling.limits,
    };
    SETTLING.into_iter().map(settling).chain(RECORDING).chain(WAITING)
}

/// The function that reads a queue of its own under this name.
pub fn fed(name: &str) -> Option<Fed> {
    all_fed().find(|function| function.name == name)
}

/// What `compose` makes of a function's parts, where Lambda has set region and credentials. It must be called inside a Tokio
/// runtime, because clients are made.
///
/// # Errors
/// Every fault of the environment.
pub fn composed<T>(
    name: &'static str,
    environment: &dyn Source,
    secret: Option<Result<SecretFields, String>>,
    compose: fn(&mut Parts<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let aws = aws_of_a_test();
    let reader = Reader::with_secret(environment, secret, None);
    let mut parts = Parts::new(name, reader, &aws);
    telemetry::log_level(&mut parts.reader);
    let made = compose(&mut parts);
    parts.reader.finish(made)
}

/// A function by its folder and its crate.
macro_rules! settling {
    ($name:literal, $function:ident) => {
        Settling {
            name: $name,
            workflow: $function::WORKFLOW,
            lost_race: $function::LostRace::OUTCOME,
            limits: |parts| $function::compose(parts).map(|worker| worker.limits),
            compose: |parts| $function::compose(parts).map(|_worker| ()),
        }
    };
}

/// Every function that settles events.
pub const SETTLING: [Settling; 5] = [
    settling!("reservation-expired", reservation_expired),
    settling!("payment-approved", payment_approved),
    settling!("payment-failed", payment_failed),
    settling!("reservation-cancelled", reservation_cancelled),
    settling!("reservation-confirmed", reservation_confirmed),
];

/// Another function by its crate.
macro_rules! other {
    ($function:ident, $system:ident, $trigger:ident) => {
        Entry {
            name: $function::NAME,
            system: System::$system,
            trigger: Trigger::$trigger,
            compose: |parts| $function::compose(parts).map(drop),
        }
    };
}

/// Every function that writes what happens to bookings.
pub const RECORDING: [Fed; 2] = [
    Fed {
        name: booking_created::NAME,
        event_type: "booking.created",
        settling: None,
        is_fed_by_the_bus: true,
        keeps_dead_letters: true,
        gives_up: true,
        limits: |parts| booking_created::compose(parts).map(|consumer| consumer.worker.limits),
    },
    Fed {
        name: booking_cancelled::NAME,
        event_type: "booking.cancelled",
        settling: None,
        is_fed_by_the_bus: true,
        keeps_dead_letters: true,
        gives_up: true,
        limits: |parts| booking_cancelled::compose(parts).map(|consumer| consumer.worker.limits),
    },
];

/// Every function of the waiting room that reads a queue of its own.
pub const WAITING: [Fed; 4] = [
    Fed {
        name: waiting_room_joined::NAME,
        event_type: "line.joined",
        settling: None,
        is_fed_by_the_bus: false,
        keeps_dead_letters: true,
        gives_up: false,
        limits: |parts| waiting_room_joined::compose(parts).map(|worker| worker.limits),
    },
    Fed {
        name: waiting_room_ticked::NAME,
        event_type: "line.ticked",
        settling: None,
        is_fed_by_the_bus: false,
        keeps_dead_letters: false,
        gives_up: false,
        limits: |parts| waiting_room_ticked::compose(parts).map(|worker| worker.limits),
    },
    Fed {
        name: waiting_room_settled::NAME,
        event_type: "line.settled",
        settling: None,
        is_fed_by_the_bus: true,
        keeps_dead_letters: true,
        gives_up: true,
        limits: |parts| waiting_room_settled::compose(parts).map(|worker| worker.limits),
    },
    Fed {
        name: waiting_room_called::NAME,
        event_type: "line.called",
        settling: None,
        is_fed_by_the_bus: true,
        keeps_dead_letters: true,
        gives_up: true,
        limits: |parts| waiting_room_called::compose(parts).map(|worker| worker.limits),
    },
];

/// Every other function.
const OTHERS: [Entry; 14] = [
    other!(reservation_api, Reservations, Http),
    other!(reservation_rpc, Reservations, Http),
    other!(reservation_changed, Reservations, Stream),
    other!(reservation_sweep, Reservations, Schedule),
    other!(booking_created, Bookings, Queue),
    other!(booking_cancelled, Bookings, Queue),
    other!(booking_migrate, Bookings, Schedule),
    other!(waiting_room, WaitingRoom, Http),
    other!(waiting_room_joined, WaitingRoom, Queue),
    other!(waiting_room_ticked, WaitingRoom, Queue),
    other!(waiting_room_settled, WaitingRoom, Queue),
    other!(waiting_room_called, WaitingRoom, Queue),
    other!(waiting_room_connected, WaitingRoom, WebSocket),
    other!(waiting_room_clock, WaitingRoom, Schedule),
];

/// Every function.
pub const CATALOGUE: [Entry; SETTLING.len() + OTHERS.len()] = catalogue();

/// The names of all functions, in the same order.
pub const NAMES: [&str; CATALOGUE.len()] = names();

/// The names of those that settle, each behind a queue.
pub const QUEUED: [&str; SETTLING.len()] = queued();

/// The function of this name.
pub fn function(name: &str) -> Option<Entry> {
    CATALOGUE.into_iter().find(|entry| entry.name == name)
}

/// The function that settles under this name.
pub fn named(name: &str) -> Option<Settling> {
    SETTLING.into_iter().find(|function| function.name == name)
}

/// The function that settles events of this type.
///
/// # Panics
/// When there is none. A test holds that there is one.
pub fn settler_of(event_type: EventType) -> Settling {
    let found = SETTLING.into_iter().find(|function| function.workflow.event_type == event_type);
    found.unwrap_or_else(|| panic!("no function settles {event_type:?}"))
}

const fn catalogue() -> [Entry; SETTLING.len() + OTHERS.len()] {
    let mut entries = [OTHERS[0]; SETTLING.len() + OTHERS.len()];
    let mut index = 0;
    while index < entries.len() {
        entries[index] = if index < SETTLING.len() {
            let Settling { name, compose, .. } = SETTLING[index];
            Entry { name, system: System::Settlement, trigger: Trigger::Queue, compose }
        } else {
            OTHERS[index - SETTLING.len()]
        };
        index += 1;
    }
    entries
}

const fn names() -> [&'static str; CATALOGUE.len()] {
    let mut names = [""; CATALOGUE.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = CATALOGUE[index].name;
        index += 1;
    }
    names
}

const fn queued() -> [&'static str; SETTLING.len()] {
    let mut names = [""; SETTLING.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = SETTLING[index].name;
        index += 1;
    }
    names
}

#[cfg(test)]
mod tests;
