//! What is measured of lines. No metric is told apart by its line: each set of dimensions is a metric of its own that is paid
//! for. Where several lines are open, the largest value of a minute is that of the worst.

use crate::{
    name::names,
    telemetry::metrics::{Metric, Unit},
};

names! {
    /// What became of people and their turns: the dimension `result`.
    pub enum Processed {
        /// Somebody has a place in a line.
        Placed = "placed",
        /// Somebody had one before.
        Known = "known",
        /// Somebody came when his line was closed.
        Closed = "closed",
        /// A place was called.
        Called = "called",
        /// A place did not answer.
        Passed = "passed",
        /// A place's reservation holds seats.
        Holding = "holding",
        /// A place has its tickets.
        Completed = "completed",
        /// A place's turn is over without any.
        Expired = "expired",
        /// A place may try once more, because its reservation got no seats.
        Retried = "retried",
        /// Somebody left, or was not heard of for too long.
        GivenUp = "given_up",
    }
}

names! {
    /// What became of a push: the dimension `result`.
    pub enum Pushed {
        /// API Gateway has it, for a connection that is open.
        Sent = "sent",
        /// Its connection had ended, and is forgotten.
        Gone = "gone",
        /// It is not known what became of it, or who would have been told.
        Failed = "failed",
    }
}

/// People who wait for their turn.
pub(super) const QUEUE_LENGTH: Metric =
    Metric { name: "booking_worker_queue_length", unit: Unit::Count, dimensions: &[] };
/// What became of people.
pub(super) const PROCESSED: Metric =
    Metric { name: "booking_worker_items_processed_total", unit: Unit::Count, dimensions: &["result"] };
/// The time of one tick of one line.
pub(super) const DURATION: Metric =
    Metric { name: "booking_worker_processing_duration_seconds", unit: Unit::Seconds, dimensions: &[] };
/// Ticks, and parts of them, that failed.
pub(super) const ERRORS: Metric = Metric { name: "booking_worker_errors_total", unit: Unit::Count, dimensions: &[] };
/// Places whose turn is going on.
pub(super) const INSIDE: Metric = Metric { name: "booking_worker_inside", unit: Unit::Count, dimensions: &[] };
/// Tickets that nobody has or may take.
pub(super) const FREE_TICKETS: Metric =
    Metric { name: "booking_worker_free_tickets", unit: Unit::Count, dimensions: &[] };
/// From somebody's arrival at the gateway until he was put into his line.
pub(super) const PLACEMENT_LAG: Metric =
    Metric { name: "booking_worker_placement_lag_seconds", unit: Unit::Seconds, dimensions: &[] };
/// People who came so late that they stand behind others who arrived after them.
pub(super) const LATE_JOINS: Metric =
    Metric { name: "booking_worker_late_joins_total", unit: Unit::Count, dimensions: &[] };
/// The time since a line's last tick, as of the next one, and each minute.
pub(super) const TICK_AGE: Metric =
    Metric { name: "booking_worker_tick_age_seconds", unit: Unit::Seconds, dimensions: &[] };
/// Turns whose reservation got no seats: more tickets are given out than there are seats.
pub(super) const WITHOUT_SEAT: Metric =
    Metric { name: "booking_worker_admitted_without_seat_total", unit: Unit::Count, dimensions: &[] };

/// What became of pushes.
pub(super) const PUSHES: Metric =
    Metric { name: "booking_worker_pushes_total", unit: Unit::Count, dimensions: &["result"] };

/// The metrics of lines.
pub const METRICS: &[Metric] = &[
    QUEUE_LENGTH,
    PROCESSED,
    DURATION,
    ERRORS,
    INSIDE,
    FREE_TICKETS,
    PLACEMENT_LAG,
    LATE_JOINS,
    TICK_AGE,
    WITHOUT_SEAT,
    PUSHES,
];
