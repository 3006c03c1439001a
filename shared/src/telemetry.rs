//! Logs, metrics and traces of a function, all of them written without a sidecar.
//!
//! | signal | form |
//! | --- | --- |
//! | logs | one JSON object a line on standard output; a record's line carries `outcome` |
//! | metrics | CloudWatch's embedded metric format: the lines with `_aws` |
//! | traces | OTLP, only when an endpoint is configured; sent before the environment freezes |
//!
//! No payload, no token and no personal data is ever logged.

pub mod baggage;
mod log;
pub mod metrics;
pub mod trace;

use std::io::Write;

use serde::Serialize;
use tracing::{Level, Metadata, error};
use tracing_subscriber::{
    Layer,
    filter::{FilterFn, LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::log::JsonLines;
use crate::config::Reader;

/// Starts the log. Only this crate and the function's own, `module`, log at `level`; of the libraries, warnings are enough.
///
/// A second call in one process changes nothing, so that tests may call it.
pub fn init(level: Level, module: &'static str) {
    let started = tracing_subscriber::registry().with(JsonLines.with_filter(filter(level, module))).try_init();
    if started.is_ok() {
        // A panic is caught where its record ends; here it only becomes a log line like any other.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            error!(error = panic.payload_as_str(), place, "the code panicked");
        }));
    }
}

/// The level that `LOG_LEVEL` names, known before anything else is, because a start that fails is logged too. What is wrong
/// with it is noted.
pub fn log_level(reader: &mut Reader<'_>) -> Level {
    match reader.optional("LOG_LEVEL").as_deref() {
        Some("debug") => Level::DEBUG,
        None | Some("info") => Level::INFO,
        Some("warn") => Level::WARN,
        Some("error") => Level::ERROR,
        Some(other) => {
            reader.fault("LOG_LEVEL", format!("must be debug, info, warn or error, not {other:?}"));
            Level::INFO
        }
    }
}

/// What is logged at `level`. A span of ours is no line but fields of lines, so that no level takes it away: a warning says
/// which record it is about, also where nothing but warnings is wanted.
fn filter(level: Level, module: &'static str) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    const OURS: &str = "shared";

    let events = Targets::new()
        .with_default(Level::WARN.min(level))
        .with_target(OURS, level)
        .with_target(module, level)
        // Its own line on each failed export repeats what the flush already says.
        .with_target("opentelemetry", LevelFilter::OFF);
    let filter = FilterFn::new(move |metadata: &Metadata<'_>| {
        if metadata.is_span() {
            [OURS, module].iter().any(|ours| metadata.target().starts_with(ours))
        } else {
            events.would_enable(metadata.target(), metadata.level())
        }
    });
    filter.with_max_level_hint(level.max(Level::INFO))
}

/// Lines of JSON.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, value: &impl Serialize) {
        let length = self.0.len();
        match serde_json::to_writer(&mut self.0, value) {
            Ok(()) => self.0.push(b'\n'),
            // Only what has keys that are no texts is no JSON, and nothing of ours has.
            Err(_not_json) => self.0.truncate(length),
        }
    }

    /// Writes them to standard output in one call, so that lines never mix.
    fn write(&self) {
        // Nobody is left to tell when the log itself can't be written.
        let _unwritable = std::io::stdout().lock().write_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Event, Subscriber, info, info_span, warn};
    use tracing_subscriber::{layer::Context, registry::LookupSpan};

    use super::*;

    /// An event's level, and the name of the span that it was written in.
    type Line = (Level, Option<&'static str>);

    /// Keeps what of each event matters here.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Line>>>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            let span = context.lookup_current().map(|span| span.name());
            self.0.lock().unwrap().push((*event.metadata().level(), span));
        }
    }

    #[test]
    fn a_level_takes_lines_away_and_no_fields() {
        for (level, expected) in [
            (
                Level::INFO,
                vec![(Level::INFO, Some("record")), (Level::WARN, Some("record")), (Level::INFO, Some("seats"))],
            ),
            (Level::WARN, vec![(Level::WARN, Some("record"))]),
            (Level::ERROR, vec![]),
        ] {
            let kept = Kept::default();
            let listening =
                tracing_subscriber::registry().with(kept.clone().with_filter(filter(level, "payment_failed")));
            tracing::subscriber::with_default(listening, || {
                let _inside = info_span!("record").entered();
                let _of_a_library = info_span!(target: "hyper", "connection").entered();
                info!("said");
                warn!("warned");
                let _of_the_function = info_span!(target: "payment_failed::seats", "seats").entered();
                info!(target: "payment_failed", "said by the function");
                info!(target: "hyper", "of a library");
                warn!(target: "opentelemetry_sdk", "said already");
            });
            assert_eq!(*kept.0.lock().unwrap(), expected, "{level}");
        }
    }
}
