//! Services that are called over REST.

pub mod reservation;
