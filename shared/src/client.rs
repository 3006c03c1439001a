//! The services that are called, and what every client of them stands on. Generated types never leave the module of their
//! client.

pub mod aws;
pub mod bus;
pub mod connections;
pub mod grpc;
pub mod http;
pub mod inventory;
pub mod payments;
pub mod postgres;
pub mod queue;
pub mod realtime;
pub mod reservations;
pub mod signature;
pub mod tls;
