//! Logs, metrics and traces of a function, all of them written without a sidecar.
//!
//! | signal | form |
//! | --- | --- |
//! | logs | one JSON object a line on standard output; a record's line carries `outcome` |
//! | metrics | CloudWatch's embedded metric format: the lines with `_aws` |
//! | traces | OTLP, only when an endpoint is configured; sent before the environment freezes |
//!
//! No payload, no token and no personal data is ever logged.

mod log;
pub mod metrics;
pub mod trace;

use std::io::Write;

use tracing::{Level, error};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use self::log::JsonLines;

/// Starts the log. Only this crate and the functions log at `level`; of the libraries, warnings are enough.
///
/// A second call in one process changes nothing, so that tests may call it.
pub fn init(level: Level) {
    let filter = Targets::new()
        .with_default(Level::WARN.min(level))
        .with_target("shared", level)
        // Its own line on each failed export repeats what the flush already says.
        .with_target("opentelemetry", tracing::level_filters::LevelFilter::OFF);
    let started = tracing_subscriber::registry().with(JsonLines.with_filter(filter)).try_init();
    if started.is_ok() {
        // A panic is caught where its record ends; here it only becomes a log line like any other.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            error!(error = panic.payload_as_str(), place, "the code panicked");
        }));
    }
}

/// Writes one line to standard output in one call, so that lines never mix.
fn write_line(value: &serde_json::Value) {
    let mut line = value.to_string();
    line.push('\n');
    // Nobody is left to tell when the log itself can't be written.
    let _unwritable = std::io::stdout().lock().write_all(line.as_bytes());
}
