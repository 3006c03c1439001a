//! Where tickets are given out in line: who may make a reservation, by which token, and how often.

use std::time::{Duration, SystemTime};

use local_stack::{
    admission::{self, FORMER_KEY, KEY, LINES, SECRET, VARIABLES, asking, forged, open_line, token, token_by, turn},
    aws::Injected,
    inventory::{Method, SeatState},
    lambda::FunctionError,
    stack::{RESERVATIONS, Stack},
};
use serde_json::{Value, json};
use shared::{admission::Admission, deadline::epoch_ms};

use crate::{
    harness::binaries,
    relay::Relayed,
    reservation_api::{Answer, Api, Ask, ask},
    reservation_rpc::Rpc,
};

const SHOW: &str = "evt_1";
const GET: &str = "DynamoDB_20120810.GetItem";

/// The API where `evt_1` has a line.
async fn door() -> Api {
    let api = Api::start_on(asking(Stack::start().await.unwrap()), 2);
    open_line(&api.stack.aws, SHOW, 100).await.unwrap();
    // Its start looks at the tables, and what is counted or fails on demand is then not that look.
    assert_eq!(api.answer(ask("GET", "/health")).await.status, 200);
    api.stack.aws.clear_requests();
    api
}

/// A wish for these seats, with this token.
fn wish(seats: &[&str], token: &str) -> Ask {
    wish_for(SHOW, json!({"seatIds": seats, "reservationToken": token}))
}

fn wish_for(show: &str, mut fields: Value) -> Ask {
    fields["eventId"] = json!(show);
    ask("POST", "/v1/reservations").by("usr_1").key("key-1").body(fields)
}

fn of_usr_1() -> Admission {
    turn("usr_1", SHOW)
}

/// How often the table of the waiting room was read.
fn looks(api: &Api) -> usize {
    api.stack.aws.requests().iter().filter(|request| request.body["TableName"] == LINES).count()
}

/// Asserts that nothing has begun: no item was written, and no seats were asked for.
#[track_caller]
fn nothing_began(api: &Api, case: &str) {
    let requests = api.stack.aws.requests();
    let written = requests.iter().filter(|request| request.body["TableName"] == RESERVATIONS && request.target != GET);
    assert_eq!(written.count(), 0, "{case}: {requests:#?}");
    assert!(!api.stack.inventory.calls().iter().any(|call| call.method == Method::ReserveSeat), "{case}");
}

#[tokio::test]
async fn without_the_variable_a_token_is_carried_and_no_line_is_asked_for() {
    let api = Api::start().await;
    admission::prepare(&api.stack.aws);
    open_line(&api.stack.aws, SHOW, 100).await.unwrap();
    api.stack.aws.clear_requests();
    let id = api.created(wish(&["A-1"], "any text at all")).await;
    assert_eq!((looks(&api), api.stack.inventory.seat_state(&id)), (0, SeatState::Held));
    let shown = api.answer(ask("GET", &format!("/v1/reservations/{id}")).by("usr_1")).await;
    assert_eq!(shown.body.get("queueItemId"), None, "{shown:#?}");
}

#[tokio::test]
async fn an_event_with_a_line_asks_for_a_token_and_any_other_does_not() {
    let api = door().await;
    for fields in [json!({"seatIds": ["A-1"]}), json!({"seatIds": ["A-1"], "reservationToken": ""})] {
        api.answer(wish_for(SHOW, fields)).await.is_error(403, "ADMISSION_REQUIRED");
    }
    nothing_began(&api, "no token");
    api.stack.inventory.stock("evt_free", &[], 5);
    let free = api.answer(wish_for("evt_free", json!({"quantity": 1}))).await;
    assert_eq!(free.status, 201, "{free:#?}");
}

#[tokio::test]
async fn a_token_is_worth_one_reservation_which_is_named_after_it_and_names_its_place() {
    let api = door().await;
    let right = of_usr_1();
    let id = api.created(wish(&["A-1", "A-2"], &token(&right).unwrap())).await;
    assert_eq!((id.as_str(), api.stack.inventory.seat_state(&id)), (right.reservation_id().as_str(), SeatState::Held));
    assert_eq!(looks(&api), 0, "whoever brings a token is judged by it");
    let path = format!("/v1/reservations/{id}");
    let shown = api.answer(ask("GET", &path).by("usr_1")).await;
    assert_eq!(shown.body["queueItemId"], right.queue_item_id, "{shown:#?}");
    let listed = api.answer(ask("GET", "/v1/reservations").by("usr_1")).await;
    assert_eq!(listed.body["items"][0]["queueItemId"], right.queue_item_id, "{listed:#?}");
    let internal = api.answer(ask("GET", &format!("/internal/reservations/{id}")).signed()).await;
    assert_eq!(internal.body["queue_item_id"], right.queue_item_id, "{internal:#?}");
}

#[tokio::test]
async fn the_same_wish_under_a_token_is_told_the_same_whatever_its_key_and_another_is_refused() {
    let api = door().await;
    let token = token(&of_usr_1()).unwrap();
    let first = api.answer(wish(&["A-1", "A-2"], &token)).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None), "{first:#?}");
    for key in ["key-1", "key-2"] {
        let again = api.answer(wish(&["A-2", "A-1"], &token).key(key)).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")), "{key}");
        assert_eq!(again.body, first.body, "{key}");
        for other in [wish(&["A-3"], &token), wish_for(SHOW, json!({"quantity": 2, "reservationToken": token}))] {
            api.answer(other.key(key)).await.is_error(409, "TOKEN_ALREADY_USED");
        }
    }
    assert_eq!(reserved(&api), 1, "seats are asked for once");
}

fn reserved(api: &Api) -> usize {
    api.stack.inventory.calls().iter().filter(|call| call.method == Method::ReserveSeat).count()
}

#[tokio::test]
async fn a_key_means_another_request_under_another_token() {
    let api = door().await;
    let right = of_usr_1();
    let next = Admission { call: 2, ..right.clone() };
    api.stack.inventory.stock("evt_free", &[], 5);
    let ids = [
        api.created(wish(&["A-1"], &token(&right).unwrap())).await,
        api.created(wish(&["A-2"], &token(&next).unwrap())).await,
        api.created(wish_for("evt_free", json!({"quantity": 1}))).await,
    ];
    assert_eq!([ids[0].as_str(), ids[1].as_str()], [right.reservation_id(), next.reservation_id()]);
    assert!(ids[2] != ids[0] && ids[2] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn two_at_once_by_one_token_hold_seats_once() {
    let api = door().await;
    let token = token(&of_usr_1()).unwrap();
    let (one, two) =
        tokio::join!(api.answer(wish(&["A-1"], &token).key("k1")), api.answer(wish(&["A-2"], &token).key("k2")));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{one:#?} {two:#?}");
    assert_eq!(reserved(&api), 1);
}

#[tokio::test]
async fn a_token_that_does_not_admit_to_the_wish_begins_nothing() {
    let api = door().await;
    let good = token(&of_usr_1()).unwrap();
    let now = epoch_ms(SystemTime::now());
    let claim = |name: &'static str, value: Value| forged(&good, Some(KEY), |_, claims| claims[name] = value);
    let cases = [
        ("another event's", token(&turn("usr_1", "evt_2")).unwrap(), "is for another event"),
        ("another customer's", token(&turn("usr_2", SHOW)).unwrap(), "is another customer's"),
        ("expired", token(&Admission { expires_at: now - 1_000, ..of_usr_1() }).unwrap(), "has expired"),
        ("without a signature", forged(&good, None, |header, _| header["alg"] = json!("none")), "was not given out"),
        (
            "signed, and says none",
            forged(&good, Some(KEY), |header, _| header["alg"] = json!("none")),
            "was not given out",
        ),
        ("says RS256", forged(&good, Some(KEY), |header, _| header["alg"] = json!("RS256")), "was not given out"),
        ("cut off", good[..good.len() - 1].to_owned(), "was not given out"),
        (
            "signed by a stranger",
            forged(&good, Some("a stranger's key of more than 32 bytes"), |_, _| {}),
            "was not given out",
        ),
        (
            "by a key of nobody",
            token_by("a key that was never in the secret at all", &of_usr_1()).unwrap(),
            "was not given out",
        ),
        ("for another service", claim("aud", json!("another-service")), "was not given out"),
        ("without an end", claim("exp", Value::Null), "was not given out"),
        ("under a name of its own", claim("jti", json!("q1usr1_1_7_")), "was not given out"),
        ("a text", "t".to_owned(), "was not given out"),
        ("long", "t".repeat(20_000), "was not given out"),
    ];
    for (case, token, says) in cases {
        let answer = api.answer(wish(&["A-1"], &token)).await;
        answer.is_error(403, "INVALID_RESERVATION_TOKEN");
        let message = answer.body["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(&format!("the reservation token {says}")), "{case}: {message}");
        assert!(token.len() == 1 || !message.contains(&token), "{case}: {message}");
        nothing_began(&api, case);
    }
    assert_eq!(api.answer(wish(&["A-1"], &good)).await.status, 201, "the token that all are made of is good");
}

#[tokio::test]
async fn a_token_is_judged_at_an_event_without_a_line_too() {
    let api = door().await;
    api.stack.inventory.stock("evt_free", &[], 5);
    let ask = |token: &str| wish_for("evt_free", json!({"quantity": 1, "reservationToken": token}));
    for (case, token) in [("a text", "t".to_owned()), ("another event's", token(&of_usr_1()).unwrap())] {
        api.answer(ask(&token)).await.is_error(403, "INVALID_RESERVATION_TOKEN");
        nothing_began(&api, case);
    }
    let right = turn("usr_1", "evt_free");
    assert_eq!(api.created(ask(&token(&right).unwrap())).await, right.reservation_id());
}

#[tokio::test]
async fn nobody_gets_more_tickets_than_his_token_allows() {
    let api = door().await;
    let token = token(&Admission { most_tickets: 2, ..of_usr_1() }).unwrap();
    for fields in [json!({"quantity": 3}), json!({"seatIds": ["A-1", "A-2", "A-3"]})] {
        let mut fields = fields;
        fields["reservationToken"] = json!(token);
        let answer = api.answer(wish_for(SHOW, fields)).await;
        let details = answer.is_error(400, "INVALID_REQUEST");
        assert!(details["quantity"].as_str().is_some_and(|rule| rule.contains("at most 2")), "{details}");
        nothing_began(&api, "too many");
    }
    assert_eq!(api.answer(wish(&["A-1", "A-2"], &token)).await.status, 201);
}

#[tokio::test]
async fn tokens_of_the_other_key_are_believed_until_it_is_gone() {
    let api = door().await;
    let old = token_by(FORMER_KEY, &of_usr_1()).unwrap();
    let id = api.created(wish(&["A-1"], &old)).await;
    api.stack.aws.put_secret(SECRET, &admission::secret(KEY, None));
    let later = Api::deployed(api.stack.clone(), 1);
    later.answer(wish(&["A-1"], &old)).await.is_error(403, "INVALID_RESERVATION_TOKEN");
    let again = later.answer(wish(&["A-1"], &token(&of_usr_1()).unwrap())).await;
    assert_eq!(again.body["reservationId"], json!(id), "the same place has the same reservation by either key");
}

#[tokio::test]
async fn a_line_that_can_t_be_read_lets_nobody_in_and_says_when_to_come_again() {
    let api = door().await;
    let ask = || wish_for("evt_free", json!({"quantity": 1}));
    api.stack.inventory.stock("evt_free", &[], 5);
    let refused = |status, kind: &str| Injected::Answer { status, kind: kind.to_owned(), message: "busy".to_owned() };
    // The client asks twice, but for what is no answer of DynamoDB at all.
    for (case, failure, times) in [
        ("throttled", refused(400, "ProvisionedThroughputExceededException"), 2),
        ("broken", refused(500, "InternalServerError"), 2),
        ("denied", refused(400, "AccessDeniedException"), 1),
        ("a page of a proxy", refused(200, "nothing"), 1),
    ] {
        for _ in 0..times {
            api.stack.aws.fail_next(GET, failure.clone());
        }
        let answer = api.answer(ask()).await;
        answer.is_error(503, "SERVICE_UNAVAILABLE");
        assert_eq!(answer.header("retry-after"), Some("1"), "{case}");
        nothing_began(&api, case);
    }
    assert_eq!(api.answer(ask()).await.status, 201, "none of it was taken for an answer");
    let token = token(&of_usr_1()).unwrap();
    assert_eq!(api.answer(wish(&["A-1"], &token)).await.status, 201);
}

#[tokio::test]
async fn what_is_known_of_a_line_holds_for_five_seconds() {
    let api = Api::start_on(asking(Stack::start().await.unwrap()), 1);
    assert_eq!(api.answer(ask("GET", "/health")).await.status, 200);
    api.stack.aws.clear_requests();
    let without = |key: &str| wish_for(SHOW, json!({"quantity": 1})).key(key);
    for key in ["k1", "k2", "k3"] {
        assert_eq!(api.answer(without(key)).await.status, 201);
    }
    assert_eq!(looks(&api), 1, "one look is enough for all of them");
    open_line(&api.stack.aws, SHOW, 100).await.unwrap();
    api.stack.aws.clear_requests();
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    for key in ["k4", "k5"] {
        api.answer(without(key)).await.is_error(403, "ADMISSION_REQUIRED");
    }
    assert_eq!(looks(&api), 1, "a line is remembered as its absence is");
}

#[tokio::test]
async fn a_turn_that_was_taken_back_makes_no_reservation_whatever_is_wished() {
    let api = door().await;
    let right = of_usr_1();
    let path = format!("/internal/reservations/{}", right.reservation_id());
    let end = || ask("PUT", &path).signed().header("if-none-match", "*");
    for status in [201, 200] {
        let ended = api.answer(end()).await;
        assert_eq!((ended.status, ended.body["status"].as_str()), (status, Some("EXPIRED")), "{ended:#?}");
    }
    let token = token(&right).unwrap();
    for late in [wish(&["A-1"], &token), wish_for(SHOW, json!({"quantity": 4, "reservationToken": token})).key("k2")] {
        api.answer(late).await.is_error(409, "RESERVATION_EXPIRED");
    }
    assert_eq!(reserved(&api), 0);
    let shown = api.answer(ask("GET", &path).signed()).await;
    assert_eq!((shown.status, shown.body["status"].as_str()), (200, Some("EXPIRED")));
    let own = api.answer(ask("GET", &format!("/v1/reservations/{}", right.reservation_id())).by("usr_1")).await;
    own.is_error(404, "RESERVATION_NOT_FOUND");
}

#[tokio::test]
async fn a_turn_that_was_used_is_not_taken_back_and_its_reservation_is_shown() {
    let api = door().await;
    let right = of_usr_1();
    let id = api.created(wish(&["A-1"], &token(&right).unwrap())).await;
    let end = ask("PUT", &format!("/internal/reservations/{id}")).signed().header("if-none-match", "*");
    let kept = api.answer(end).await;
    assert_eq!((kept.status, kept.body["status"].as_str()), (412, Some("HOLD")), "{kept:#?}");
    assert_eq!(kept.body["queue_item_id"], right.queue_item_id);
    assert_eq!(api.stack.inventory.seat_state(&id), SeatState::Held);
}

#[tokio::test]
async fn an_expired_token_shows_the_reservation_that_it_made_and_makes_none() {
    let api = door().await;
    let over = |call| Admission { call, expires_at: of_usr_1().expires_at, ..of_usr_1() };
    let right = over(1);
    let id = api.created(wish(&["A-1"], &token(&right).unwrap())).await;
    let now = epoch_ms(SystemTime::now());
    let late = |call| token(&Admission { expires_at: now - 1_000, ..over(call) }).unwrap();
    let again = api.answer(wish(&["A-1"], &late(1)).key("k2")).await;
    assert_eq!((again.status, &again.body["reservationId"]), (201, &json!(id)), "{again:#?}");
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    api.answer(wish(&["A-2"], &late(1))).await.is_error(409, "TOKEN_ALREADY_USED");
    api.answer(wish(&["A-2"], &late(2))).await.is_error(403, "INVALID_RESERVATION_TOKEN");
    assert_eq!(reserved(&api), 1);
}

#[tokio::test]
async fn a_reservation_that_was_left_in_the_middle_goes_on_by_its_token_though_that_has_expired() {
    let api = door().await;
    let right = of_usr_1();
    let id = right.reservation_id();
    api.stack.inventory.answer_next(&id, local_stack::inventory::Scripted::Hang);
    api.answer(wish(&["A-1"], &token(&right).unwrap())).await.is_error(503, "INVENTORY_SERVICE_ERROR");
    api.stack.aws.age_reservation(RESERVATIONS, &id, Duration::from_secs(11)).await.unwrap();
    let late = Admission { expires_at: epoch_ms(SystemTime::now()) - 1_000, ..right };
    assert_eq!(api.created(wish(&["A-1"], &token(&late).unwrap())).await, id);
    assert_eq!(api.stack.inventory.seat_state(&id), SeatState::Held);
}

#[tokio::test]
async fn a_turn_without_seats_says_so_by_a_code_of_its_own_and_the_next_call_of_the_place_tries_again() {
    let api = door().await;
    api.stack.inventory.hold(SHOW, "rsv_of_another", &["A-1".to_owned()], 1);
    let right = of_usr_1();
    let token_1 = token(&right).unwrap();
    for key in ["k1", "k2"] {
        api.answer(wish(&["A-1"], &token_1).key(key)).await.is_error(409, "SEAT_UNAVAILABLE");
    }
    let failed = api.answer(ask("GET", &format!("/internal/reservations/{}", right.reservation_id())).signed()).await;
    assert_eq!(failed.body["status"], "FAILED", "{failed:#?}");
    let next = Admission { call: 2, ..right };
    assert_eq!(api.created(wish(&["A-2"], &token(&next).unwrap())).await, next.reservation_id());
}

#[tokio::test]
async fn the_same_rules_hold_by_rpc() {
    let rpc = Rpc::open_on(asking(Stack::start().await.unwrap())).await;
    open_line(&rpc.stack.aws, SHOW, 100).await.unwrap();
    let right = of_usr_1();
    let good = token(&right).unwrap();
    let wish = |key: &str, seats: &[&str], token: &str| json!({"eventId": SHOW, "seatIds": seats, "idempotencyKey": key, "reservationToken": token});
    let create = "CreateReservation";
    rpc.is_refused(create, wish("k1", &["A-1"], ""), "permission_denied", "need a turn in its waiting room").await;
    rpc.is_refused(create, wish("k1", &["A-1"], "t"), "permission_denied", "the reservation token was not given out")
        .await;
    let few = token(&Admission { most_tickets: 1, ..right.clone() }).unwrap();
    rpc.is_refused(create, wish("k1", &["A-1", "A-2"], &few), "invalid_argument", "1 tickets at most").await;
    let made = rpc.call(create, wish("k1", &["A-1"], &good)).await.unwrap();
    assert_eq!(made["reservationId"], json!(right.reservation_id()));
    let again = rpc.call(create, wish("k2", &["A-1"], &good)).await.unwrap();
    assert_eq!(again, made);
    rpc.is_refused(create, wish("k1", &["A-2"], &good), "already_exists", "has been used").await;
    let shown = rpc.call("GetReservation", json!({"reservationId": right.reservation_id()})).await.unwrap();
    assert_eq!(shown["reservation"]["queueItemId"], json!(right.queue_item_id), "{shown}");
    for _ in 0..4 {
        rpc.stack.aws.fail_next(GET, Injected::Answer { status: 500, kind: "E".to_owned(), message: "m".to_owned() });
    }
    let other = json!({"eventId": "evt_other", "quantity": 1, "idempotencyKey": "k9"});
    rpc.is_refused(create, other, "unavailable", "the waiting room has not said").await;
}

#[tokio::test]
async fn each_of_the_five_events_names_the_place_of_its_reservation() {
    let mut world = Relayed::start_on(Api::start_on(asking(Stack::start().await.unwrap()), 1)).await;
    let api = &world.api;
    let path = |right: &Admission| format!("/internal/reservations/{}", right.reservation_id());
    let rights: Vec<Admission> = (1..=4).map(|call| Admission { call, ..of_usr_1() }).collect();
    for (right, seat) in rights.iter().zip(["A-1", "A-2", "A-3", "A-1"]) {
        let answer = api.answer(wish(&[seat], &token(right).unwrap())).await;
        assert_eq!(answer.status == 201, right.call < 4, "{answer:#?}");
    }
    let settle = |right: &Admission, fields: Value| ask("PATCH", &path(right)).signed().body(fields);
    let paid = json!({"status": "CONFIRMED", "payment_intent_id": "pi_1"});
    assert_eq!(api.answer(settle(&rights[0], paid)).await.status, 200);
    api.cancel(&rights[1].reservation_id()).await;
    api.stack.aws.age_reservation(RESERVATIONS, &rights[2].reservation_id(), Duration::from_secs(61)).await.unwrap();
    assert_eq!(api.answer(settle(&rights[2], json!({"status": "EXPIRED"}))).await.status, 200);
    world.stream.drain().await.unwrap();
    let mut told: Vec<(String, Value)> = Vec::new();
    for entry in world.stack.aws.bus_entries() {
        assert_eq!(entry.detail["queue_item_id"], json!(of_usr_1().queue_item_id), "{entry:#?}");
        told.push((entry.detail_type.clone(), entry.detail["reservation_id"].clone()));
    }
    for (kind, right) in [("created", 0), ("confirmed", 0), ("cancelled", 1), ("expired", 2), ("failed", 3)] {
        let told_of = (format!("reservation.{kind}"), json!(rights[right].reservation_id()));
        assert!(told.contains(&told_of), "{told_of:?} is missing in {told:#?}");
    }
}

#[tokio::test]
async fn a_door_without_keys_or_without_its_table_does_not_start() {
    let stack = Stack::start().await.unwrap();
    let says = async |environment: &[(&str, &str)]| {
        let mut variables = stack.environment(reservation_api::NAME);
        variables.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let binary = binaries()[reservation_api::NAME].clone();
        let function = stack.deploy_with(reservation_api::NAME, binary, 1, variables).unwrap();
        match function.invoke("{}").await.result {
            Err(FunctionError::Init(text)) => text,
            other => panic!("it must not start: {other:?}"),
        }
    };
    let without = says(&VARIABLES[..1]).await;
    assert!(without.contains("SECRET_NAME must hold admission_key"), "{without}");
    stack.aws.put_secret(SECRET, &json!({"admission_key": "hunter2"}).to_string());
    let short = says(&VARIABLES).await;
    assert!(
        short.contains("admission_key, which must have at least 32 bytes") && !short.contains("hunter2"),
        "{short}"
    );
    stack.aws.put_secret(SECRET, &admission::secret(KEY, None));
    let absent = says(&[("WAITING_ROOM_TABLE", "no-such-table"), VARIABLES[1], VARIABLES[2]]).await;
    assert!(absent.contains("WAITING_ROOM_TABLE names a table that is not there"), "{absent}");
    let other_key = says(&[("WAITING_ROOM_TABLE", RESERVATIONS), VARIABLES[1], VARIABLES[2]]).await;
    assert!(other_key.contains("the partition key pk (S) and the sort key sk (S)"), "{other_key}");
    let kind = "AccessDeniedException".to_owned();
    let message = "not authorized to perform: dynamodb:GetItem".to_owned();
    stack.aws.fail_next(GET, Injected::Answer { status: 400, kind, message });
    let denied = says(&VARIABLES).await;
    assert!(denied.contains("that this function may not read") && denied.contains("dynamodb:GetItem"), "{denied}");
}

#[tokio::test]
async fn no_token_and_no_key_is_written_anywhere() {
    let api = door().await;
    let token = token(&of_usr_1()).unwrap();
    let mut answers: Vec<Answer> = vec![api.answer(wish(&["A-1"], &token)).await];
    for _ in 0..2 {
        api.stack.inventory.answer_next(&of_usr_1().reservation_id(), local_stack::inventory::Scripted::Hang);
    }
    answers.push(api.answer(wish(&["A-2"], &token)).await);
    answers.push(api.answer(wish(&["A-1"], &forged(&token, None, |_, _| {}))).await);
    let written = format!("{answers:?} {:?} {:?}", api.logs(), api.stack.aws.requests());
    let signature = token.rsplit('.').next().unwrap();
    for secret in [signature, KEY, FORMER_KEY] {
        assert!(!written.contains(secret), "{secret} shows");
    }
}
