//! Log lines as JSON: `ts`, `level`, `msg`, then the fields of the event and of every span around it, the innermost first.

use std::fmt::Debug;

use serde::{Serialize, Serializer};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

use super::Lines;

/// The longest text of a field, in characters. Ours are shorter; this is for the words of libraries.
const LONGEST_TEXT: usize = 4_096;

/// Writes each event as one line.
pub(super) struct JsonLines;

impl<S> Layer<S> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut lines = Lines::default();
        lines.add(&line(event, &context));
        lines.write();
    }
}

fn line<S>(event: &Event<'_>, context: &Context<'_, S>) -> Fields
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut fields = Fields::default();
    fields.put("ts", now().into());
    fields.put("level", event.metadata().level().as_str().to_lowercase().into());
    event.record(&mut fields);
    for span in context.event_scope(event).into_iter().flatten() {
        if let Some(around) = span.extensions().get() {
            fields.inherit(around);
        }
    }
    fields
}

/// Now, as a log says it: RFC 3339 in UTC, to the millisecond.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let millis = now.replace_millisecond(now.millisecond()).unwrap_or(now);
    millis.format(&Rfc3339).unwrap_or_default()
}

/// The fields of a line, or of a span, kept for the events inside it; each has one value, and an absent `Option` leaves no
/// field. There are a few of them, so that a name is looked for among all.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Sets a field. What it was before is gone.
    fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, kept)) => *kept = value,
            None => self.0.push((name, value)),
        }
    }

    /// Adds the fields of a span further out. What is said further in stands.
    fn inherit(&mut self, around: &Self) {
        for (name, value) in &around.0 {
            if self.0.iter().all(|(known, _)| known != name) {
                self.0.push((name, value.clone()));
            }
        }
    }

    fn take(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.put(name, value);
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, cut(format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, cut(value.to_owned()).into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }
}

/// A text that somebody else may have written is cut: CloudWatch bills and breaks long lines.
fn cut(mut text: String) -> String {
    // A text of so many bytes has no more characters.
    if text.len() > LONGEST_TEXT
        && let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT)
    {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing::{info, info_span};
    use tracing_subscriber::{filter::filter_fn, layer::SubscriberExt};

    use super::*;

    /// Keeps the last line, in place of writing it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<String>>);

    impl Kept {
        /// The line without its time and its level.
        fn line(&self) -> Value {
            let mut line: Value = serde_json::from_str(&self.0.lock().unwrap()).unwrap();
            let fields = line.as_object_mut().unwrap();
            assert!(fields.remove("ts").is_some() && fields.remove("level").is_some());
            line
        }
    }

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            *self.0.lock().unwrap() = serde_json::to_string(&line(event, &context)).unwrap();
        }
    }

    fn within_spans(kept: &Kept) -> impl Subscriber {
        let spans_only = JsonLines.with_filter(filter_fn(|metadata| metadata.is_span()));
        tracing_subscriber::registry().with(spans_only).with(kept.clone())
    }

    #[test]
    fn a_field_keeps_its_type_and_an_absent_one_leaves_nothing() {
        let kept = Kept::default();
        let _listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(kept.clone()));
        info!(text = "a", whole = 1_u64, signed = -1_i64, ratio = 0.5, yes = true, other = ?Some(1), absent = None::<u64>, "said");
        let expected = json!({
            "msg": "said", "text": "a", "whole": 1, "signed": -1, "ratio": 0.5, "yes": true, "other": "Some(1)",
        });
        assert_eq!(kept.line(), expected);
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let kept = Kept::default();
        let _listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(kept.clone()));
        info!(long = "é".repeat(3_000_000), whole = "é".repeat(4_096), "said");
        let cut = "é".repeat(4_096) + "…";
        let expected = json!({"msg": "said", "long": cut, "whole": "é".repeat(4_096)});
        assert_eq!(kept.line(), expected);
    }

    #[test]
    fn what_a_span_is_told_later_is_a_field_as_well() {
        let kept = Kept::default();
        let _listening = tracing::subscriber::set_default(within_spans(&kept));
        let span = info_span!("record", early = 1_u64, late = tracing::field::Empty);
        span.record("late", 2_u64);
        span.in_scope(|| info!("said"));
        assert_eq!(kept.line(), json!({"early": 1, "late": 2, "msg": "said"}));
    }

    #[test]
    fn a_line_begins_with_time_level_and_message_and_what_is_said_further_in_stands() {
        let kept = Kept::default();
        let _listening = tracing::subscriber::set_default(within_spans(&kept));
        let _outer = info_span!("batch", attempt = 1, event_id = "a", event_type = "x").entered();
        let _inner = info_span!("record", event_id = "b").entered();
        info!(attempt = 2, "said");
        let line = kept.0.lock().unwrap();
        assert!(line.starts_with(r#"{"ts":""#), "{line}");
        let (_ts, others) = line.split_once("Z\",").unwrap();
        assert_eq!(others, r#""level":"info","msg":"said","attempt":2,"event_id":"b","event_type":"x"}"#);
    }

    #[test]
    fn a_line_says_when_to_the_millisecond_in_utc() {
        let now = now();
        let fraction = now.split_once('.').map(|(_, fraction)| fraction.trim_end_matches('Z').len());
        assert!(fraction.is_none_or(|digits| digits <= 3) && now.ends_with('Z'), "{now}");
        let age = OffsetDateTime::now_utc() - OffsetDateTime::parse(&now, &Rfc3339).unwrap();
        assert!((0..60).contains(&age.whole_seconds()), "{now}");
    }
}
