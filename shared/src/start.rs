//! What every function does first: it starts the log, reads its configuration, builds its clients, looks whether what the
//! configuration names is there, and then hands every invocation to its [`Function`].

pub mod probe;

use std::{cell::Cell, future::ready, panic::AssertUnwindSafe, process::ExitCode};

use aws_config::SdkConfig;
use futures_util::FutureExt;
use lambda_runtime::{LambdaEvent, Runtime, service_fn, tower::util::ThenLayer};
use serde::Serialize;
use serde_json::value::RawValue;
use tracing::{Instrument, debug, error, info, info_span};

use crate::{
    client::aws,
    config::{ConfigError, ProcessEnvironment, Reader, secret::SecretStore},
    deadline::Deadline,
    telemetry::{self, metrics::Metrics},
};

/// The system's allocator takes a seventh of a function's processor time, this one a fraction of that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the parts of a function are made of.
pub struct Parts<'a> {
    /// What the function is called in logs, metrics and traces.
    pub name: &'static str,
    /// The variables, and the secret.
    pub reader: Reader<'a>,
    /// Region, credentials and endpoint of AWS.
    pub aws: &'a SdkConfig,
    /// Where all parts count and measure.
    pub metrics: Metrics,
}

impl<'a> Parts<'a> {
    /// The parts of the function that is called `name`.
    pub fn new(name: &'static str, mut reader: Reader<'a>, aws: &'a SdkConfig) -> Self {
        let metrics = Metrics::configured(&mut reader);
        Self { name, reader, aws, metrics }
    }
}

/// What a trigger's invocations are handed to.
pub trait Function {
    /// The answer to Lambda.
    type Response: Serialize;

    /// Looks whether what the configuration names is there. It is the first call.
    ///
    /// # Errors
    /// What no waiting can mend.
    fn probe(&self) -> impl Future<Output = Result<(), ConfigError>>;

    /// The one event type that the function works, which its line says when it is ready. Nothing: it has no such type.
    fn event_type(&self) -> Option<&'static str> {
        None
    }

    /// Counts that the function is ready, once and before its first invocation, where starts are counted.
    fn count_start(&self) {}

    /// Works one invocation.
    ///
    /// # Errors
    /// What is wrong with the invocation as a whole; it is in the log already. What that means to the trigger is written at
    /// each implementation.
    fn invoke(&self, payload: &RawValue, deadline: Deadline) -> impl Future<Output = Result<Self::Response, String>>;

    /// Tells what is left to tell of the invocation, now that its answer is with Lambda, or could not be sent. Whoever waited
    /// for the answer has it; the environment neither freezes nor takes other work before this ends.
    fn answered(&self, _deadline: Deadline) -> impl Future<Output = ()> {
        ready(())
    }
}

/// Runs the function that `compose` makes of its parts until Lambda ends its environment. A start that fails is one log line
/// and an exit status. `name` is what the function is called in logs, metrics and traces; `module` is its own `module_path!()`,
/// whose lines are logged as those of this crate are.
pub async fn run<F: Function>(
    name: &'static str,
    module: &'static str,
    compose: impl FnOnce(&mut Parts<'_>) -> Option<F>,
) -> ExitCode {
    match start(name, module, compose).await {
        Ok(function) => serve(&function).await,
        Err(error) => {
            error!(error = %error, "the function can't start");
            ExitCode::FAILURE
        }
    }
}

/// Hands every invocation to `function`.
async fn serve<F: Function>(function: &F) -> ExitCode {
    function.count_start();
    info!(event_type = function.event_type(), "the function is ready");
    let (cold, in_hand) = (Cell::new(true), Cell::new(None));
    let handler = service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        // What joins our lines with Lambda's own, by the names that these have.
        let (function_request_id, cold_start) = (&event.context.request_id, cold.replace(false));
        let span = info_span!("invocation", function_request_id, cold_start);
        let deadline = Deadline::stated(event.context.deadline);
        in_hand.set(Some((span.clone(), deadline)));
        // On the heap, because so many layers in one another are more than the compiler looks through.
        let answer = Box::pin(function.invoke(&event.payload, deadline)).instrument(span).await;
        answer.map_err(lambda_runtime::Error::from)
    });
    // `lambda_runtime::run` would add a span of its own, which nothing here reads.
    let runtime = Runtime::new(handler).layer(ThenLayer::new(async |sent| {
        if let Some((span, deadline)) = in_hand.take() {
            // The runtime catches a panic in the handler, and none here; it is in the log already.
            drop(AssertUnwindSafe(function.answered(deadline).instrument(span)).catch_unwind().await);
        }
        sent
    }));
    match runtime.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = %error, "the Lambda runtime ended");
            ExitCode::FAILURE
        }
    }
}

/// Reads the configuration, builds what `compose` makes of it, and looks whether what the configuration names is there.
async fn start<F: Function>(
    name: &'static str,
    module: &'static str,
    compose: impl FnOnce(&mut Parts<'_>) -> Option<F>,
) -> Result<F, ConfigError> {
    let environment = ProcessEnvironment;
    // Before any client, because making one may have something to say.
    telemetry::init(telemetry::log_level(&mut Reader::new(&environment)), module);
    debug!(module, "the function starts");
    let aws = aws::sdk_config().await;
    let store = SecretStore::asked_for(&environment, &aws);
    let secret = match &store {
        Some(store) => Some(store.read().await),
        None => None,
    };
    let mut reader = Reader::with_secret(&environment, secret, store);
    telemetry::log_level(&mut reader);
    let mut parts = Parts::new(name, reader, &aws);
    let made = compose(&mut parts);
    let function = parts.reader.finish(made)?;
    function.probe().await?;
    Ok(function)
}
