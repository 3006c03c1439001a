//! The hard cases of other systems, each by its number. Those of Kafka's own, 9 and 10, are kept by the tests of that trigger.

use futures_util::{StreamExt, stream};
use local_stack::{
    ended::Ended,
    port,
    postgres::{Server, wire::Wire},
    tripwire::{Point, Side},
};
use serde_json::{Value, json};

use crate::house::{House, JANE, booking, booking_with, cancellation, eventually, migrate, outcomes};

/// Raises `code` at each insert of a booking of room `room`, while the table `trouble` has a row.
fn trouble(code: &str, room: &str) -> String {
    format!(
        "CREATE TABLE trouble (is_here boolean); INSERT INTO trouble VALUES (true); GRANT SELECT ON trouble TO holdfast_app;
CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF EXISTS (SELECT FROM trouble) AND NEW.room_id = (SELECT id FROM rooms WHERE internal_id = '{room}') THEN
    RAISE EXCEPTION 'trouble' USING ERRCODE = '{code}';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER trouble BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION trouble();"
    )
}

const NO_MORE_TROUBLE: &str = "DELETE FROM trouble";

#[tokio::test]
async fn case_1_a_commit_that_became_a_rollback_is_no_success() {
    let Some(house) = House::open().await else { return };
    house.run(&trouble("XX000", "101")).await;
    house.book([booking("b1")]).await[0].is("retried").says("XX000");
    assert!(house.rows().await.is_empty());
    assert!(house.texts("SELECT booking_id FROM holdfast.inbox").await.is_empty(), "all of it was rolled back");
    house.run(NO_MORE_TROUBLE).await;
    house.created.redeliver(&house.stack).await[0].is("success");
}

#[tokio::test]
async fn case_2_batches_of_the_same_rooms_in_other_orders_do_not_lock_each_other_out() {
    let Some(house) = House::open().await else { return };
    let rounds = 6;
    let works = (0..rounds).map(|round| {
        let house = &house;
        async move {
            let other = |n: usize| if round % 2 == 0 { n } else { 9 - n };
            let batch = (0..10).map(|n| {
                let n = other(n);
                let (room, day) = (["101", "102", "103"][n % 3], 1 + 2 * (n / 3));
                let days = json!({
                    "roomId": room, "startDate": format!("2026-06-{day:02}"), "endDate": format!("2026-06-{:02}", day + 2),
                });
                booking_with(&format!("b{round}-{n}"), days)
            });
            let messages: Vec<String> = batch.map(|body| body.to_string()).collect();
            let records: Vec<_> = messages
                .iter()
                .enumerate()
                .map(|(n, body)| {
                    json!({
                        "messageId": format!("m{round}-{n}"), "body": body, "receiptHandle": "r", "attributes": {},
                        "messageAttributes": {}, "eventSourceARN": "arn:aws:sqs:eu-west-1:000000000000:q",
                    })
                })
                .collect();
            let invocation = house.created.function.invoke(json!({ "Records": records }).to_string()).await;
            let answer = invocation.result.expect("the invocation ends");
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["batchItemFailures"], json!([]), "{:#?}", invocation.logs);
        }
    });
    stream::iter(works).buffer_unordered(rounds).collect::<Vec<()>>().await;
    let accepted = house.texts("SELECT count(*)::text FROM bookings WHERE status = 'Accepted'").await;
    let all = house.texts("SELECT count(*)::text FROM bookings").await;
    assert_eq!((accepted, all), (vec!["10".to_owned()], vec!["60".to_owned()]), "each stay has one guest");
    let deadlocks =
        house.texts("SELECT deadlocks::text FROM pg_stat_database WHERE datname = current_database()").await;
    assert_eq!(deadlocks, ["0"]);
    assert_eq!(house.created.count("batch_unrolled_total"), 0);
    assert_eq!(house.told().iter().filter(|told| told.starts_with("payment")).count(), 50, "the others are paid back");
}

/// Somebody has `first` in an open transaction. The batch is handed over, and once it waits, he takes `behind` too. He would
/// have to wait for the batch if it had taken any of that, and two who wait for each other are a deadlock.
async fn waits_for_the_first_alone(house: &House, first: &str, behind: &str, batch: [Value; 3]) -> Vec<Ended> {
    const WAITING: &str = "SELECT count(*)::text FROM pg_stat_activity
WHERE usename = 'holdfast_app' AND datname = current_database() AND wait_event_type = 'Lock'";

    let mut somebody = house.database.client().await.unwrap();
    let theirs = somebody.transaction().await.unwrap();
    theirs.batch_execute(first).await.unwrap();
    let take = async {
        eventually("the batch waits", async || house.texts(WAITING).await == ["1"]).await;
        theirs.batch_execute("SET LOCAL lock_timeout = '300ms'").await.unwrap();
        let taken = theirs.batch_execute(behind).await;
        theirs.commit().await.unwrap();
        taken.expect("the batch has nothing behind what it waits for");
    };
    let (ended, ()) = tokio::join!(house.book(batch), take);
    ended
}

/// The batch in an order that is neither that of its ids nor that of its rooms.
fn batch_out_of_order() -> [Value; 3] {
    [("b3", "103"), ("b1", "101"), ("b2", "102")].map(|(id, room)| booking_with(id, json!({ "roomId": room })))
}

#[tokio::test]
async fn case_2_a_batch_that_waits_for_a_room_has_taken_none_behind_it() {
    let Some(house) = House::open().await else { return };
    let take = |rooms: &str| {
        format!(
            "INSERT INTO bookings (booking_id, user_id, room_id, number_of_guests, start_date, end_date, status)
SELECT 'theirs-' || internal_id, 2, id, 1, '2026-06-10', '2026-06-12', 'Accepted' FROM rooms WHERE internal_id IN ({rooms})"
        )
    };
    let (first, behind) = (take("'101'"), take("'102', '103'"));
    let ended = waits_for_the_first_alone(&house, &first, &behind, batch_out_of_order()).await;
    assert_eq!(outcomes(&ended), ["refused"; 3], "somebody was first in all of them");
}

#[tokio::test]
async fn case_2_a_batch_that_waits_for_a_booking_has_taken_none_behind_it() {
    let Some(house) = House::open().await else { return };
    let [first, behind] =
        ["('b1')", "('b2'), ('b3')"].map(|ids| format!("INSERT INTO holdfast.inbox (booking_id) VALUES {ids}"));
    let ended = waits_for_the_first_alone(&house, &first, &behind, batch_out_of_order()).await;
    assert_eq!(outcomes(&ended), ["success"; 3], "nobody had created them");
}

#[tokio::test]
async fn case_3_one_of_ten_breaks_a_rule_of_the_table_and_nine_land() {
    let Some(house) = House::open().await else { return };
    house.run("ALTER TABLE bookings ADD CONSTRAINT few_guests CHECK (number_of_guests <= 5)").await;
    let batch = (0..10).map(|n| {
        let days = json!({
            "startDate": format!("2026-06-{:02}", 10 + n), "endDate": format!("2026-06-{:02}", 11 + n), "guests": if n == 4 { 6 } else { 2 },
        });
        booking_with(&format!("b{n}"), days)
    });
    let ended = house.book(batch).await;
    let mut expected = ["success"; 10];
    expected[4] = "rejected";
    assert_eq!(outcomes(&ended), expected);
    ended[4].because("invalid_field").says("23514 by few_guests");
    assert_eq!(house.rows().await.len(), 9);
    assert_eq!(house.created.count("batch_unrolled_total"), 1);
}

#[tokio::test]
async fn case_4_a_full_disk_and_a_database_that_is_away_are_no_fault_of_the_record() {
    let Some(house) = House::open().await else { return };
    house.run(&trouble("53100", "101")).await;
    let ended = house.book([booking("b1"), booking_with("b2", json!({"roomId": "102"}))]).await;
    assert_eq!(outcomes(&ended), ["retried", "retried"], "the server has no room for either");
    ended[0].says("53100");
    assert!(house.created.dead_letters.is_empty());
    assert_eq!(house.created.count("db_connects_total"), 1, "a server that is full is not connected to again");

    let (_nobody, address) = port::of_nobody().unwrap();
    let elsewhere = [("DB_PORT", address.port().to_string())];
    let away = House::on(house.database.server.migrated().await.unwrap(), &elsewhere).await;
    away.book([booking("b1")]).await[0].is("retried").says("no connection");
    assert!(away.created.dead_letters.is_empty());
}

#[tokio::test]
async fn case_5_a_writer_that_became_a_reader_is_left_for_another_connection() {
    let Some(house) = House::open().await else { return };
    house.book([booking("b1")]).await[0].is("success");
    house
        .run(
            "CREATE TABLE demoted (pid integer); GRANT SELECT ON demoted TO holdfast_app;
INSERT INTO demoted SELECT pid FROM pg_stat_activity WHERE usename = 'holdfast_app' AND datname = current_database();
CREATE FUNCTION demoted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF pg_backend_pid() IN (SELECT pid FROM demoted) THEN
    RAISE EXCEPTION 'cannot execute INSERT in a read-only transaction' USING ERRCODE = '25006';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER demoted BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION demoted();",
        )
        .await;
    house.book([booking_with("b2", json!({"roomId": "102"}))]).await[0].is("success");
    assert_eq!(house.created.count("db_connects_total"), 2, "the second try is over another connection");
    assert_eq!(house.rows().await, ["b1 Accepted", "b2 Accepted"]);
}

#[tokio::test]
async fn case_6_a_connection_that_died_in_a_frozen_environment_costs_one_try() {
    let Some(server) = Server::shared() else { return };
    let database = server.migrated().await.unwrap();
    let wire = Wire::to(&server.host, server.port).await.unwrap();
    let changes = [("DB_PORT", wire.address().port().to_string()), ("DB_TRANSACTION_TIMEOUT_MS", "2000".to_owned())];
    let house = House::on(database, &changes).await;
    house.book([booking("b1")]).await[0].is("success");
    // The server ends it, and says so.
    let terminated = house
        .texts(
            "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE usename = 'holdfast_app' AND datname = current_database()",
        )
        .await;
    assert_eq!(terminated, ["true"]);
    house.book([booking_with("b2", json!({"roomId": "102"}))]).await[0].is("success");
    assert_eq!(wire.connections(), 2);

    // Nobody says anything any more.
    wire.set_silent(true);
    let (ended, ()) = tokio::join!(house.book([booking_with("b3", json!({"roomId": "103"}))]), async {
        // The old one is given up for a new one.
        eventually("a third connection", async || wire.connections() >= 3).await;
        wire.set_silent(false);
    });
    // What the old connection still brings to the server may be first.
    assert!(["success", "duplicate"].contains(&ended[0].outcome.as_str()), "{ended:?}");
    assert_eq!(wire.connections(), 3);
    assert_eq!(house.rows().await, ["b1 Accepted", "b2 Accepted", "b3 Accepted"]);
}

#[tokio::test]
async fn case_7_a_connection_that_is_lost_at_its_first_statement_is_made_again() {
    let Some(server) = Server::shared() else { return };
    for side in Side::ALL {
        let wire = Wire::to(&server.host, server.port).await.unwrap();
        wire.cut_at(Some(Point { request: 1, side }));
        let changes = [("DB_PORT", wire.address().port().to_string())];
        let house = House::on(server.migrated().await.unwrap(), &changes).await;
        house.book([booking("b1")]).await[0].is("success");
        assert!(wire.was_cut(), "the look at the schema is the first");
        assert_eq!(wire.connections(), 2);
    }
}

#[tokio::test]
async fn case_8_what_somebody_left_open_ends_and_nobody_waits_for_long() {
    let Some(house) = House::open().await else { return };
    let settings = house
        .texts(
            "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole
WHERE rolname = 'holdfast_app' AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
        )
        .await;
    assert_eq!(settings, ["idle_in_transaction_session_timeout=10s", "lock_timeout=2s", "statement_timeout=5s"]);
    house.cancel([cancellation("b1", JANE)]).await[0].is("early");
    let somebody = house.database.client().await.unwrap();
    somebody.batch_execute("BEGIN; SELECT 1 FROM holdfast.inbox WHERE booking_id = 'b1' FOR UPDATE").await.unwrap();
    let ended = house.book([booking("b1"), booking_with("b2", json!({"roomId": "102"}))]).await;
    assert_eq!(outcomes(&ended), ["retried", "success"], "who waits for nobody lands");
    ended[0].says("55P03");
    somebody.batch_execute("ROLLBACK").await.unwrap();
    house.created.redeliver(&house.stack).await[0].is("success");
    assert_eq!(house.rows().await, ["b1 Cancelled", "b2 Accepted"]);
}

#[tokio::test]
async fn cases_11_and_12_nothing_that_a_pooler_refuses_goes_over_the_wire() {
    let Some(server) = Server::shared() else { return };
    let wire = Wire::to(&server.host, server.port).await.unwrap();
    let changes = [("DB_PORT", wire.address().port().to_string())];
    let house = House::on(server.migrated().await.unwrap(), &changes).await;
    house.book([booking("b1"), booking("b2"), booking("b1")]).await;
    house.cancel([cancellation("b1", JANE)]).await;
    let heard = wire.heard();
    let text = |message: &[u8]| String::from_utf8_lossy(message).into_owned();
    assert!(!text(&heard[0]).contains("options"), "the start-up carries no options");
    let (mut parsed, mut simple) = (0, Vec::new());
    for message in &heard {
        match message[0] {
            // A parse begins with the statement's name, a bind with that of the portal and of the statement.
            b'P' => {
                assert_eq!(message[5], 0, "statements have no names");
                assert!(text(&message[6..]).len() < 16 * 1024, "their texts stay short");
                parsed += 1;
            }
            b'B' => assert_eq!(&message[5..7], [0, 0], "nor have portals"),
            b'Q' => simple.push(text(&message[5..]).trim_end_matches('\0').to_owned()),
            _ => {}
        }
    }
    assert!(parsed > 10, "{parsed}");
    simple.sort();
    simple.dedup();
    assert_eq!(simple, ["BEGIN ISOLATION LEVEL READ COMMITTED", "COMMIT"], "nothing is set");
}

#[tokio::test]
async fn case_13_of_two_equal_events_at_once_one_is_a_duplicate() {
    let Some(house) = House::open().await else { return };
    for round in 0..5 {
        let id = format!("b{round}");
        let body = booking_with(
            &id,
            json!({"startDate": format!("2026-06-{:02}", 10 + round), "endDate": format!("2026-06-{:02}", 11 + round)}),
        );
        let record = |name: &str| {
            json!({"Records": [{
                "messageId": name, "body": body.to_string(), "receiptHandle": "r", "attributes": {}, "messageAttributes": {},
                "eventSourceARN": "arn:aws:sqs:eu-west-1:000000000000:q",
            }]})
            .to_string()
        };
        let (one, other) =
            tokio::join!(house.created.function.invoke(record("m1")), house.created.function.invoke(record("m2")),);
        let logs = [one.logs, other.logs].concat().join("\n");
        assert!(logs.contains("record ended: success") && logs.contains("record ended: duplicate"), "{logs}");
    }
    assert_eq!(house.rows().await.len(), 5);
}

#[tokio::test]
async fn case_14_a_replay_after_the_inbox_was_cleaned_is_a_duplicate_and_pays_nothing_back() {
    let Some(house) = House::open().await else { return };
    let bodies = [booking("b1"), booking("b2")];
    assert_eq!(outcomes(&house.book(bodies.clone()).await), ["success", "refused"]);
    let told = house.told();
    house.run("UPDATE holdfast.inbox SET recorded_at = now() - interval '40 days'").await;
    let migrate = migrate(&house.stack, &house.database);
    let cleaned = migrate.invoke(r#"{"action": "clean"}"#).await.result.expect("it cleans");
    assert!(String::from_utf8_lossy(&cleaned).contains(r#""cleaned":2"#), "{cleaned:?}");
    for _ in 0..2 {
        assert_eq!(outcomes(&house.book(bodies.clone()).await), ["duplicate", "duplicate"]);
    }
    assert_eq!(house.told(), told);
    assert_eq!(house.rows().await, ["b1 Accepted", "b2 Refused"]);
}

#[tokio::test]
async fn case_15_a_newer_schema_is_fine() {
    let Some(house) = House::open().await else { return };
    house.run("INSERT INTO holdfast.migration (version, checksum) VALUES (99, 'x')").await;
    assert_eq!(house.database.migrate().await.map(|report| (report.version, report.applied)), Ok((99, vec![])));
    house.book([booking("b1")]).await[0].is("success");
}

#[tokio::test]
async fn case_16_a_stay_has_the_days_that_were_written() {
    let Some(house) = House::open().await else { return };
    let stays = [
        ("b1", "2026-06-10T23:30:00-10:00", "2026-06-12T00:30:00+14:00"),
        ("b2", "2026-06-12T09:00:00Z", "2026-06-12T17:00:00Z"),
        ("b3", "2026-06-13", "2026-06-14"),
    ];
    let ended =
        house.book(stays.map(|(id, start, end)| booking_with(id, json!({"startDate": start, "endDate": end})))).await;
    assert_eq!(outcomes(&ended), ["success"; 3]);
    let days = house.texts("SELECT concat_ws(' ', booking_id, start_date, end_date) FROM bookings ORDER BY 1").await;
    assert_eq!(days, ["b1 2026-06-10 2026-06-12", "b2 2026-06-12 2026-06-13", "b3 2026-06-13 2026-06-14"]);
    let moments =
        house.texts("SELECT (starts_at AT TIME ZONE 'UTC')::text FROM holdfast.inbox WHERE booking_id = 'b1'").await;
    assert_eq!(moments, ["2026-06-11 09:30:00"]);
    let same_day = booking_with("b4", json!({"startDate": "2026-06-12", "endDate": "2026-06-13"}));
    house.book([same_day]).await[0].is("refused");
}

#[tokio::test]
async fn case_17_a_refund_that_was_told_and_not_marked_is_told_again_under_its_key() {
    let Some(house) = House::open().await else { return };
    house.book([booking("b1")]).await[0].is("success");
    house
        .run(
            "CREATE FUNCTION unmarked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.refund_requested_at IS NOT NULL THEN RAISE EXCEPTION 'unmarked' USING ERRCODE = 'XX000'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER unmarked BEFORE UPDATE ON holdfast.inbox FOR EACH ROW EXECUTE FUNCTION unmarked();",
        )
        .await;
    house.book([booking("b2")]).await[0].is("retried").says("not marked");
    house.run("DROP TRIGGER unmarked ON holdfast.inbox").await;
    house.created.redeliver(&house.stack).await[0].is("refused");
    let refunds: Vec<String> = house.told().into_iter().filter(|told| told.starts_with("payment")).collect();
    assert_eq!(refunds, ["payment.refund_requested booking.created#b2#refund"; 2]);
    house.book([booking("b2")]).await[0].is("duplicate");
    assert_eq!(house.told().len(), 4);
    eventually("the mark", async || {
        house.texts("SELECT booking_id FROM holdfast.inbox WHERE refund_requested_at IS NOT NULL").await == ["b2"]
    })
    .await;
}
