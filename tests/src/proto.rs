//! Generated from `proto/`: the servers' side of what the functions call. The nesting is that of the protobuf packages, because
//! generated code refers to its siblings by it.
#![allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "generated"
)]

pub mod booking_worker {
    pub mod v1 {
        tonic::include_proto!("booking_worker.v1");
    }
}
pub mod common {
    pub mod v1 {
        tonic::include_proto!("common.v1");
    }
}
pub mod payment {
    pub mod v1 {
        tonic::include_proto!("payment.v1");
    }
}
pub mod realtime {
    pub mod v1 {
        tonic::include_proto!("realtime.v1");
    }
}
pub mod reservation {
    pub mod v1 {
        tonic::include_proto!("reservation.v1");
    }
}

/// What gRPC reflection tells of them.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// The same as a file, for those who read one.
pub const DESCRIPTORS_FILE: &str = concat!(env!("OUT_DIR"), "/descriptors.binpb");
