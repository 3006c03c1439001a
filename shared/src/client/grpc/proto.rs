//! Generated from `proto/`. The nesting is that of the protobuf packages, because generated code refers to its siblings by it.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

pub(in crate::client) mod common {
    pub(crate) mod v1 {
        tonic::include_proto!("common.v1");
    }
}
pub(in crate::client) mod payment {
    pub(crate) mod v1 {
        tonic::include_proto!("payment.v1");
    }
}
pub(in crate::client) mod realtime {
    pub(crate) mod v1 {
        tonic::include_proto!("realtime.v1");
    }
}
pub(in crate::client) mod reservation {
    pub(crate) mod v1 {
        tonic::include_proto!("reservation.v1");
    }
}
