//! Each outcome, by SQS.

use serde_json::json;

use crate::house::{House, JANE, JOE, booking, booking_with, cancellation, code, outcomes};

#[tokio::test]
async fn a_booking_is_a_row_once_however_its_guest_and_its_names_are_written() {
    let Some(house) = House::open().await else { return };
    let envelope = json!({"detail-type": "booking.created", "detail": booking_with("b4", json!({"roomId": "102"}))});
    let snake = json!({
        "booking_id": "b5", "user_id": "joe", "room_id": "103", "guests": "1", "start_date": "2026-06-10", "end_date": "2026-06-11",
    });
    let ended = house
        .book([
            booking("b1"),
            booking_with("b2", json!({"startDate": "2026-06-12", "endDate": "2026-06-13", "userId": "jane"})),
            booking_with("b3", json!({"startDate": "2026-06-13", "endDate": "2026-06-14", "userId": 1})),
            envelope,
            snake,
        ])
        .await;
    assert_eq!(outcomes(&ended), ["success"; 5]);
    assert_eq!(house.rows().await, ["b1 Accepted", "b2 Accepted", "b3 Accepted", "b4 Accepted", "b5 Accepted"]);
    let guests = house.texts("SELECT booking_id || ' ' || user_id FROM bookings ORDER BY 1").await;
    assert_eq!(guests, ["b1 1", "b2 1", "b3 1", "b4 1", "b5 2"]);
    let row = house
        .texts("SELECT concat_ws(' ', number_of_guests, start_date, end_date, payment_id) FROM bookings WHERE booking_id = 'b1'")
        .await;
    assert_eq!(row, ["2 2026-06-10 2026-06-12 pi_b1"]);
    assert_eq!(house.created.count("db_connects_total"), 1, "one connection for all of them");
    assert!(house.told().is_empty());

    let ended = house.book([booking("b1"), booking_with("b4", json!({"roomId": "102"}))]).await;
    assert_eq!(outcomes(&ended), ["duplicate"; 2]);
    assert_eq!(house.rows().await.len(), 5);
    assert_eq!(house.created.count("db_connects_total"), 1, "it is kept over invocations");
}

#[tokio::test]
async fn who_comes_second_to_a_room_is_refused_and_paid_back() {
    let Some(house) = House::open().await else { return };
    house.book([booking("b1")]).await[0].is("success");
    let overlapping = booking_with("b2", json!({"userId": JOE, "startDate": "2026-06-11", "endDate": "2026-06-15"}));
    let unpaid = booking_with("b3", json!({"paymentId": null}));
    let next = booking_with("b4", json!({"startDate": "2026-06-12", "endDate": "2026-06-13"}));
    let ended = house.book([overlapping.clone(), unpaid.clone(), next]).await;
    assert_eq!(outcomes(&ended), ["refused", "refused", "success"]);
    assert_eq!(house.rows().await, ["b1 Accepted", "b2 Refused", "b3 Refused", "b4 Accepted"]);
    let mut told = house.told();
    told.sort();
    let expected = [
        "booking.refused booking.created#b2#refused",
        "booking.refused booking.created#b3#refused",
        "payment.refund_requested booking.created#b2#refund",
    ];
    assert_eq!(told, expected);
    let refund =
        house.stack.aws.bus_entries().into_iter().find(|entry| entry.detail_type.starts_with("payment")).unwrap();
    assert_eq!(refund.source, "holdfast");
    assert_eq!(refund.detail["payment_intent_id"], "pi_b2");
    assert_eq!((&refund.detail["amount"], &refund.detail["reason"]), (&json!(null), &json!("room_unavailable")));

    assert_eq!(outcomes(&house.book([overlapping, unpaid]).await), ["duplicate", "duplicate"]);
    assert_eq!(house.told().len(), 3, "nobody is told twice");
}

#[tokio::test]
async fn a_refusal_that_nobody_could_be_told_of_is_told_when_it_comes_again() {
    let Some(house) = House::open().await else { return };
    house.book([booking("b1")]).await[0].is("success");
    house.stack.aws.fail_entries_next(2);
    house.book([booking("b2")]).await[0].is("retried").says("not all of its events could be published");
    let marked = "SELECT booking_id FROM holdfast.inbox WHERE refund_requested_at IS NOT NULL";
    assert!(house.told().is_empty() && house.texts(marked).await.is_empty(), "nobody was told, and it is marked");
    house.created.redeliver(&house.stack).await[0].is("refused");
    assert_eq!((house.texts(marked).await, house.told().len()), (vec!["b2".to_owned()], 2));
}

#[tokio::test]
async fn of_two_overlapping_bookings_in_one_batch_one_has_the_room() {
    let Some(house) = House::open().await else { return };
    let ended = house.book([booking("b1"), booking("b2")]).await;
    let mut found = outcomes(&ended);
    found.sort_unstable();
    assert_eq!(found, ["refused", "success"]);
    assert_eq!(house.texts("SELECT count(*)::text FROM bookings WHERE status = 'Accepted'").await, ["1"]);
}

#[tokio::test]
async fn a_known_booking_with_another_payload_is_rejected() {
    let Some(house) = House::open().await else { return };
    house.book([booking("b1")]).await[0].is("success");
    for changes in
        [json!({"guests": 3}), json!({"roomId": "102"}), json!({"paymentId": "pi_2"}), json!({"userId": JOE})]
    {
        house.book([booking_with("b1", changes)]).await[0].is("rejected").because("payload_changed");
    }
    assert_eq!(house.rows().await, ["b1 Accepted"]);
    assert_eq!(house.created.dead_letters.len(), 4);
}

#[tokio::test]
async fn who_is_not_there_may_come_and_who_is_two_is_rejected() {
    let Some(house) = House::open().await else { return };
    let ended = house
        .book([
            booking_with("b1", json!({"userId": "nobody@example.com"})),
            booking_with("b2", json!({"userId": "99999999999999999999"})),
            booking_with("b3", json!({"userId": "user7"})),
            booking_with("b4", json!({"roomId": "999"})),
            booking_with("b5", json!({"userId": "17"})),
            booking("b6"),
        ])
        .await;
    assert_eq!(outcomes(&ended), ["retried", "retried", "retried", "retried", "rejected", "success"]);
    ended[0].says("no such user");
    ended[3].says("no such room");
    ended[4].because("ambiguous_user");
    assert_eq!(house.rows().await, ["b6 Accepted"]);
    house.run("INSERT INTO users (email, username) VALUES ('nobody@example.com', 'user7')").await;
    house.run("INSERT INTO rooms (internal_id) VALUES ('999')").await;
    let mut found = Vec::new();
    for _ in 0..4 {
        let ended = house.created.redeliver(&house.stack).await;
        found.extend(ended.into_iter().map(|ended| ended.outcome));
    }
    found.sort();
    // Two find the room taken by now, and one is nobody's number still, however often it comes.
    found.dedup();
    assert_eq!(found, ["refused", "retried", "success"]);
    assert_eq!(house.rows().await, ["b1 Refused", "b3 Refused", "b4 Accepted", "b6 Accepted"]);
}

#[tokio::test]
async fn its_guest_alone_gives_a_booking_up_and_once() {
    let Some(house) = House::open().await else { return };
    house.book([booking("b1")]).await[0].is("success");
    house.cancel([cancellation("b1", JOE)]).await[0].is("rejected").because("not_owner");
    assert_eq!(house.rows().await, ["b1 Accepted"]);
    house.cancel([cancellation("b1", "1")]).await[0].is("success");
    assert_eq!(house.rows().await, ["b1 Cancelled"]);
    assert_eq!(
        house.texts("SELECT (updated_at > created_at)::text FROM bookings").await,
        ["true"],
        "the other service sees when"
    );
    house.cancel([cancellation("b1", JANE)]).await[0].is("duplicate");
    house.cancel([cancellation("b1", JOE)]).await[0].is("rejected").because("not_owner");
    house.cancel([cancellation("b1", "17")]).await[0].is("rejected").because("ambiguous_user");
    house.cancel([cancellation("b1", "nobody")]).await[0].is("retried");
    let again = booking_with("b2", json!({"userId": JOE}));
    assert_eq!(outcomes(&house.book([again, booking("b1")]).await), ["success", "duplicate"], "the room is free");
    house.book([booking("b3")]).await[0].is("refused");
    house.cancel([cancellation("b3", JANE)]).await[0].is("superseded");
    let codes: Vec<String> =
        house.cancelled.dead_letters.messages().iter().map(|message| code(message).to_owned()).collect();
    assert_eq!(codes, ["not_owner", "not_owner", "ambiguous_user"]);
}

#[tokio::test]
async fn a_cancellation_that_comes_first_is_kept_for_its_guest() {
    let Some(house) = House::open().await else { return };
    // A stranger's comes before and after, and pushes nobody's out.
    for user in [JOE, JANE, JOE, JANE] {
        house.cancel([cancellation("b1", user)]).await[0].is("early");
    }
    house.cancel([cancellation("b2", JOE)]).await[0].is("early");
    let ended = house.book([booking("b1"), booking("b2")]).await;
    assert_eq!(outcomes(&ended), ["success", "success"]);
    assert_eq!(house.rows().await, ["b1 Cancelled", "b2 Accepted"], "who gave his up takes no room");
    assert_eq!(house.created.count("early_cancellation_not_owner_total"), 1);
    house.cancel([cancellation("b1", JANE)]).await[0].is("duplicate");
    house.cancel([cancellation("b2", JANE)]).await[0].is("success");
}

#[tokio::test]
async fn records_of_one_booking_in_one_batch_are_worked_in_turn() {
    let Some(house) = House::open().await else { return };
    let ended = house.book([booking("b1"), booking("b1"), booking_with("b1", json!({"guests": 3}))]).await;
    assert_eq!(outcomes(&ended), ["success", "duplicate", "rejected"]);
    let ended = house.cancel([cancellation("b1", JOE), cancellation("b1", JANE), cancellation("b1", JANE)]).await;
    assert_eq!(outcomes(&ended), ["rejected", "success", "duplicate"]);
    let unrolled = [&house.created, &house.cancelled].map(|desk| desk.count("batch_unrolled_total"));
    assert_eq!(unrolled, [0, 0], "none is in the way of another");
}
