//! A function that panics when a record says so. No real function can be made to; the tests in `tests/release` run this one as
//! a deployed build is compiled, to see that a panic stays inside its record, and that none ends the process.

// The futures of the AWS SDK are nested deeply, and here the compiler lays out those of a whole worker at once.
#![recursion_limit = "256"]
#![allow(clippy::panic, reason = "what it is for")]

use std::{cell::Cell, process::ExitCode, time::Duration};

use aws_lambda_events::sqs::SqsBatchResponse;
use serde_json::value::RawValue;
use shared::{
    config::ConfigError,
    deadline::Deadline,
    failure::Failure,
    settlement::Outcome,
    start::{self, Function},
    telemetry::trace::TraceContext,
    trigger::{
        Decoded, Done, Processor,
        sqs::{Record, Worker},
    },
};
use tracing::{Span, info};

/// Panics where a body says: while it is decoded, or while it is worked.
struct Panics;

impl Processor<Record> for Panics {
    type Item = String;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        "test"
    }

    fn budget(&self) -> Duration {
        Duration::ZERO
    }

    fn decode(&self, record: &Record) -> Result<Decoded<String>, Failure> {
        let item = record.body.clone();
        if item == "panic in decode" {
            panic!("as the record says");
        }
        Ok(Decoded { key: record.message_id.clone(), item, span: Span::none(), producer: TraceContext::default() })
    }

    async fn process(
        &self,
        item: String,
        _trace: &TraceContext,
        _deadline: Deadline,
    ) -> Result<Done<Outcome>, Failure> {
        info!("a line of the function's own crate");
        tokio::task::yield_now().await;
        if item == "panic in process" {
            panic!("as the record says");
        }
        Ok(Done::of(Outcome::Success))
    }
}

/// The function, which also panics where a body says so once its answer is sent.
struct PanicsAfter {
    worker: Worker<Panics>,
    is_due: Cell<bool>,
}

impl Function for PanicsAfter {
    type Response = SqsBatchResponse;

    async fn probe(&self) -> Result<(), ConfigError> {
        self.worker.probe().await
    }

    async fn invoke(&self, payload: &RawValue, deadline: Deadline) -> Result<SqsBatchResponse, String> {
        self.is_due.set(payload.get().contains("panic when answered"));
        self.worker.invoke(payload, deadline).await
    }

    async fn answered(&self, deadline: Deadline) {
        self.worker.answered(deadline).await;
        if self.is_due.get() {
            panic!("as the record says");
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let function = |worker| PanicsAfter { worker, is_due: Cell::new(false) };
    start::run("test", module_path!(), |parts| Worker::configured(Some(Panics), parts).map(function)).await
}
