//! What is nobody's business stays out of logs, of spans, and of what is written about dead letters.

use local_stack::collector::Collector;
use serde_json::json;

use crate::house::{House, JANE, JOE, booking, booking_with, cancellation, outcomes};

#[tokio::test]
async fn no_line_no_span_and_no_reason_of_a_dead_letter_names_a_person_or_a_value() {
    let collector = Collector::start().await.unwrap();
    let changes = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone())];
    let Some(house) = House::open_with(&changes).await else { return };
    house.run("ALTER TABLE bookings ADD CONSTRAINT few_guests CHECK (number_of_guests <= 900)").await;
    let baggage = json!({"baggage": "trace-id=abc123,user=jane%40example.com"});
    let ended = house
        .book([
            booking_with("b1", baggage),
            booking_with("b2", json!({"guests": 987, "paymentId": "pi_of_the_row"})),
            booking_with("b3", json!({"userId": "secret.person@example.com"})),
            booking_with("b4", json!({"userId": 12.5625})),
            booking("b5"),
        ])
        .await;
    assert_eq!(outcomes(&ended), ["success", "rejected", "retried", "rejected", "refused"]);
    ended[1].because("invalid_field").says("23514").says("few_guests");
    house.cancel([cancellation("b1", JOE), cancellation("b1", JANE)]).await;
    let mut written = house.created.function.all_logs();
    written.extend(house.cancelled.function.all_logs());
    assert!(written.iter().any(|line| line.contains("trace-id=abc123")), "allowed keys of the baggage are logged");
    assert!(written.iter().any(|line| line.contains(r#""booking_id":"b1""#)));
    for message in house.created.dead_letters.messages().iter().chain(&house.cancelled.dead_letters.messages()) {
        written.push(format!("{:?}", message.attributes));
    }
    let spans = collector.spans();
    let failed = spans.iter().filter(|span| span.name == "transaction" && format!("{span:?}").contains("23514"));
    assert_eq!(failed.count(), 2, "of the batch, and of the record by itself");
    written.extend(spans.iter().map(|span| format!("{span:?}")));
    for line in &written {
        for private in
            [JANE, JOE, "jane", "joe@", "secret.person", "pi_of_the_row", "12.5625", "Failing row", "only-for-tests"]
        {
            assert!(!line.contains(private), "{private} in {line}");
        }
        // As a number of its own: among the digits of a latency or of an id it is nobody's.
        let mut words = line.split(|character: char| !character.is_alphanumeric() && character != '.');
        assert!(words.all(|word| word != "987"), "987 in {line}");
    }
}
