//! The composition root: configuration, clients and the Lambda runtime, put together once per environment.

mod probe;
pub mod settings;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tracing::{Instrument, error, info, info_span, warn};

use self::settings::Settings;
use crate::{
    batch::{Processor, Worker},
    config::{ConfigError, ProcessEnvironment},
    deadline::Deadline,
    failure::chain,
    idempotency::Store,
    queue::Queues,
    refund::RefundDesk,
    telemetry,
    workflow::{Services, Settler, Workflow},
};

/// The system's allocator takes a seventh of a function's processor time, this one a fraction of that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs a function until Lambda ends its environment. A start that fails is one log line and an exit status: Lambda
/// leaves the messages in their queue.
pub async fn run(workflow: Workflow) -> ExitCode {
    match start(workflow).await {
        Ok(worker) => serve(&worker).await,
        Err(error) => {
            error!(error = %error, "the function can't start");
            ExitCode::FAILURE
        }
    }
}

/// Hands every invocation to `worker`. What a record does is the processor's; this only knows batches.
pub async fn serve<P: Processor>(worker: &Worker<P>) -> ExitCode {
    worker.metrics.cold_start(worker.event_type);
    info!(event_type = worker.event_type, "the function is ready");
    let cold = AtomicBool::new(true);
    let handler = service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        // What joins our lines with Lambda's own, by the names that these have.
        let (function_request_id, cold_start) = (&event.context.request_id, cold.swap(false, Relaxed));
        let span = info_span!("invocation", function_request_id, cold_start);
        // On the heap, because so many layers in one another are more than the compiler looks through.
        Box::pin(invoke(worker, event).instrument(span)).await
    });
    match lambda_runtime::run(handler).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = %error, "the Lambda runtime ended");
            ExitCode::FAILURE
        }
    }
}

/// Reads the configuration, builds every client, and looks whether what it names is there.
///
/// # Errors
/// Every fault of the configuration, in one; when it has none, a table that can't be used.
pub async fn start(workflow: Workflow) -> Result<Worker<Settler>, ConfigError> {
    let environment = ProcessEnvironment;
    // Before any client, because making one may have something to say.
    telemetry::init(settings::log_level(&environment));
    let aws = crate::aws::sdk_config().await;
    let secret = settings::secret(&environment, &aws).await;
    let event_type = workflow.event_type.name();
    let settings = Settings::read(&environment, secret, event_type)?;

    if settings.reservations.tells_token_in_clear() {
        let base = settings.reservations.base();
        warn!(event_type, "RESERVATION_API_BASE names {base}, where the token goes without TLS; use an https address");
    }
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
    let services = Services {
        idempotency: Store::new(dynamodb, settings.idempotency_table, settings.idempotency_ttl),
        reservations: settings.reservations,
        inventory: settings.inventory,
        refunds: RefundDesk::new(aws_sdk_eventbridge::Client::new(&aws), settings.event_bus),
    };
    probe::look(event_type, &services).await?;
    Ok(Worker {
        event_type,
        processor: Settler { workflow, services },
        queues: Queues::new(aws_sdk_sqs::Client::new(&aws), settings.dead_letter_url),
        limits: settings.limits,
        metrics: settings.metrics,
        tracing: settings.tracing,
    })
}

async fn invoke<P: Processor>(
    worker: &Worker<P>,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<SqsBatchResponse, lambda_runtime::Error> {
    let deadline = Deadline::stated(event.context.deadline);
    let result = match serde_json::from_str::<SqsEvent>(event.payload.get()) {
        Ok(batch) => worker.process(batch, deadline).await.map_err(|error| chain(&error)),
        Err(error) => {
            Err(format!("the payload is no SQS event, so nothing in it can be acknowledged: {}", fault(&error)))
        }
    };
    result.map_err(|text| {
        error!(
            event_type = worker.event_type,
            error = text,
            "the invocation failed; the whole batch stays in the queue"
        );
        text.into()
    })
}

/// What is wrong with a payload. serde quotes values of the wrong type, and no payload belongs into a log.
fn fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") {
        return text;
    }
    format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_no_event_is_described_and_never_quoted() {
        let fault_of = |payload| fault(&serde_json::from_str::<SqsEvent>(payload).unwrap_err());
        assert_eq!(fault_of("{}"), "missing field `Records` at line 1 column 2");
        assert_eq!(fault_of(r#"{"Records": "jane@example.com"}"#), "data error at line 1, column 30");
        assert_eq!(fault_of("{"), "eof error at line 1, column 1");
    }
}
