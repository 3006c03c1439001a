//! The bookings as they are deployed, on a real PostgreSQL: the deployment migrates it, the bus and a topic's records become
//! rows, and each role suffices. MiniStack makes the mappings of topics and reads none, so that their events are handed over
//! directly.

use std::{collections::BTreeSet, fs};

use local_stack::{
    ministack::MiniStack,
    postgres::{Database, Server},
    scenario::events_folder,
};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::{messages, put_on_the_bus, sam, traffic::Entry, until};

const STACK: &str = "holdfast-bookings";

const PEOPLE: &str = "
INSERT INTO users (id, email, username) VALUES (1, 'jane@example.com', 'jane');
INSERT INTO rooms (internal_id, name) VALUES ('101', 'Sea'), ('102', 'Hill');";

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_migrates_the_database_and_bookings_come_by_the_bus_and_by_topics() {
    if sam::built().is_none() {
        return;
    }
    let Some(server) = Server::shared() else { return };
    // Makes the role of the functions, with its password here.
    let password = variable(&server.migrated().await.unwrap().variables(), "DB_PASSWORD");
    let database = server.empty().await.unwrap();
    let account = sam::account("bookings").await;
    deploy(&account, &database, &password).await;

    let sql = database.client().await.unwrap();
    let versions = texts(&sql, "SELECT version::text FROM holdfast.migration ORDER BY version").await;
    assert_eq!(versions.len(), 4, "the custom resource has brought the schema up to date: {versions:?}");
    sql.batch_execute(PEOPLE).await.unwrap();
    let by_hand = account.invoke(&format!("{STACK}-booking-migrate")).await;
    assert!(by_hand.contains(r#""applied": []"#) || by_hand.contains(r#""applied":[]"#), "{by_hand}");

    bookings_come_by_the_bus(&account, &sql).await;
    records_come_by_topics(&account, &sql).await;
}

/// The secrets of owner and functions, and the stack.
async fn deploy(account: &MiniStack, database: &Database, password: &str) {
    let owner = database.owner_variables();
    let [host, port, name] = ["DB_HOST", "DB_PORT", "DB_NAME"].map(|name| variable(&owner, name));
    let owners = json!({"username": variable(&owner, "DB_USER"), "password": variable(&owner, "DB_PASSWORD")});
    let owners = secret(account, "owner", &owners).await;
    let own = secret(account, "app", &json!({"password": password})).await;
    let parameters = [
        ("Settlement", "false"),
        ("Reservations", "false"),
        ("Bookings", "true"),
        ("BookingConcurrency", "0"), // MiniStack takes no limit that comes from a parameter.
        ("AwsEndpointUrl", &account.url),
        ("DatabaseHost", &host),
        ("DatabasePort", &port),
        ("DatabaseName", &name),
        ("DatabaseTls", "disable"),
        ("DatabaseStatements", "prepared"),
        ("DatabaseSecretArn", &own),
        ("DatabaseOwnerSecretArn", &owners),
        ("BookingKafka", "msk"),
        ("KafkaClusterArn", "arn:aws:kafka:us-east-1:000000000000:cluster/bookings/1d3f0b5e-2"),
        ("KafkaAuth", "IAM"),
    ];
    sam::deploy(&account.url, STACK, &parameters);
}

async fn bookings_come_by_the_bus(account: &MiniStack, sql: &Client) {
    let booking = |id: &str, room: &str| Entry {
        source: "booking-service",
        detail_type: "booking.created",
        detail: json!({
            "booking_id": id, "user_id": "jane", "room_id": room, "guests": 2, "start_date": "2026-09-10",
            "end_date": "2026-09-12", "payment_id": format!("pi_{id}"),
        }),
    };
    assert_eq!(put_on_the_bus(account, STACK, &[booking("b1", "101"), booking("b2", "102")]).await, 2);
    let accepted = "SELECT booking_id FROM bookings WHERE status = 'Accepted' ORDER BY booking_id";
    until("both bookings are rows", async || texts(sql, accepted).await == ["b1", "b2"]).await;
    let cancelled = Entry {
        source: "booking-service",
        detail_type: "booking.cancelled",
        detail: json!({"booking_id": "b2", "user_id": "jane"}),
    };
    put_on_the_bus(account, STACK, &[booking("b3", "101"), cancelled]).await;
    let statuses = "SELECT booking_id || ' ' || status FROM bookings ORDER BY booking_id";
    let expected = ["b1 Accepted", "b2 Cancelled", "b3 Refused"];
    until("one is cancelled, and one refused", async || texts(sql, statuses).await == expected).await;
    // The bus has it, which the function's role may ask.
    let refunded = "SELECT booking_id FROM holdfast.inbox WHERE refund_requested_at IS NOT NULL";
    until("the refund is requested", async || texts(sql, refunded).await == ["b3"]).await;
}

async fn records_come_by_topics(account: &MiniStack, sql: &Client) {
    let mappings = account.get("lambda", "/2015-03-31/event-source-mappings/").await;
    assert_eq!(mappings.matches("arn:aws:kafka:").count(), 2, "each function has its topic: {mappings}");
    for case in ["kafka-poison", "kafka-parked"] {
        let file = fs::read_to_string(events_folder().join("booking-created").join(format!("{case}.json"))).unwrap();
        let answer = account.invoke_with(&format!("{STACK}-booking-created:live"), file).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}), "{case}");
    }
    let written = texts(sql, "SELECT booking_id FROM bookings WHERE booking_id LIKE 'booking\\_%' ORDER BY 1").await;
    let expected: Vec<String> =
        ["12_k12", "14_k14", "16_k16"].iter().map(|id| format!("booking_17800000{id}xyz")).collect();
    assert_eq!(written, expected, "what stood beside poison, and beside a guest whom nobody knows");
    let letters = messages(account, &format!("{STACK}-booking-created-dlq")).await;
    let source =
        |letter: &Value| letter["MessageAttributes"]["kafka_source"]["StringValue"].as_str().map(str::to_owned);
    let sources: BTreeSet<String> = letters.iter().filter_map(source).collect();
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), [91, 92, 93, 94].map(|n| format!("booking-events-0@{n}")));
    sql.batch_execute("INSERT INTO users (id, email, username) VALUES (2, 'nobody@example.com', 'nobody')")
        .await
        .unwrap();
    let parked = "SELECT booking_id FROM bookings WHERE booking_id = 'booking_1780000015_k15xyz'";
    until("the parked record is worked by its queue", async || texts(sql, parked).await.len() == 1).await;
}

fn variable(variables: &[(String, String)], name: &str) -> String {
    variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

/// The ARN of a new secret.
pub(crate) async fn secret(account: &MiniStack, name: &str, value: &Value) -> String {
    let input = json!({"Name": name, "SecretString": value.to_string()});
    let made = account.call("secretsmanager", "secretsmanager.CreateSecret", input).await;
    made["ARN"].as_str().unwrap().to_owned()
}

/// The first column of what a query finds.
async fn texts(sql: &Client, query: &str) -> Vec<String> {
    let rows = sql.query_typed(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
