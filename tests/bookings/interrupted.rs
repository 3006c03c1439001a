//! The connection is cut before and after every message of a transaction, and what comes of it is what would have come anyway.

use local_stack::{
    postgres::{Server, wire::Wire},
    tripwire::{Point, Side},
};
use serde_json::json;

use crate::house::{House, JANE, booking, booking_with, cancellation, outcomes};

/// How statements are sent, and the messages that each of them takes: an unnamed one is parsed and described, too.
const STATEMENTS: [(&str, usize); 2] = [("unnamed", 5), ("prepared", 3)];

/// A house behind a wire.
async fn behind_a_wire(server: &'static Server, statements: &str) -> (House, Wire) {
    let wire = Wire::to(&server.host, server.port).await.unwrap();
    let changes = [("DB_PORT", wire.address().port().to_string()), ("DB_STATEMENTS", statements.to_owned())];
    (House::on(server.migrated().await.unwrap(), &changes).await, wire)
}

/// Warms the functions, with room 101 taken and nothing else, and cuts the wire from then on at this point.
async fn from_the_start(house: &House, wire: &Wire, point: Option<Point>) {
    wire.cut_at(None);
    house.run("TRUNCATE bookings, holdfast.inbox RESTART IDENTITY").await;
    house.book([booking("b0")]).await[0].is("success");
    house.cancel([cancellation("b9", JANE)]).await[0].is("early");
    wire.cut_at(point);
}

#[tokio::test]
async fn a_creation_whose_connection_is_cut_anywhere_is_done_once() {
    let Some(server) = Server::shared() else { return };
    for (statements, of_each) in STATEMENTS {
        // One that lands, one that is refused and paid, and one whose cancellation came before it.
        let batch = || {
            [booking_with("b1", json!({"roomId": "102"})), booking("b2"), booking_with("b9", json!({"roomId": "103"}))]
        };
        let (house, wire) = behind_a_wire(server, statements).await;
        from_the_start(&house, &wire, None).await;
        assert_eq!(outcomes(&house.book(batch()).await), ["success", "refused", "success"]);
        let messages = wire.sent();
        assert_eq!(messages, 1 + 5 * of_each + 1 + 5, "BEGIN, five statements, COMMIT, and the mark");
        let expected = house.rows().await;
        assert_eq!(expected, ["b0 Accepted", "b1 Accepted", "b2 Refused", "b9 Cancelled"]);

        let mut cut = 0;
        for request in 1..=messages {
            for side in Side::ALL {
                from_the_start(&house, &wire, Some(Point { request, side })).await;
                let before = house.told().len();
                let ended = house.book(batch()).await;
                assert!(wire.was_cut(), "message {request}");
                cut += 1;
                for ended in &ended {
                    let end = ended.outcome.as_str();
                    assert!(
                        ["success", "refused", "duplicate"].contains(&end),
                        "{statements}, {request} {side:?}: {:#}",
                        ended.line
                    );
                }
                assert_eq!(house.rows().await, expected, "{statements}, {request} {side:?}");
                let mut told = house.told().split_off(before);
                told.sort();
                told.dedup();
                let once = [
                    "booking.refused booking.created#b2#refused",
                    "payment.refund_requested booking.created#b2#refund",
                ];
                assert_eq!(told, once, "{statements}, {request} {side:?}");
                let marked =
                    house.texts("SELECT booking_id FROM holdfast.inbox WHERE refund_requested_at IS NOT NULL").await;
                assert_eq!(marked, ["b2"], "{statements}, {request} {side:?}");
            }
        }
        assert_eq!(cut, 2 * messages);
    }
}

#[tokio::test]
async fn a_cancellation_whose_connection_is_cut_anywhere_is_done_once() {
    let Some(server) = Server::shared() else { return };
    for (statements, of_each) in STATEMENTS {
        let batch = || [cancellation("b0", JANE), cancellation("b8", JANE)];
        let (house, wire) = behind_a_wire(server, statements).await;
        from_the_start(&house, &wire, None).await;
        assert_eq!(outcomes(&house.cancel(batch()).await), ["success", "early"]);
        let messages = wire.sent();
        assert_eq!(messages, 1 + 3 * of_each + 1);
        for request in 1..=messages {
            for side in Side::ALL {
                from_the_start(&house, &wire, Some(Point { request, side })).await;
                let ended = house.cancel(batch()).await;
                assert!(wire.was_cut(), "message {request}");
                assert!(
                    ["success", "duplicate"].contains(&ended[0].outcome.as_str()),
                    "{statements}, {request} {side:?}: {ended:?}"
                );
                ended[1].is("early");
                assert_eq!(house.rows().await, ["b0 Cancelled"], "{statements}, {request} {side:?}");
                house.book([booking_with("b8", json!({"roomId": "102"}))]).await[0].is("success");
                assert_eq!(house.rows().await, ["b0 Cancelled", "b8 Cancelled"], "{statements}, {request} {side:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_creation_and_a_cancellation_at_once_come_to_the_same_end_in_both_orders() {
    let Some(house) = House::open().await else { return };
    for round in 0..20 {
        let id = format!("b{round:02}");
        let record = |body: serde_json::Value| {
            json!({"Records": [{
                "messageId": "m", "body": body.to_string(), "receiptHandle": "r", "attributes": {}, "messageAttributes": {},
                "eventSourceARN": "arn:aws:sqs:eu-west-1:000000000000:q",
            }]})
            .to_string()
        };
        let create = house.created.function.invoke(record(booking(&id)));
        let cancel = house.cancelled.function.invoke(record(cancellation(&id, JANE)));
        let (created, cancelled) = if round % 2 == 0 {
            tokio::join!(create, cancel)
        } else {
            let (cancelled, created) = tokio::join!(cancel, create);
            (created, cancelled)
        };
        assert!(created.logs.join("").contains("record ended: success"), "{:#?}", created.logs);
        let end = cancelled.logs.join("");
        assert!(end.contains("record ended: success") || end.contains("record ended: early"), "{end}");
    }
    let left = house.texts("SELECT booking_id FROM bookings WHERE status <> 'Cancelled'").await;
    assert!(left.is_empty(), "{left:?} were given up and stand");
    assert_eq!(house.rows().await.len(), 20);
}

#[tokio::test]
async fn prepared_statements_that_a_column_outgrew_are_prepared_again_over_another_connection() {
    let Some(house) = House::open_with(&[("DB_STATEMENTS", "prepared".to_owned())]).await else { return };
    house.book([booking("b1")]).await[0].is("success");
    house.cancel([cancellation("b9", JANE)]).await[0].is("early");
    for column in ["holdfast.inbox ALTER outcome TYPE varchar", "bookings ALTER status TYPE text"] {
        house.run(&format!("ALTER TABLE {column}")).await;
    }
    house.book([booking_with("b2", json!({"roomId": "102"}))]).await[0].is("success");
    house.cancel([cancellation("b1", JANE)]).await[0].is("success");
    assert_eq!(house.rows().await, ["b1 Cancelled", "b2 Accepted"]);
    for desk in [&house.created, &house.cancelled] {
        assert_eq!(desk.count("db_connects_total"), 2, "one that had prepared what fits no more, and one");
    }
}

#[tokio::test]
async fn a_connection_prepares_its_statements_once_for_all_batches() {
    let Some(server) = Server::shared() else { return };
    let (house, wire) = behind_a_wire(server, "prepared").await;
    from_the_start(&house, &wire, None).await;
    for room in ["102", "103"] {
        wire.cut_at(None);
        house.book([booking_with(room, json!({"roomId": room}))]).await[0].is("success");
        assert_eq!(wire.sent(), 1 + 5 * 3 + 1, "nothing is prepared a second time");
    }
}
