//! The spans of transactions and of marks, beside those of records.

use std::collections::BTreeSet;

use local_stack::collector::{Collector, text};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use serde_json::json;

use crate::house::{House, JANE, booking, booking_with, cancellation, outcomes};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Transactions, the marks that refusals were told, and records.
fn parted(spans: Vec<Span>) -> (Vec<Span>, Vec<Span>, Vec<Span>) {
    let (transactions, others): (Vec<Span>, Vec<Span>) = spans.into_iter().partition(|span| span.name == "transaction");
    let (marks, records) = others.into_iter().partition(|span| span.name == "mark");
    (transactions, marks, records)
}

fn ids<'a>(spans: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    spans.into_iter().map(|(trace, span)| (trace.clone(), span.clone())).collect()
}

#[tokio::test]
async fn each_transaction_and_each_mark_has_a_span_that_is_linked_to_those_of_its_records() {
    let collector = Collector::start().await.unwrap();
    let changes = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone())];
    let Some(house) = House::open_with(&changes).await else { return };
    let unsampled = PARENT.replace("-01", "-00");
    let ended = house
        .book([
            booking_with("b1", json!({ "traceparent": PARENT })),
            booking("b2"),
            booking_with("b3", json!({"traceparent": unsampled, "roomId": "102"})),
            json!("junk"),
            booking_with("b1", json!({ "traceparent": PARENT })),
        ])
        .await;
    assert_eq!(outcomes(&ended), ["success", "refused", "success", "rejected", "duplicate"]);
    let (transactions, marks, records) = parted(collector.spans());
    let [first, second] = transactions.as_slice() else { panic!("{transactions:#?}") };
    let [mark] = marks.as_slice() else { panic!("{marks:#?}") };
    assert_eq!(collector.exports().len(), 1, "one call an invocation");
    assert_eq!(records.len(), 4, "one a record that is sampled");
    for transaction in [first, second, mark] {
        assert_eq!((transaction.kind(), &transaction.parent_span_id), (SpanKind::Client, &Vec::new()));
        let attribute = |name| text(&transaction.attributes, name);
        let described = ["db.system.name", "db.namespace", "holdfast.outcome"].map(attribute);
        assert_eq!(described, ["postgresql", house.database.name.as_str(), "committed"]);
    }
    // By the order in which the records ended, and so without a promise which is first.
    let linked = ids([first, second]
        .iter()
        .flat_map(|transaction| &transaction.links)
        .map(|link| (&link.trace_id, &link.span_id)));
    let written = records.iter().filter(|span| text(&span.attributes, "holdfast.outcome") != "rejected");
    assert_eq!(linked, ids(written.map(|span| (&span.trace_id, &span.span_id))));
    assert_eq!((first.links.len(), second.links.len()), (2, 1), "the second of a booking is in a second transaction");

    let refused = records.iter().filter(|span| text(&span.attributes, "holdfast.outcome") == "refused");
    let marked = ids(mark.links.iter().map(|link| (&link.trace_id, &link.span_id)));
    assert_eq!(marked, ids(refused.map(|span| (&span.trace_id, &span.span_id))), "the mark is for what was refused");

    house.cancel([json!({"traceparent": unsampled, "bookingId": "b9", "userId": JANE})]).await[0].is("early");
    assert_eq!(collector.spans().len(), 7, "what nobody samples has none");
    house.cancel([cancellation("b1", JANE)]).await[0].is("success");
    assert_eq!(collector.spans().len(), 9);
}
