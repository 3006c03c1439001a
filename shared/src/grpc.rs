//! Services that are called over gRPC. Generated types never leave the module of their client.

pub mod inventory;
