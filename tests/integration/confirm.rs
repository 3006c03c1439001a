//! A customer confirms his reservation himself: only a payment that the payment service vouches for sells seats.

use std::time::Duration;

use local_stack::{
    aws::Injected,
    inventory::SeatState,
    payments::{Course, Order, Scripted},
    stack::{RESERVATIONS, Stack},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    harness::{eventually, while_held, wire_before},
    reservation_api::{Api, Ask, ask, create},
};

const UNAVAILABLE: i32 = 17;
const NOT_FOUND: i32 = 5;

fn order(reservation_id: &str) -> Order {
    Order {
        reservation_id: reservation_id.to_owned(),
        user_id: "usr_1".to_owned(),
        amount: 3_800,
        currency: "EUR".to_owned(),
        course: Course::Approved,
    }
}

fn confirm(id: &str, payment: &str) -> Ask {
    ask("POST", &format!("/v1/reservations/{id}/confirm")).by("usr_1").body(json!({"paymentIntentId": payment}))
}

/// A reservation on hold whose one seat costs 38 euros.
async fn held() -> (Api, String) {
    held_on(Stack::start().await.unwrap()).await
}

async fn held_on(stack: Stack) -> (Api, String) {
    let api = Api::start_on(stack, 2);
    api.stack.inventory.price("evt_1", 3_800, "EUR");
    let id = api.created(create(&["A-1"])).await;
    (api, id)
}

impl Api {
    /// Asserts that nothing was sold and nothing given back.
    async fn is_on_hold(&self, id: &str) {
        let shown = self.answer(ask("GET", &format!("/v1/reservations/{id}")).by("usr_1")).await;
        assert_eq!((&shown.body["status"], self.stack.inventory.seat_state(id)), (&json!("HOLD"), SeatState::Held));
    }
}

#[tokio::test]
async fn a_payment_that_the_payment_service_vouches_for_confirms_and_a_repeat_is_told_the_same() {
    let (api, id) = held().await;
    let payment = api.stack.payments.pay(order(&id));
    for _ in 0..2 {
        let confirmed = api.answer(confirm(&id, &payment)).await;
        assert_eq!((confirmed.status, &confirmed.body["status"]), (200, &json!("CONFIRMED")), "{confirmed:#?}");
        assert_eq!(confirmed.body["orderId"], json!(id.replace("rsv_", "ord_")));
    }
    assert_eq!(api.stack.payments.questions(), 1, "what is confirmed is not asked again");
    let told = api.answer(ask("GET", &format!("/internal/reservations/{id}")).signed()).await.body;
    assert_eq!((&told["payment_intent_id"], &told["amount"]), (&json!(payment), &json!(3_800)));
    api.answer(confirm(&id, "pi_other")).await.is_error(409, "RESERVATION_ALREADY_CONFIRMED");
}

/// Hard case 20, open-event-server#6258: tickets without paying.
#[tokio::test]
async fn tickets_without_paying_an_unknown_foreign_pending_failed_or_too_small_payment_confirms_nothing() {
    let (api, id) = held().await;
    let payments = &api.stack.payments;
    let odd = [
        ("unknown", "pi_unknown".to_owned(), false),
        ("of another reservation", payments.pay(order("rsv_other")), false),
        ("another customer's", payments.pay(Order { user_id: "usr_2".into(), ..order(&id) }), false),
        ("nobody's", payments.pay(Order { user_id: String::new(), ..order(&id) }), false),
        ("too small", payments.pay(Order { amount: 3_799, ..order(&id) }), false),
        ("in another currency", payments.pay(Order { currency: "JPY".into(), ..order(&id) }), false),
        ("failed", payments.pay(Order { course: Course::Failed, ..order(&id) }), false),
        ("not begun", payments.create(order(&id)), true),
        ("under way", payments.pay(Order { course: Course::Silent, ..order(&id) }), true),
    ];
    // A service may tell of a payment to whoever asks. Then we do the looking.
    let tries = odd.into_iter().flat_map(|odd| [(odd.clone(), false), (odd, true)]);
    for ((what, payment, may_come), to_anybody) in tries {
        if to_anybody {
            payments.answer_next(Scripted::ToAnybody);
        }
        let refused = api.answer(confirm(&id, &payment)).await;
        refused.is_error(402, "PAYMENT_NOT_CONFIRMED");
        assert_eq!(refused.header("retry-after"), may_come.then_some("1"), "{what}: {refused:#?}");
        api.is_on_hold(&id).await;
    }
}

/// Nobody learns from the answer whether a payment is unknown or another's.
#[tokio::test]
async fn anothers_payment_is_answered_as_an_unknown_one() {
    let (api, id) = held().await;
    let foreign = api.stack.payments.pay(Order { user_id: "usr_2".into(), ..order("rsv_other") });
    let message = async |payment: &str| api.answer(confirm(&id, payment)).await.body["error"]["message"].clone();
    assert_eq!(message(&foreign).await, message("pi_unknown").await);
    api.stack.payments.answer_next(Scripted::ToAnybody);
    assert_eq!(message(&foreign).await, message("pi_unknown").await);
    api.stack.payments.answer_next(Scripted::Error { code: NOT_FOUND, message: "x".into() });
    assert_eq!(message("pi_unknown").await, message(&foreign).await);
}

#[tokio::test]
async fn a_payment_service_that_says_nothing_of_this_payment_decides_nothing() {
    let (api, id) = held().await;
    let payment = api.stack.payments.pay(order(&id));
    for silence in [
        Scripted::Status(Code::Unavailable, "down".into()),
        Scripted::Status(Code::Unimplemented, "rolled out".into()),
        Scripted::Status(Code::Unauthenticated, "who?".into()),
        Scripted::Error { code: UNAVAILABLE, message: "down".into() },
        Scripted::Error { code: 0, message: "odd".into() },
        Scripted::About("pi_other".into()),
        Scripted::Nothing,
        Scripted::Hang,
    ] {
        api.stack.payments.answer_next(silence.clone());
        let refused = api.answer(confirm(&id, &payment)).await;
        refused.is_error(503, "SERVICE_UNAVAILABLE");
        assert_eq!(refused.header("retry-after"), Some("1"), "{silence:?}: {refused:#?}");
        api.is_on_hold(&id).await;
    }
    assert_eq!(api.answer(confirm(&id, &payment)).await.status, 200);
}

#[tokio::test]
async fn a_payment_that_goes_through_later_confirms_then() {
    let (api, id) = held().await;
    let payment = api.stack.payments.create(order(&id));
    api.answer(confirm(&id, &payment)).await.is_error(402, "PAYMENT_NOT_CONFIRMED");
    api.stack.payments.process(&payment).unwrap();
    assert_eq!(api.answer(confirm(&id, &payment)).await.body["status"], "CONFIRMED");
}

/// Hard case 9, saleor#14733: charged, and the seats are gone.
#[tokio::test]
async fn a_payment_for_a_reservation_that_has_ended_is_a_conflict_and_nobody_is_asked() {
    let (api, id) = held().await;
    let payment = api.stack.payments.pay(order(&id));
    api.cancel(&id).await;
    api.answer(confirm(&id, &payment)).await.is_error(409, "RESERVATION_ALREADY_CANCELLED");
    assert_eq!(api.stack.payments.questions(), 0);
}

/// Each has read that it is on hold before the other writes, so that the write decides and not the look before it.
#[tokio::test]
async fn of_a_confirm_and_the_end_of_its_hold_at_once_one_wins_and_the_other_is_told() {
    for confirm_is_first in [true, false] {
        // The payment service is waited for as long as the other request takes, for which there are two environments.
        let stack = Stack::start().await.unwrap().with_variable("PAYMENT_TIMEOUT_MS", "5000");
        let (api, id) = held_on(stack).await;
        tokio::join!(api.is_on_hold(&id), api.is_on_hold(&id));
        let payment = api.stack.payments.pay(order(&id));
        api.stack.aws.age_reservation(RESERVATIONS, &id, Duration::from_secs(61)).await.unwrap();
        let internal = format!("/internal/reservations/{id}");
        let expire = || api.answer(ask("PATCH", &internal).signed().body(json!({"status": "EXPIRED"})));
        let confirm = || api.answer(confirm(&id, &payment));
        api.stack.aws.clear_requests();
        let writes = || api.stack.aws.requests().iter().filter(|request| request.operation() == "UpdateItem").count();
        let (confirmed, expired) = if confirm_is_first {
            // The first write of the end is lost on its way, and the second try comes too late.
            api.stack.aws.fail_next("DynamoDB_20120810.UpdateItem", Injected::Silence);
            let later = async {
                eventually("the end has read the reservation", || writes() == 1).await;
                confirm().await
            };
            let (expired, confirmed) = tokio::join!(expire(), later);
            (confirmed, expired)
        } else {
            let wire = wire_before(1);
            api.stack.payments.set_tripwire(wire.clone());
            // The confirm has read the reservation by then.
            tokio::join!(confirm(), while_held(&wire, expire()))
        };
        let end = if confirm_is_first {
            assert_eq!((confirmed.status, &confirmed.body["status"]), (200, &json!("CONFIRMED")), "{confirmed:#?}");
            assert_eq!((expired.status, &expired.body["status"]), (409, &json!("CONFIRMED")), "{expired:#?}");
            assert_eq!(expired.body["payment_intent_id"], json!(payment), "whose it is: {expired:#?}");
            "reservation.confirmed"
        } else {
            assert_eq!((expired.status, &expired.body["status"]), (200, &json!("EXPIRED")), "{expired:#?}");
            confirmed.is_error(409, "RESERVATION_EXPIRED");
            "reservation.expired"
        };
        // The seats follow the one end that is told.
        let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}, "ConsistentRead": true});
        let item = api.stack.aws.dynamodb("GetItem", &key).await.unwrap()["Item"].clone();
        let told = item["events"]["L"].as_array().unwrap().iter().map(|event| &event["M"]["type"]["S"]);
        let told: Vec<&Value> = told.collect();
        assert_eq!(told, ["timer", "reservation.created", end], "{item:#}");
        assert_eq!((&item["version"]["N"], api.stack.inventory.seat_state(&id)), (&json!("3"), SeatState::Held));
    }
}
