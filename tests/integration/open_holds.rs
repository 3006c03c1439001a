//! How many reservations a customer may hold at a time: where that is limited, one more is refused before anything begins, and
//! what has begun goes on.

use std::time::Duration;

use local_stack::{
    admission::{asking, open_line, token, turn},
    aws::Injected,
    inventory::{Method, Scripted},
    stack::{RESERVATIONS, Stack},
};
use serde_json::{Value, json};
use shared::{admission::Admission, field::LONGEST_PAGE};
use tonic::Code;

use crate::{
    reservation_api::{Api, Ask, ask, create, id_of},
    reservation_rpc::Rpc,
};

const LIMIT: &str = "MAX_OPEN_HOLDS";
const SHOW: &str = "evt_1";
const QUERY: &str = "DynamoDB_20120810.Query";
const BATCH_GET: &str = "DynamoDB_20120810.BatchGetItem";

/// The API where a customer may hold so many.
async fn limited(most: &str) -> Api {
    started(Api::start_on(Stack::start().await.unwrap().with_variable(LIMIT, most), 1)).await
}

/// Its start looks at the table, and what is counted or fails on demand is then not that look.
async fn started(api: Api) -> Api {
    assert_eq!(api.answer(ask("GET", "/health")).await.status, 200);
    api
}

/// A wish of the customer of these tests for a ticket.
fn ticket(key: &str) -> Ask {
    create(&[]).key(key).body(json!({"eventId": SHOW, "quantity": 1}))
}

/// Asserts that the wish is refused because so many are open, and that nothing has begun by it.
async fn is_one_too_many(api: &Api, wish: Ask, most: &str) {
    api.stack.aws.clear_requests();
    let before = reserved(api);
    let answer = api.answer(wish).await;
    answer.is_error(409, "TOO_MANY_HOLDS");
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!([most, "pay for one", "cancel one"].iter().all(|part| message.contains(part)), "{message}");
    let written = api.stack.aws.requests().iter().filter(|request| request.target.ends_with("UpdateItem")).count();
    assert_eq!((written, reserved(api)), (0, before), "nothing begins");
}

fn reserved(api: &Api) -> usize {
    api.stack.inventory.calls().iter().filter(|call| call.method == Method::ReserveSeat).count()
}

/// What the table was asked, by operation.
fn asked(api: &Api) -> Vec<String> {
    let operation = |target: &str| target.rsplit('.').next().unwrap_or_default().to_owned();
    api.stack.aws.requests().iter().map(|request| operation(&request.target)).collect()
}

/// Asserts that the wish is told again what it was told before.
async fn is_told_again(api: &Api, wish: Ask, id: &str) {
    let again = api.answer(wish).await;
    assert_eq!((again.status, &again.body["reservationId"]), (201, &json!(id)), "{again:#?}");
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn without_the_variable_a_customer_holds_as_many_as_he_likes_and_nothing_is_counted() {
    for most in [None, Some("")] {
        let stack = Stack::start().await.unwrap();
        let stack = most.into_iter().fold(stack, |stack, most| stack.with_variable(LIMIT, most));
        let api = Api::start_on(stack, 1);
        for key in ["k1", "k2", "k3", "k4"] {
            api.created(ticket(key)).await;
        }
        assert!(!asked(&api).iter().any(|operation| operation == "Query"), "{:?}", asked(&api));
    }
}

#[tokio::test]
async fn one_more_than_may_be_open_is_refused_and_nothing_begins() {
    let api = limited("2").await;
    api.stack.aws.clear_requests();
    let first = api.created(ticket("k1")).await;
    assert_eq!(asked(&api), ["Query", "UpdateItem", "UpdateItem"], "so few are not read");
    let second = api.created(ticket("k2")).await;
    for key in ["k3", "k4", "k3"] {
        is_one_too_many(&api, ticket(key), "2").await;
    }
    is_one_too_many(&api, create(&["A-1"]).key("k5").body(json!({"eventId": "evt_2", "quantity": 1})), "2").await;

    is_told_again(&api, ticket("k1"), &first).await;
    is_told_again(&api, ticket("k2"), &second).await;
    let other = ticket("k1").body(json!({"eventId": SHOW, "quantity": 2}));
    api.answer(other).await.is_error(422, "IDEMPOTENCY_CONFLICT");
    api.created(ticket("k3").by("usr_2")).await;
    let limit_of_another = api.answer(ticket("k1").by("usr_2")).await;
    assert_eq!(limit_of_another.status, 201, "each customer has a count of his own: {limit_of_another:#?}");
    is_one_too_many(&api, ticket("k4").by("usr_2"), "2").await;

    api.cancel(&second).await;
    let third = api.created(ticket("k3")).await;
    is_one_too_many(&api, ticket("k4"), "2").await;
    for (key, id) in [("k1", &first), ("k2", &second), ("k3", &third)] {
        is_told_again(&api, ticket(key), id).await;
    }
}

#[tokio::test]
async fn what_is_cancelled_paid_or_over_counts_no_more() {
    let api = limited("1").await;
    let settle = async |id: &str, wanted: Value| {
        let answer = api.answer(ask("PATCH", &format!("/internal/reservations/{id}")).signed().body(wanted)).await;
        assert_eq!(answer.status, 200, "{answer:#?}");
    };
    let cancelled = api.created(ticket("cancelled")).await;
    api.cancel(&cancelled).await;
    let paid = api.created(ticket("paid")).await;
    settle(&paid, json!({"status": "CONFIRMED", "payment_intent_id": "pi_1"})).await;
    let expired = api.created(ticket("expired")).await;
    is_one_too_many(&api, ticket("over"), "1").await;
    // By its deadline first, whose timer has yet to come.
    api.stack.aws.age_reservation(RESERVATIONS, &expired, Duration::from_secs(61)).await.unwrap();
    let over = api.created(ticket("over")).await;
    settle(&expired, json!({"status": "EXPIRED"})).await;
    is_one_too_many(&api, ticket("next"), "1").await;
    is_told_again(&api, ticket("over"), &over).await;
    is_told_again(&api, ticket("expired"), &expired).await;
}

/// Wishes that failed and reservations that were given up are counted in pages, and what is open lies behind them.
#[tokio::test]
async fn nobody_hides_what_he_holds_behind_a_page_of_wishes_that_failed() {
    let api = limited("2").await;
    api.created(ticket("held")).await;
    api.stack.inventory.stock("evt_sold", &[], 0);
    for number in 0..LONGEST_PAGE {
        let sold_out = create(&[]).key(&format!("sold-{number}")).body(json!({"eventId": "evt_sold", "quantity": 1}));
        api.answer(sold_out).await.is_error(409, "SEAT_UNAVAILABLE");
    }
    api.created(ticket("second")).await;
    is_one_too_many(&api, ticket("third"), "2").await;
}

/// Nothing that can be open is older than the longest hold, and what is as old as that is counted.
#[tokio::test]
async fn a_hold_that_was_extended_counts_until_its_last_deadline() {
    let api = limited("1").await;
    let id = api.created(ticket("k1")).await;
    let longer = ask("POST", &format!("/v1/reservations/{id}/extend")).by("usr_1");
    assert_eq!(api.answer(longer.body(json!({"extensionSeconds": 840}))).await.status, 200);
    api.stack.aws.age_reservation(RESERVATIONS, &id, Duration::from_secs(880)).await.unwrap();
    is_one_too_many(&api, ticket("k2"), "1").await;
    api.stack.aws.age_reservation(RESERVATIONS, &id, Duration::from_secs(30)).await.unwrap();
    api.stack.aws.clear_requests();
    api.created(ticket("k2")).await;
    assert_eq!(asked(&api), ["Query", "UpdateItem", "UpdateItem"], "what is older than any hold is not even read");
}

/// A limit may come while customers have more than it allows, and a creation may be half done by then.
#[tokio::test]
async fn what_has_begun_goes_on_though_no_more_may_be_open() {
    let free = Api::start().await;
    let begun = id_of("begun");
    free.stack.inventory.answer_next(&begun, Scripted::Status(Code::Internal, String::new()));
    free.answer(ticket("begun")).await.is_error(503, "INVENTORY_SERVICE_ERROR");
    let held = free.created(ticket("held")).await;
    let api = started(Api::deployed(free.stack.clone().with_variable(LIMIT, "1"), 1)).await;
    is_one_too_many(&api, ticket("new"), "1").await;
    is_told_again(&api, ticket("held"), &held).await;
    api.answer(ticket("begun")).await.is_error(409, "IDEMPOTENCY_IN_PROGRESS");
    // Whoever was at it is gone.
    api.stack.aws.age_reservation(RESERVATIONS, &begun, Duration::from_secs(11)).await.unwrap();
    let gone_on = api.answer(ticket("begun")).await;
    assert_eq!((gone_on.status, &gone_on.body["reservationId"]), (201, &json!(begun)), "{gone_on:#?}");
    assert_eq!(gone_on.header("idempotent-replayed"), None);
    is_told_again(&api, ticket("begun"), &begun).await;
}

#[tokio::test]
async fn a_count_without_an_answer_is_no_count() {
    let api = limited("1").await;
    const OF_THE_ACCOUNT: &str = "User: arn:aws:sts::000000000000:assumed-role/api is not authorized";
    let refused =
        |status, kind: &str| Injected::Answer { status, kind: kind.to_owned(), message: OF_THE_ACCOUNT.to_owned() };
    let faults = [
        ("throttled", refused(400, "ProvisionedThroughputExceededException"), 2),
        ("broken", refused(500, "InternalServerError"), 2),
        ("denied", refused(400, "AccessDeniedException"), 1),
        ("a page of a proxy", refused(200, "nothing"), 1),
    ];
    let is_unknown = async |target: &str, wish: &dyn Fn() -> Ask| {
        for (case, failure, times) in &faults {
            // The client asks twice, but for what is no answer of DynamoDB at all.
            for _ in 0..*times {
                api.stack.aws.fail_next(target, failure.clone());
            }
            let (before, lines) = (reserved(&api), api.logs().len());
            api.stack.aws.clear_requests();
            let answer = api.answer(wish()).await;
            answer.is_error(503, "SERVICE_UNAVAILABLE");
            assert_eq!(answer.header("retry-after"), Some("1"), "{case}");
            let (told, written) = (answer.body.to_string(), api.logs().split_off(lines).join("\n"));
            assert!(!told.contains("arn:"), "{case}: a stranger reads of our account: {told}");
            assert!(
                written.contains("a request can't be served now") && !written.contains("usr_1"),
                "{case}: {written}"
            );
            assert!(*case != "denied" || written.contains("arn:aws:sts"), "{case}: who is on call reads it: {written}");
            assert!(!asked(&api).iter().any(|operation| operation == "UpdateItem"), "{case}: {:?}", asked(&api));
            assert_eq!(reserved(&api), before, "{case}");
        }
    };
    is_unknown(QUERY, &|| ticket("k1")).await;
    api.created(ticket("k1")).await;
    is_unknown(BATCH_GET, &|| ticket("k2")).await;
    is_one_too_many(&api, ticket("k2"), "1").await;
}

#[tokio::test]
async fn a_turn_is_not_used_up_by_a_wish_that_is_one_too_many() {
    let api = Api::start_on(asking(Stack::start().await.unwrap()).with_variable(LIMIT, "1"), 1);
    let held = api.created(ticket("k1")).await;
    open_line(&api.stack.aws, "evt_line", 100).await.unwrap();
    api.stack.inventory.stock("evt_line", &[], 5);
    let right: Admission = turn("usr_1", "evt_line");
    let admitted = || {
        let body = json!({"eventId": "evt_line", "quantity": 1, "reservationToken": token(&right).unwrap()});
        ask("POST", "/v1/reservations").by("usr_1").key("k2").body(body)
    };
    is_one_too_many(&api, admitted(), "1").await;
    api.cancel(&held).await;
    assert_eq!(api.created(admitted()).await, right.reservation_id());
    is_told_again(&api, admitted(), &right.reservation_id()).await;
}

#[tokio::test]
async fn by_rpc_the_limit_is_the_same() {
    let rpc = Rpc::open_on(Stack::start().await.unwrap().with_variable(LIMIT, "1")).await;
    let wish = |key: &str| json!({"eventId": SHOW, "quantity": 1, "idempotencyKey": key});
    let made = rpc.call("CreateReservation", wish("k1")).await.unwrap();
    rpc.is_refused("CreateReservation", wish("k2"), "resource_exhausted", "cancel one").await;
    assert_eq!(rpc.call("CreateReservation", wish("k1")).await.unwrap(), made, "a repeat is told the same");
    assert_eq!(rpc.stack.inventory.calls().len(), 1);
    rpc.call("CancelReservation", json!({"reservationId": made["reservationId"]})).await.unwrap();
    rpc.call("CreateReservation", wish("k2")).await.unwrap();
}
