//! The emulator is the judge: the store's own requests, recorded once, get the same answers from both, in the order in which
//! they were made and in many others.

use std::time::Duration;

use shared::idempotency::{Claim, Key, Lease, Store, StoreError};

use super::*;
use crate::aws::{AwsEndpoint, AwsError, Request, Table};

const TABLE: &str = "records";
const NOW: u64 = 1_800_000_000_000;
const LEASE: u64 = 30_000;
const TIME_TO_LIVE: Duration = Duration::from_secs(100);

async fn endpoint(table: Table) -> AwsEndpoint {
    let endpoint = AwsEndpoint::start_with(table).await.unwrap();
    endpoint.create_idempotency_table(TABLE).await.unwrap();
    endpoint
}

fn store(endpoint: &AwsEndpoint, table: &str) -> Store {
    Store::new(endpoint.tables(), table, TIME_TO_LIVE)
}

fn acquired(claim: Result<Claim, StoreError>) -> Lease {
    let Claim::Acquired(lease) = claim.unwrap() else { panic!("another has the claim") };
    lease
}

/// Takes the store through every branch of its claim and every end of a lease, and hands back the requests.
async fn story(endpoint: &AwsEndpoint) -> Vec<Request> {
    let store = store(endpoint, TABLE);
    let (key, other) =
        (Key::of(&["payment.approved", "rsv_1", "pi_1"]), Key::of(&["payment.approved", "rsv_2", "pi_2"]));
    let claim = |payload: &'static str, now| store.claim(key.clone(), payload, now, now + LEASE);
    store.probe(&key).await.unwrap();

    let stale = acquired(claim("amount=1", NOW).await);
    assert!(matches!(claim("amount=1", NOW + LEASE).await.unwrap(), Claim::InProgress { .. }));
    assert!(matches!(claim("amount=2", NOW + LEASE + 1).await.unwrap(), Claim::PayloadChanged));
    let successor = acquired(claim("amount=1", NOW + LEASE + 1).await);
    assert!(matches!(store.complete(&stale, "success").await, Err(StoreError::Lost { .. })));
    assert!(matches!(store.release(&stale).await, Err(StoreError::Lost { .. })));
    store.release(&successor).await.unwrap();
    let third = acquired(claim("amount=1", NOW + LEASE + 2).await);
    store.complete(&third, "success").await.unwrap();
    assert!(matches!(claim("amount=1", NOW + 99_000).await.unwrap(), Claim::Completed { data } if data == "success"));
    assert!(matches!(claim("amount=2", NOW + 99_000).await.unwrap(), Claim::PayloadChanged));
    // The time to live is over, and nothing of the old record counts any more but its attempts.
    acquired(claim("amount=2", NOW + LEASE + 101_000 + 2).await);

    let unknown = acquired(store.claim(other.clone(), "", NOW, NOW + LEASE).await);
    store.complete(&unknown, "late_approval").await.unwrap();
    store.probe(&key).await.unwrap();
    endpoint.requests()
}

/// A record as another writer leaves it, such as Powertools without payload validation.
async fn foreign(endpoint: &AwsEndpoint, key: &Key, attributes: &[(&str, Value)]) {
    let mut sets = Vec::new();
    let (mut names, mut values) = (json!({}), json!({}));
    for (name, value) in attributes {
        sets.push(format!("#{name} = :{name}"));
        names[format!("#{name}")] = json!(name);
        values[format!(":{name}")] = value.clone();
    }
    let request = json!({
        "TableName": TABLE, "Key": {"id": {"S": key.as_str()}}, "UpdateExpression": format!("SET {}", sets.join(", ")),
        "ExpressionAttributeNames": names, "ExpressionAttributeValues": values,
    });
    endpoint.dynamodb("UpdateItem", &request).await.unwrap();
}

#[tokio::test]
async fn a_record_of_another_writer_is_read_for_what_it_says() {
    let (later, over, live) = (json!({"N": "1900000000"}), json!({"N": "1"}), json!({"N": "1900000000000"}));
    let (completed, in_progress) = (json!({"S": "COMPLETED"}), json!({"S": "INPROGRESS"}));
    let null = json!({"NULL": true});
    let cases = [
        ("completed", vec![("status", &completed), ("expiration", &later)]),
        (
            "completed",
            vec![
                ("status", &completed),
                ("expiration", &later),
                ("validation", &null),
                ("data", &null),
                ("owner", &null),
                ("in_progress_expiration", &null),
            ],
        ),
        ("completed", vec![("status", &completed)]),
        ("acquired", vec![("status", &in_progress), ("expiration", &later), ("in_progress_expiration", &over)]),
        ("held", vec![("status", &in_progress), ("expiration", &later), ("in_progress_expiration", &live)]),
        ("in_progress_expiration is missing", vec![("status", &in_progress), ("expiration", &later)]),
        ("in_progress_expiration is not a number", vec![("status", &in_progress), ("in_progress_expiration", &null)]),
        (
            "validation is no string",
            vec![("status", &in_progress), ("in_progress_expiration", &over), ("validation", &null)],
        ),
        ("status is neither", vec![("expiration", &later)]),
    ];
    for table in [Table::Emulated, Table::InMemory] {
        let endpoint = endpoint(table).await;
        let store = store(&endpoint, TABLE);
        for (number, (expected, attributes)) in cases.iter().enumerate() {
            let key = Key::of(&["payment.approved", &format!("rsv_{number}"), "pi_1"]);
            let attributes: Vec<_> = attributes.iter().map(|(name, value)| (*name, (*value).clone())).collect();
            foreign(&endpoint, &key, &attributes).await;
            let found = match store.claim(key, "amount=1", NOW, NOW + LEASE).await {
                Ok(Claim::Completed { .. }) => "completed".to_owned(),
                Ok(Claim::Acquired(_)) => "acquired".to_owned(),
                Ok(Claim::InProgress { .. }) => "held".to_owned(),
                Ok(Claim::PayloadChanged) => "another payload".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expected), "{table:?}: {found}, not {expected}, for {attributes:?}");
        }
    }
}

#[tokio::test]
async fn a_record_whose_expiration_is_no_number_never_expires() {
    for table in [Table::Emulated, Table::InMemory] {
        let endpoint = endpoint(table).await;
        let store = store(&endpoint, TABLE);
        let key = Key::of(&["payment.approved", "rsv_1", "pi_1"]);
        foreign(&endpoint, &key, &[("status", json!({"S": "COMPLETED"})), ("expiration", json!({"S": "1"}))]).await;
        let claim = store.claim(key, "amount=1", NOW, NOW + LEASE).await.unwrap();
        assert!(matches!(claim, Claim::Completed { .. }), "{table:?}: {claim:?}");
    }
}

/// What a caller can tell of an answer: status, kind of error, item.
async fn answer(endpoint: &AwsEndpoint, operation: &str, body: &Value) -> (u16, String, Value) {
    match endpoint.dynamodb(operation, body).await {
        Ok(answer) => (200, String::new(), answer["Item"].clone()),
        Err(AwsError::Refused { status, body, .. }) => {
            let body: Value = serde_json::from_str(&body).unwrap();
            let kind = body["__type"].as_str().unwrap();
            (status, kind.rsplit('#').next().unwrap_or(kind).to_owned(), body["Item"].clone())
        }
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn same(emulated: &(u16, String, Value), in_memory: &(u16, String, Value), of: &Value) {
    assert_eq!(emulated, in_memory, "the emulator and the table in memory disagree about {of:#}");
}

#[tokio::test]
async fn the_stores_requests_get_the_answers_of_the_emulator_in_any_order() {
    let (emulated, in_memory) = (endpoint(Table::Emulated).await, endpoint(Table::InMemory).await);
    let requests = story(&emulated).await;
    assert_eq!(story(&in_memory).await.len(), requests.len(), "and through the SDK it is the same story");
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for round in 0..30_u64 {
        let table = format!("round-{round}");
        emulated.create_idempotency_table(&table).await.unwrap();
        in_memory.create_idempotency_table(&table).await.unwrap();
        // Twice, because the SDK sends again what got no answer.
        let mut played: Vec<&Request> = requests.iter().flat_map(|request| [request, request]).collect();
        if round > 0 {
            fastrand::Rng::with_seed(round).shuffle(&mut played);
        }
        for request in played {
            let mut body = request.body.clone();
            body["TableName"] = json!(table);
            let expected = answer(&emulated, request.operation(), &body).await;
            same(&expected, &answer(&in_memory, request.operation(), &body).await, &body);
            *kinds.entry(expected.1).or_default() += 1;
            let stored = json!({"TableName": table, "Key": body["Key"], "ConsistentRead": true});
            same(&answer(&emulated, "GetItem", &stored).await, &answer(&in_memory, "GetItem", &stored).await, &body);
        }
    }
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["", "ConditionalCheckFailedException"]);
    assert!(kinds.values().all(|count| *count > 100), "{kinds:?}");
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_refused_alike() {
    let (emulated, in_memory) = (endpoint(Table::Emulated).await, endpoint(Table::InMemory).await);
    let sound = json!({
        "TableName": TABLE,
        "Key": {"id": {"S": "a"}},
        "UpdateExpression": "SET #a = :a",
        "ExpressionAttributeNames": {"#a": "a"},
        "ExpressionAttributeValues": {":a": {"N": "1"}},
    });
    let without = |name: &str| {
        let mut body = sound.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let with = |name: &str, value: Value| {
        let mut body = sound.clone();
        body[name] = value;
        body
    };
    let wrong = [
        with("TableName", json!("absent")),
        with("Key", json!({"name": {"S": "a"}})),
        with("Key", json!({"id": {"N": "1"}})),
        with("Key", json!({"id": {"S": "a"}, "range": {"S": "a"}})),
        with("UpdateExpression", json!("SET #a = :b")),
        with("UpdateExpression", json!("SET #b = :a")),
        with("UpdateExpression", json!("SET #a = ")),
        with("UpdateExpression", json!("SET #a = #b + :a")),
        with("ConditionExpression", json!("#a = :a AND")),
        with("ConditionExpression", json!("(#a = :a")),
        with("ConditionExpression", json!("#a = :a :a")),
        with("ExpressionAttributeNames", json!({"#a": "id"})),
        with("ExpressionAttributeNames", json!({"#a": "a", "#unused": "u"})),
        with("ExpressionAttributeValues", json!({":a": {"N": "1"}, ":unused": {"N": "1"}})),
        without("ExpressionAttributeNames"),
        without("ExpressionAttributeValues"),
    ];
    for body in &wrong {
        let expected = answer(&emulated, "UpdateItem", body).await;
        assert_eq!(expected.0, 400, "{body:#}");
        same(&expected, &answer(&in_memory, "UpdateItem", body).await, body);
    }
    for endpoint in [&emulated, &in_memory] {
        assert_eq!(answer(endpoint, "UpdateItem", &sound).await.0, 200);
    }
    let error = store(&in_memory, "absent").probe(&Key::of(&["payment.approved", "probe"])).await.unwrap_err();
    assert!(matches!(error, shared::client::aws::table::Unfit::Missing(_)), "the SDK knows the error: {error}");
}

#[tokio::test]
async fn what_the_table_does_not_know_it_refuses() {
    let in_memory = endpoint(Table::InMemory).await;
    let update = |name: &str, value: &str| {
        let mut body = json!({
            "TableName": TABLE,
            "Key": {"id": {"S": "a"}},
            "ExpressionAttributeNames": {"#a": "a"},
            "ExpressionAttributeValues": {":a": {"N": "1"}},
        });
        body[name] = json!(value);
        body
    };
    for body in [
        update("ConditionExpression", "NOT #a = :a"),
        update("ConditionExpression", "#a <= :a"),
        update("ConditionExpression", "#a <> :a"),
        update("ConditionExpression", "size(#a) = :a"),
        update("ConditionExpression", "a = :a AND #a = :a"),
        update("UpdateExpression", "ADD #a :a"),
        update("UpdateExpression", "SET #a = #a - :a"),
        update("ReturnValues", "UPDATED_NEW"),
    ] {
        assert_eq!(answer(&in_memory, "UpdateItem", &body).await.1, "ValidationException", "{body:#}");
    }
    let put = json!({"TableName": TABLE, "Item": {"id": {"S": "a"}}});
    assert_eq!(answer(&in_memory, "PutItem", &put).await.1, "ValidationException");
}
