//! What every Holdfast function stands on.
//!
//! A function's `main` names what it is made of, by type, and hands it to [`start::run`]; that is all it does. The modules,
//! from what a function is to what it stands on:
//!
//! | layer | modules | knows about |
//! | --- | --- | --- |
//! | systems | [`settlement`], [`booking`], [`waiting_room`] | the events of one system and what they do |
//! | domain | [`reservation`], [`admission`], [`field`] | reservations, what they hold and who may make them; no I/O |
//! | clients | [`client`] | the services that are called: one module each |
//! | triggers | [`trigger`] | how Lambda hands work over, and what an answer means there |
//! | base | [`start`], [`config`], [`failure`], [`deadline`], [`backoff`], [`idempotency`], [`json`], [`name`], [`recent`], [`telemetry`] | environments, time, keys, logs |
//!
//! Triggers and base know nothing of any system; `tests/template` keeps that.

pub mod booking;
pub mod settlement;
pub mod waiting_room;

pub mod admission;
pub mod field;
pub mod reservation;

pub mod client;

pub mod trigger;

pub mod backoff;
pub mod config;
pub mod deadline;
pub mod failure;
pub mod idempotency;
pub mod json;
pub mod name;
pub mod recent;
pub mod start;
pub mod telemetry;
