//! Log lines as JSON: `ts`, `level`, `msg`, then the fields of the event and of every span around it.

use serde_json::{Map, Value};
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

use super::write_line;

/// The longest text of a field, in characters. Ours are shorter; this is for the words of libraries.
const LONGEST_TEXT: usize = 4_096;

/// Writes each event as one line.
pub(super) struct JsonLines;

/// The fields of one span, kept for the events inside it.
struct SpanFields(Map<String, Value>);

impl<S> Layer<S> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Map::new();
        attributes.record(&mut Collect(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            values.record(&mut Collect(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Map::new();
        fields.insert("ts".into(), now().into());
        fields.insert("level".into(), event.metadata().level().as_str().to_lowercase().into());
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(SpanFields(inherited)) = span.extensions().get() {
                fields.extend(inherited.clone());
            }
        }
        event.record(&mut Collect(&mut fields));
        write_line(&Value::Object(fields));
    }
}

/// Now, as a log says it: RFC 3339 in UTC, to the millisecond.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let millis = now.replace_millisecond(now.millisecond()).unwrap_or(now);
    millis.format(&Rfc3339).unwrap_or_default()
}

/// Turns fields into JSON values; an absent `Option` leaves no field.
struct Collect<'a>(&'a mut Map<String, Value>);

impl Collect<'_> {
    /// A text that somebody else may have written is cut: CloudWatch bills and breaks long lines.
    fn text(&mut self, field: &Field, text: &str) {
        let cut = text
            .char_indices()
            .nth(LONGEST_TEXT)
            .map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]));
        self.put(field, cut.into());
    }

    fn put(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing::{info, info_span};
    use tracing_subscriber::{filter::filter_fn, layer::SubscriberExt};

    use super::*;

    /// Keeps the fields of the last event and of the spans around it, in place of writing them.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Map<String, Value>>>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            let mut fields = self.0.lock().unwrap();
            for span in context.event_scope(event).into_iter().flatten() {
                fields.extend(span.extensions().get::<SpanFields>().unwrap().0.clone());
            }
            event.record(&mut Collect(&mut fields));
        }
    }

    #[test]
    fn a_field_keeps_its_type_and_an_absent_one_leaves_nothing() {
        let kept = Kept::default();
        let _listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(kept.clone()));
        info!(text = "a", whole = 1_u64, signed = -1_i64, ratio = 0.5, yes = true, other = ?Some(1), absent = None::<u64>, "said");
        let expected = json!({
            "msg": "said", "text": "a", "whole": 1, "signed": -1, "ratio": 0.5, "yes": true, "other": "Some(1)",
        });
        assert_eq!(Value::Object(kept.0.lock().unwrap().clone()), expected);
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let kept = Kept::default();
        let _listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(kept.clone()));
        info!(long = "é".repeat(3_000_000), whole = "é".repeat(4_096), "said");
        let cut = "é".repeat(4_096) + "…";
        let expected = json!({"msg": "said", "long": cut, "whole": "é".repeat(4_096)});
        assert_eq!(Value::Object(kept.0.lock().unwrap().clone()), expected);
    }

    #[test]
    fn what_a_span_is_told_later_is_a_field_as_well() {
        let kept = Kept::default();
        let spans_only = JsonLines.with_filter(filter_fn(|metadata| metadata.is_span()));
        let _listening =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(spans_only).with(kept.clone()));
        let span = info_span!("record", early = 1_u64, late = tracing::field::Empty);
        span.record("late", 2_u64);
        span.in_scope(|| info!("said"));
        assert_eq!(Value::Object(kept.0.lock().unwrap().clone()), json!({"early": 1, "late": 2, "msg": "said"}));
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
