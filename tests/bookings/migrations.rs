//! The schema is brought to its version from wherever it is.

use std::time::Duration;

use axum::{Router, body::Bytes, routing::put};
use local_stack::{postgres::Server, stack::Stack};
use serde_json::{Value, json};
use shared::booking::migration::{LOCK, VERSION};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_postgres::types::Type;

use crate::house::{House, booking, found, migrate};

/// The tables of the original, with its data.
const ORIGINAL: &str = "
CREATE TABLE users (id SERIAL PRIMARY KEY, email VARCHAR(255) UNIQUE NOT NULL, username VARCHAR(255) UNIQUE NOT NULL,
  date_of_birth DATE, name VARCHAR(255), surname VARCHAR(255), created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
  updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE rooms (id SERIAL PRIMARY KEY, internal_id VARCHAR(50) UNIQUE NOT NULL, name VARCHAR(255), floor INT, bathrooms INT,
  beds INT, capacity INT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE bookings (id SERIAL PRIMARY KEY, user_id INT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  room_id INT NOT NULL REFERENCES rooms(id) ON DELETE CASCADE, number_of_guests INT NOT NULL CHECK (number_of_guests > 0),
  start_date DATE NOT NULL, end_date DATE NOT NULL, payment_id VARCHAR(255),
  status VARCHAR(20) NOT NULL CHECK (status IN ('Accepted', 'Cancelled', 'Refused')),
  created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
  CONSTRAINT check_dates CHECK (end_date > start_date));
INSERT INTO users (email, username) VALUES ('old@example.com', 'old');
INSERT INTO rooms (internal_id) VALUES ('1'), ('2');
INSERT INTO bookings (user_id, room_id, number_of_guests, start_date, end_date, status) VALUES
  (1, 1, 2, '2026-01-01', '2026-01-03', 'Accepted'), (1, 1, 2, '2026-01-02', '2026-01-04', 'Cancelled'),
  (1, 1, 2, '2026-01-03', '2026-01-05', 'Accepted'), (1, 2, 2, '2026-01-01', '2026-01-03', 'Accepted');";

const FOREIGN_INSERT: &str = "INSERT INTO bookings (user_id, room_id, number_of_guests, start_date, end_date, status)
VALUES (1, 2, 1, '2026-03-01', '2026-03-02', 'Accepted')";

#[tokio::test]
async fn the_originals_tables_keep_their_rows_and_their_other_service() {
    let Some(server) = Server::shared() else { return };
    let database = server.empty().await.unwrap();
    database.client().await.unwrap().batch_execute(ORIGINAL).await.unwrap();
    let report = database.migrate().await.unwrap();
    assert_eq!((report.version, report.applied), (VERSION, vec![1, 2, 3, 4]));
    assert_eq!(database.migrate().await.unwrap().applied, Vec::<i32>::new(), "a second time does nothing");
    let sql = database.client().await.unwrap();
    let rows = sql.query_typed("SELECT 1 FROM bookings", &[]).await.unwrap();
    assert_eq!(rows.len(), 4);
    sql.batch_execute(FOREIGN_INSERT).await.expect("the other service writes as before");
    let overlap = sql.batch_execute(FOREIGN_INSERT).await.unwrap_err();
    assert_eq!(overlap.code().map(tokio_postgres::error::SqlState::code), Some("23P01"), "but no overlaps any more");
}

#[tokio::test]
async fn nothing_becomes_all_of_it_and_twice_at_once_is_once() {
    let Some(server) = Server::shared() else { return };
    let database = server.empty().await.unwrap();
    let (one, other) = tokio::join!(database.migrate(), database.migrate());
    let mut applied = [one.unwrap().applied, other.unwrap().applied].concat();
    applied.sort_unstable();
    assert_eq!(applied, [1, 2, 3, 4], "each file once");
    server.let_app_in().await.unwrap();
    let house = House::on(database, &[]).await;
    house.book([booking("b1")]).await[0].is("success");
}

/// A role is one for all of a server, so that databases which know nothing of each other meet at it.
#[tokio::test]
async fn databases_of_one_server_are_made_side_by_side() {
    let Some(server) = found(Server::of_our_own().as_ref().copied()) else { return };
    for round in 0..4 {
        let mut databases: JoinSet<_> = (0..8).map(|_| server.furnished()).collect();
        while let Some(made) = databases.join_next().await {
            let database = made.unwrap().unwrap_or_else(|error| panic!("round {round}: {error:?}"));
            database.remove().await.unwrap();
        }
    }
}

#[tokio::test]
async fn overlaps_are_listed_and_stop_it_until_somebody_has_decided() {
    let Some(server) = Server::shared() else { return };
    let database = server.empty().await.unwrap();
    let sql = database.client().await.unwrap();
    sql.batch_execute(ORIGINAL).await.unwrap();
    sql.batch_execute("UPDATE bookings SET status = 'Accepted'").await.unwrap();
    let error = database.migrate().await.unwrap_err();
    assert!(error.contains("1 and 2 in room 1 from 2026-01-02; 2 and 3 in room 1 from 2026-01-03"), "{error}");
    let columns =
        sql.query_typed("SELECT 1 FROM information_schema.columns WHERE column_name = 'booking_id'", &[]).await;
    assert!(columns.unwrap().is_empty(), "nothing of the file is done");
    sql.batch_execute("UPDATE bookings SET status = 'Cancelled' WHERE id = 2").await.unwrap();
    assert_eq!(database.migrate().await.unwrap().applied, [2, 3, 4]);
}

#[tokio::test]
async fn a_migration_that_is_killed_midway_is_done_by_the_next() {
    let Some(server) = Server::shared() else { return };
    let database = server.empty().await.unwrap();
    let sql = database.client().await.unwrap();
    sql.batch_execute(ORIGINAL).await.unwrap();
    // Somebody keeps the table busy, so that it stands in the middle of the second file.
    let busy = database.client().await.unwrap();
    busy.batch_execute("BEGIN; SELECT 1 FROM bookings").await.unwrap();
    let migrator = database.migrator().unwrap();
    tokio::select! {
        ended = migrator.migrate() => panic!("it does not wait for the table: {ended:?}"),
        () = waiting(&sql, "relation", 1) => {}
    }
    busy.batch_execute("COMMIT").await.unwrap();
    assert_eq!(database.migrate().await.unwrap().applied, [2, 3, 4], "the first file was done before");
}

#[tokio::test]
async fn a_migration_waits_for_its_twin_longer_than_for_a_table() {
    let Some(server) = Server::shared() else { return };
    let database = server.empty().await.unwrap();
    let (first, twin) = (database.client().await.unwrap(), database.client().await.unwrap());
    let take = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})");
    first.batch_execute(&take).await.unwrap();
    let migrator = database.migrator().unwrap();
    let migration = tokio::spawn(async move { migrator.migrate().await });
    waiting(&first, "advisory", 1).await;
    // Behind the migration's first transaction, and so before its second.
    let twins = tokio::spawn(async move {
        twin.batch_execute(&take).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        twin.batch_execute("COMMIT").await.unwrap();
    });
    waiting(&first, "advisory", 2).await;
    first.batch_execute("COMMIT").await.unwrap();
    twins.await.unwrap();
    assert_eq!(migration.await.unwrap().unwrap().applied, [1, 2, 3, 4]);
}

/// Returns when so many sessions wait for locks of a kind: that of all migrations is advisory, that of a table a relation's.
async fn waiting(sql: &tokio_postgres::Client, kind: &str, sessions: usize) {
    const WAITING: &str = "SELECT 1 FROM pg_locks WHERE locktype = $1 AND NOT granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while sql.query_typed(WAITING, &[(&kind, Type::TEXT)]).await.unwrap().len() < sessions {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_functions_role_may_sign_in_by_a_password_also_on_rds() {
    let Some(server) = Server::shared() else { return };
    let database = server.empty().await.unwrap();
    let sql = database.client().await.unwrap();
    // The group that RDS has, whose members sign in by tokens and by nothing else.
    sql.batch_execute("CREATE ROLE rds_iam").await.unwrap();
    database.migrate().await.unwrap();
    let members = "SELECT 1 FROM pg_auth_members WHERE roleid = 'rds_iam'::regrole";
    let members = sql.query_typed(members, &[]).await.unwrap().len();
    sql.batch_execute("DROP ROLE rds_iam").await.unwrap();
    assert_eq!(members, 0);
}

#[tokio::test]
async fn a_database_that_has_the_former_fourth_file_is_as_far() {
    let Some(house) = House::open().await else { return };
    house
        .run(
            "UPDATE holdfast.migration SET checksum = '\\x6c621e8db27047b8fcb1b4a6a74e9425986a5e7a3684c1a3540452c798cb1a4b'
             WHERE version = 4",
        )
        .await;
    assert_eq!(house.database.migrate().await.unwrap().applied, Vec::<i32>::new());
}

#[tokio::test]
async fn a_file_that_is_not_what_it_was_is_refused() {
    let Some(house) = House::open().await else { return };
    house.run("UPDATE holdfast.migration SET checksum = 'x' WHERE version = 3").await;
    let error = house.database.migrate().await.unwrap_err();
    assert!(error.contains("version 3"), "{error}");
}

#[tokio::test]
async fn functions_wait_for_a_schema_that_is_too_old_or_not_there() {
    let Some(house) = House::open().await else { return };
    house.run("DELETE FROM holdfast.migration WHERE version = 4").await;
    house.book([booking("b1")]).await[0].is("retried").says("run the function booking-migrate");
    assert_eq!(house.created.count("db_unready_total"), 1);
    house.run("DROP SCHEMA holdfast CASCADE").await;
    house.created.redeliver(&house.stack).await[0].is("retried").says("booking-migrate");
    assert!(house.created.dead_letters.is_empty());
}

#[tokio::test]
async fn a_deployment_gets_its_answer_whatever_becomes_of_the_schema() {
    let Some(server) = Server::shared() else { return };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut answers) = mpsc::unbounded_channel();
    let receive = put(async move |body: Bytes| drop(sender.send(serde_json::from_slice::<Value>(&body).unwrap())));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/answer", receive)).await });
    let event = |kind: &str| {
        json!({
            "RequestType": kind, "ResponseURL": format!("http://{address}/answer"), "StackId": "s", "RequestId": "r",
            "LogicalResourceId": "BookingSchema", "ResourceProperties": {"Version": "1"},
        })
        .to_string()
    };
    let stack = Stack::start().await.unwrap();
    let database = server.empty().await.unwrap();
    let function = migrate(&stack, &database);
    for (kind, status) in [("Create", "SUCCESS"), ("Update", "SUCCESS"), ("Delete", "SUCCESS")] {
        assert!(function.invoke(event(kind)).await.result.is_ok());
        let answer = answers.recv().await.unwrap();
        assert_eq!((&answer["Status"], &answer["StackId"]), (&json!(status), &json!("s")), "{kind}: {answer}");
    }
    let rows = database.client().await.unwrap().query_typed("SELECT 1 FROM holdfast.inbox", &[]).await;
    assert!(rows.is_ok(), "nothing is dropped with the stack");

    let broken = server.empty().await.unwrap();
    broken.client().await.unwrap().batch_execute(ORIGINAL).await.unwrap();
    broken.client().await.unwrap().batch_execute("UPDATE bookings SET status = 'Accepted'").await.unwrap();
    let function = migrate(&stack, &broken);
    assert!(function.invoke(event("Update")).await.result.is_ok(), "the deployment knows");
    let answer = answers.recv().await.unwrap();
    assert_eq!(answer["Status"], "FAILED");
    assert!(answer["Reason"].as_str().unwrap().contains("1 and 2 in room 1"), "{answer}");
    let by_hand = function.invoke("{}").await;
    assert!(by_hand.result.is_err(), "a person is told at once");
}
