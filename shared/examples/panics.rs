//! A function whose records panic when they say so. No real function can be made to; the tests in `tests/release` run this
//! one as a deployed build is compiled, to see that a panic stays inside its record.

// The futures of the AWS SDK are nested deeply, and here the compiler lays out those of a whole worker at once.
#![recursion_limit = "256"]
#![allow(clippy::panic, reason = "what it is for")]

use std::{process::ExitCode, time::Duration};

use shared::{
    deadline::Deadline,
    failure::Failure,
    settlement::Outcome,
    start,
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    start::run("test", module_path!(), |parts| Worker::configured(Some(Panics), parts)).await
}
