use super::*;

const EXPIRE: &str = r#"{"status":"EXPIRED"}"#;
const CANCEL: &str = r#"{"status":"CANCELLED"}"#;
const CONFIRM: &str = r#"{"status":"CONFIRMED","payment_intent_id":"pi-1"}"#;
const CONFIRM_OTHER: &str = r#"{"status":"CONFIRMED","payment_intent_id":"pi-2"}"#;

fn with(id: &str, status: Status) -> Reservations {
    let reservations = Reservations::default();
    reservations.put(Reservation {
        reservation_id: id.into(),
        event_id: "e".into(),
        user_id: "u".into(),
        status,
        seat_ids: vec!["A1".into()],
        quantity: 1,
        payment_intent_id: None,
    });
    reservations
}

fn call(method: Method, id: &str, key: Option<&str>, body: &str) -> Call {
    Call {
        method,
        target: format!("{PATH}{id}"),
        reservation_id: Some(id.into()),
        authorization: None,
        if_none_match: None,
        idempotency_key: key.map(str::to_owned),
        traceparent: Some("00-0af7-b7ad-01".into()),
        baggage: None,
        body: body.into(),
        answered: None,
    }
}

fn patch(reservations: &Reservations, key: &str, body: &str) -> (u16, Value) {
    let reply = reservations.lock().decide(&call(Method::PATCH, "r", Some(key), body));
    (reply.status.as_u16(), reply.body)
}

async fn start(reservations: &Reservations) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(reservations.clone().serve(listener));
    base
}

#[test]
fn a_hold_moves_to_each_terminal_status_and_stays_there() {
    for (body, status) in [(EXPIRE, "EXPIRED"), (CANCEL, "CANCELLED"), (CONFIRM, "CONFIRMED")] {
        let reservations = with("r", Status::Hold);
        for key in ["k1", "k2"] {
            let (code, answer) = patch(&reservations, key, body);
            assert_eq!((code, answer["status"].as_str()), (200, Some(status)));
        }
        assert_eq!(reservations.transitions("r").len(), 1);
    }
}

#[test]
fn the_first_of_two_rivals_wins_and_the_other_learns_the_status() {
    let reservations = with("r", Status::Hold);
    patch(&reservations, "k1", CONFIRM);
    let (code, answer) = patch(&reservations, "k2", EXPIRE);
    assert_eq!((code, &answer["status"]), (409, &json!("CONFIRMED")));
    assert_eq!(answer["error"]["trace_id"], "0af7");
    assert_eq!(reservations.transitions("r"), [Status::Confirmed]);
}

#[test]
fn a_second_payment_is_answered_with_the_first_one() {
    let reservations = with("r", Status::Hold);
    patch(&reservations, "k1", CONFIRM);
    let (code, answer) = patch(&reservations, "k2", CONFIRM_OTHER);
    assert_eq!((code, &answer["payment_intent_id"]), (200, &json!("pi-1")));
}

#[test]
fn a_status_outside_the_workers_reach_is_a_conflict() {
    let reservations = with("r", Status::Pending);
    let (code, answer) = patch(&reservations, "k", EXPIRE);
    assert_eq!((code, &answer["status"]), (409, &json!("PENDING")));
    assert_eq!(reservations.transitions("r"), []);
}

#[test]
fn a_senseless_request_is_refused_by_what_is_wrong_with_it() {
    let reservations = with("r", Status::Hold);
    let cases = [
        ("not json", 400),
        ("{}", 400),
        (r#"{"status":"LOST"}"#, 400),
        (r#"{"status":"CONFIRMED"}"#, 400),
        (r#"{"status":"REFUNDED"}"#, 422),
        (r#"{"status":"HOLD"}"#, 422),
    ];
    for (body, code) in cases {
        assert_eq!(patch(&reservations, "k", body).0, code, "{body}");
    }
    let keyless = reservations.lock().decide(&call(Method::PATCH, "r", None, EXPIRE));
    assert_eq!(keyless.status, 400);
    assert_eq!(reservations.get("r").unwrap().status, Status::Hold);
}

#[test]
fn a_key_repeats_its_answer_and_serves_no_other_request() {
    let reservations = with("r", Status::Hold);
    let first = patch(&reservations, "k", CONFIRM);
    assert_eq!(patch(&reservations, "k", CONFIRM), first);
    assert_eq!(patch(&reservations, "k", EXPIRE).0, 422);
}

#[test]
fn a_refusal_is_judged_anew_under_the_same_key() {
    let reservations = Reservations::default();
    assert_eq!(patch(&reservations, "k", EXPIRE).0, 404);
    reservations.put(with("r", Status::Hold).get("r").unwrap());
    assert_eq!(patch(&reservations, "k", EXPIRE).0, 200);
}

#[test]
fn a_reservation_put_again_begins_anew() {
    let reservations = with("r", Status::Hold);
    let fresh = reservations.get("r").unwrap();
    patch(&reservations, "k", EXPIRE);
    reservations.put(fresh);
    assert_eq!(patch(&reservations, "k", EXPIRE).0, 200);
    assert_eq!(reservations.transitions("r"), [Status::Expired]);
}

#[test]
fn a_configured_token_is_demanded() {
    let reservations = with("r", Status::Hold);
    reservations.require_token("secret");
    for (authorization, code) in [(None, 401), (Some("Bearer wrong"), 401), (Some("Bearer secret"), 200)] {
        let call = Call { authorization: authorization.map(str::to_owned), ..call(Method::GET, "r", None, "") };
        assert_eq!(reservations.lock().decide(&call).status, code);
    }
}

#[tokio::test]
async fn an_id_is_decoded_once_and_its_raw_target_kept() {
    let reservations = with("a/b%20c", Status::Hold);
    let base = start(&reservations).await;
    let client = reqwest::Client::new();
    let answer = client.get(format!("{base}{PATH}a%2Fb%2520c")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["reservation_id"], "a/b%20c");
    assert!(answer.get("payment_intent_id").is_none() && answer["created_at"].is_string());
    assert_eq!(reservations.calls()[0].target, "/internal/reservations/a%2Fb%2520c");
    assert_eq!(client.get(format!("{base}{PATH}a/b")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn prepared_answers_come_first_and_in_order() {
    let reservations = with("r", Status::Hold);
    let headers = vec![("retry-after".to_owned(), "7".to_owned())];
    let busy = Scripted::Respond { status: 503, headers, body: "busy".into() };
    for answer in [busy, Scripted::CloseConnection, Scripted::HangAfterEffect] {
        reservations.answer_next("r", Method::PATCH, answer);
    }
    let target = format!("{}{PATH}r", start(&reservations).await);
    let client = reqwest::Client::new();
    let send = || client.patch(&target).header("idempotency-key", "k").body(EXPIRE).send();
    let busy = send().await.unwrap();
    assert_eq!((busy.status().as_u16(), busy.headers()["retry-after"].to_str().unwrap()), (503, "7"));
    assert!(send().await.is_err());
    assert_eq!(reservations.get("r").unwrap().status, Status::Hold);
    tokio::time::timeout(Duration::from_secs(1), send()).await.unwrap_err();
    assert_eq!(reservations.get("r").unwrap().status, Status::Expired);
    assert_eq!(send().await.unwrap().status(), 200);
    let answered: Vec<_> = reservations.calls().iter().map(|call| call.answered).collect();
    assert_eq!(answered, [Some(503), None, None, Some(200)]);
}
