//! What every Holdfast function stands on.
//!
//! Three layers, in reading order. A function names a [`workflow::Workflow`] and hands it to [`worker::run`]; that is all
//! it does.
//!
//! | layer | modules | knows about |
//! | --- | --- | --- |
//! | composition | [`worker`] | environment variables, which client is built when |
//! | reservations | [`workflow`], [`event`], [`field`], [`rest`], [`grpc`], [`refund`] | reservations, seats, payments |
//! | delivery | [`batch`], [`queue`], [`backoff`], [`idempotency`], [`failure`], [`deadline`], [`aws`], [`config`], [`secret`], [`http`], [`tls`], [`json`], [`telemetry`] | queues, records, keys, outcomes; nothing of reservations |
//!
//! The delivery layer must stay free of reservations: other systems are to stand on it.

pub mod worker;

pub mod event;
pub mod field;
pub mod grpc;
pub mod refund;
pub mod rest;
pub mod workflow;

pub mod aws;
pub mod backoff;
pub mod batch;
pub mod config;
pub mod deadline;
pub mod failure;
pub mod http;
pub mod idempotency;
pub mod json;
pub mod queue;
pub mod secret;
pub mod telemetry;
pub mod tls;
