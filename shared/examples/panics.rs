//! A function whose records panic when they say so. No real function can be made to; the tests in `tests/release` run this
//! one as a deployed build is compiled, to see that a panic stays inside its record.

// The futures of the AWS SDK are nested deeply, and here the compiler lays out those of a whole worker at once.
#![recursion_limit = "256"]
#![allow(clippy::panic, reason = "what it is for")]

use std::{process::ExitCode, time::Duration};

use shared::{
    aws,
    backoff::Backoff,
    batch::{Decoded, Done, Limits, Processor, Record, Worker},
    deadline::Deadline,
    failure::Failure,
    queue::Queues,
    telemetry::{
        self,
        metrics::Metrics,
        trace::{TraceContext, Tracing},
    },
    worker,
};
use tracing::{Level, Span};

/// Panics where a body says: while it is decoded, or while it is worked.
struct Panics;

impl Processor for Panics {
    type Item = String;

    fn decode(&self, record: &Record) -> Result<Decoded<String>, Failure> {
        let item = record.body.clone();
        if item == "panic in decode" {
            panic!("as the record says");
        }
        Ok(Decoded { key: record.message_id.clone(), item, span: Span::none(), producer: TraceContext::default() })
    }

    async fn process(&self, item: String, _trace: &TraceContext, _deadline: Deadline) -> Result<Done, Failure> {
        tokio::task::yield_now().await;
        if item == "panic in process" {
            panic!("as the record says");
        }
        Ok(Done { outcome: "success", note: None })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::init(Level::INFO);
    let budget = Duration::from_secs(10);
    let worker = Worker {
        event_type: "test",
        processor: Panics,
        queues: Queues::new(aws_sdk_sqs::Client::new(&aws::sdk_config().await), None),
        limits: Limits { concurrency: 20, max_receives: 5, budget, backoff: Backoff::DEFAULT },
        metrics: Metrics::default(),
        tracing: Tracing::default(),
    };
    worker::serve(&worker).await
}
