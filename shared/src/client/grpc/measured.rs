//! How long calls take, by what was asked and by how that ended. What is asked is a constant of each client beside its call, so
//! that a function has the names of its own calls alone.

use tonic::{Code as GrpcCode, Status as GrpcStatus};

use super::Fault;
use crate::{
    name::names,
    telemetry::metrics::{Metric, Unit},
};

names! {
    /// How a call ended: the dimension `code`. A fault inside a response is a call that went well.
    pub enum Code {
        /// With a response.
        Ok = "OK",
        /// It was given up.
        Cancelled = "CANCELLED",
        /// For no reason that is known.
        Unknown = "UNKNOWN",
        /// The request is wrong.
        InvalidArgument = "INVALID_ARGUMENT",
        /// There was no response in time, by the service's clock or by ours.
        DeadlineExceeded = "DEADLINE_EXCEEDED",
        /// What it is about is not there.
        NotFound = "NOT_FOUND",
        /// What it is to make is there.
        AlreadyExists = "ALREADY_EXISTS",
        /// It is not allowed.
        PermissionDenied = "PERMISSION_DENIED",
        /// Something is used up.
        ResourceExhausted = "RESOURCE_EXHAUSTED",
        /// What it is about is not as it must be.
        FailedPrecondition = "FAILED_PRECONDITION",
        /// Something else was at it.
        Aborted = "ABORTED",
        /// Something lies beyond its end.
        OutOfRange = "OUT_OF_RANGE",
        /// There is no such method.
        Unimplemented = "UNIMPLEMENTED",
        /// The service, or the response, is broken.
        Internal = "INTERNAL",
        /// The service is not there.
        Unavailable = "UNAVAILABLE",
        /// Something is lost.
        DataLoss = "DATA_LOSS",
        /// Nobody knows who asks.
        Unauthenticated = "UNAUTHENTICATED",
    }
}

/// The time of a call, connecting included.
pub(super) const CLIENT_SECONDS: Metric =
    Metric { name: "grpc_client_seconds", unit: Unit::Seconds, dimensions: &["method", "code"] };

/// The metrics of every client.
pub const METRICS: &[Metric] = &[CLIENT_SECONDS];

impl Code {
    /// How a call ended.
    pub(super) fn of<T>(result: &Result<T, Fault>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(Fault::Status(status) | Fault::Unread(status)) => status.into(),
            Err(Fault::TimedOut(_)) => Self::DeadlineExceeded,
        }
    }
}

impl From<&GrpcStatus> for Code {
    fn from(status: &GrpcStatus) -> Self {
        match status.code() {
            GrpcCode::Ok => Self::Ok,
            GrpcCode::Cancelled => Self::Cancelled,
            GrpcCode::Unknown => Self::Unknown,
            GrpcCode::InvalidArgument => Self::InvalidArgument,
            GrpcCode::DeadlineExceeded => Self::DeadlineExceeded,
            GrpcCode::NotFound => Self::NotFound,
            GrpcCode::AlreadyExists => Self::AlreadyExists,
            GrpcCode::PermissionDenied => Self::PermissionDenied,
            GrpcCode::ResourceExhausted => Self::ResourceExhausted,
            GrpcCode::FailedPrecondition => Self::FailedPrecondition,
            GrpcCode::Aborted => Self::Aborted,
            GrpcCode::OutOfRange => Self::OutOfRange,
            GrpcCode::Unimplemented => Self::Unimplemented,
            GrpcCode::Internal => Self::Internal,
            GrpcCode::Unavailable => Self::Unavailable,
            GrpcCode::DataLoss => Self::DataLoss,
            GrpcCode::Unauthenticated => Self::Unauthenticated,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::name::Named;

    #[test]
    fn each_status_has_its_code_in_the_spelling_of_grpc() {
        for (number, code) in (0..).zip(Code::ALL) {
            let status = GrpcStatus::new(GrpcCode::from_i32(number), "");
            assert_eq!(Code::of::<()>(&Err(Fault::Status(status))), *code, "{number}");
            // tonic calls them as Rust calls variants.
            let spelled = format!("{:?}", GrpcCode::from_i32(number)).to_uppercase();
            assert_eq!(code.name().replace('_', ""), spelled);
        }
        assert_eq!(Code::ALL.len(), 17, "as many as gRPC has");
    }

    #[test]
    fn a_call_without_an_answer_is_one_whose_deadline_has_passed() {
        assert_eq!(Code::of(&Ok(())), Code::Ok);
        assert_eq!(Code::of::<()>(&Err(Fault::TimedOut(Duration::ZERO))), Code::DeadlineExceeded);
    }
}
