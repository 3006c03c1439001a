//! The waiting room by RPC, through the local gateway: joining, the place, being let in and leaving, by Connect in JSON and in
//! binary, gRPC-Web and native gRPC; who may ask for what; and the lines for their operators.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use local_stack::{
    admission,
    aws::Injected,
    build::workspace,
    gateway::{Gateway, Issuer, NativeGrpc, Target},
    lambda::Function,
    queue,
    ring::{Ring, on_path},
    sale,
    stack::WAITING_ROOM_KEYS,
    template::{SCOPE, Template},
};
use prost::Message;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use shared::{
    deadline::moment,
    reservation::Status,
    waiting_room::{
        draw::Draw,
        id::PlaceKeys,
        line::{Line, Scope, Settings},
        message::{JoinMessage, TickMessage},
        place::{Change, Entry, State},
        plan::Move,
        table::{Spot, Written},
    },
};
use tokio::{process::Command, time::sleep};
use tonic::{Code, transport::Endpoint};
use tonic_prost::ProstCodec;
use url::Url;

use crate::{
    harness::{binaries, log_lines},
    reflection::services_at,
    reservation_api::{Answer, Ask, answer_of, ask},
    waiting_room::{JOINED, MINUTE, Room, SHOW, TICKED, ended, now, settings},
};

const SERVICE: &str = "booking_worker.v1.BookingWorkerService";
const GET: &str = "DynamoDB_20120810.GetItem";
const TRANSACT: &str = "DynamoDB_20120810.TransactWriteItems";
const SEND: &str = "AmazonSQS.SendMessageBatch";

/// A waiting room and the reservation API behind one gateway.
pub(crate) struct Door {
    pub(crate) room: Room,
    function: Function,
    pub(crate) gateway: Gateway,
    issuer: Issuer,
    http: Client,
}

impl Door {
    /// The door to a line of so many tickets, which is open.
    async fn of(tickets: u32) -> Self {
        Self::to(Room::of(tickets).await, &[]).await
    }

    /// The door to a room, whose function has these variables too.
    async fn to(room: Room, changes: &[(&str, &str)]) -> Self {
        let issuer = Issuer::start_on(0).await.unwrap();
        admission::prepare(&room.stack.aws);
        room.stack.inventory.stock(SHOW, &["A-1", "A-2", "A-3"].map(str::to_owned), 10);
        let deploy = |name: &str, changes: &[(&str, &str)]| {
            let mut environment = room.stack.environment(name);
            environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            room.stack.deploy_with(name, binaries()[name].clone(), 2, environment).unwrap()
        };
        let function = deploy(waiting_room::NAME, changes);
        let api = deploy(reservation_api::NAME, &admission::VARIABLES);
        let rpc = deploy(reservation_rpc::NAME, &admission::VARIABLES);
        let targets =
            [(waiting_room::NAME, function.clone()), (reservation_api::NAME, api), (reservation_rpc::NAME, rpc)];
        let targets: BTreeMap<_, _> =
            targets.into_iter().map(|(name, function)| (name.to_owned(), Target::Function(function))).collect();
        let options = sale::options(&Template::read().unwrap(), &issuer, targets, 0).unwrap();
        let gateway = Gateway::start(options).await.unwrap();
        let door = Self { room, function, gateway, issuer, http: Client::builder().no_proxy().build().unwrap() };
        // Its start looks at the table, and what is counted or fails on demand is then not that look.
        assert_eq!(door.http.get(door.get_url("Health", &json!({}))).send().await.unwrap().status(), 200);
        door.room.stack.aws.clear_requests();
        door
    }

    fn url(&self, method: &str) -> String {
        format!("{}/{SERVICE}/{method}", self.gateway.url())
    }

    /// Where a call without effects is made by GET.
    fn get_url(&self, method: &str, message: &Value) -> Url {
        let query = [("connect", "v1"), ("encoding", "json"), ("message", &message.to_string())];
        Url::parse_with_params(&self.url(method), query).unwrap()
    }

    fn token(&self, user_id: &str) -> String {
        self.issuer.token(user_id, SCOPE, Duration::from_secs(300)).unwrap()
    }

    fn ask(&self, user_id: &str, method: &str) -> RequestBuilder {
        self.http.post(self.url(method)).bearer_auth(self.token(user_id))
    }

    /// Calls by Connect in JSON; an answer, or the code and the message of a fault.
    async fn call(&self, user_id: &str, method: &str, request: Value) -> Result<Value, (String, String)> {
        read(self.ask(user_id, method).json(&request).send().await.unwrap()).await
    }

    /// Calls, and asserts that the fault has this code and says this.
    async fn is_refused(&self, user_id: &str, method: &str, request: Value, code: &str, text: &str) {
        let fault = self.call(user_id, method, request.clone()).await.expect_err("it is refused");
        assert_eq!(fault.0, code, "{method} {request:.200}: {}", fault.1);
        assert!(fault.1.contains(text), "{method} {request:.200}: {}", fault.1);
    }

    async fn enqueue(&self, user_id: &str, seats: i32) -> Value {
        let request = json!({"eventId": SHOW, "seatCount": seats});
        self.call(user_id, "EnqueueBooking", request).await.unwrap()
    }

    /// The place of somebody, by the name that it has.
    async fn place(&self, user_id: &str) -> Value {
        let id = self.room.id(user_id).to_string();
        self.call(user_id, "GetQueuePosition", json!({"queueItemId": id})).await.unwrap()
    }

    async fn cancel(&self, user_id: &str) -> Result<Value, (String, String)> {
        let id = self.room.id(user_id).to_string();
        self.call(user_id, "CancelQueueItem", json!({"queueItemId": id, "reason": "changed my mind"})).await
    }

    /// Status and detail of somebody's place.
    async fn stands(&self, user_id: &str) -> (String, String) {
        let place = self.place(user_id).await;
        (place["status"].as_str().unwrap().to_owned(), place["detail"].as_str().unwrap().to_owned())
    }

    /// A request of an operator, as API Gateway hands it over.
    async fn operate(&self, ask: Ask) -> Answer {
        answer_of(&self.function, &ask).await
    }

    async fn put_line(&self, body: &Value) -> Answer {
        self.operate(ask("PUT", &format!("/internal/lines/{SHOW}")).signed().body(body.clone())).await
    }

    /// A reservation by a turn, by REST.
    async fn reserve(&self, user_id: &str, place: &Value) -> Response {
        self.reserve_for(SHOW, user_id, place).await
    }

    async fn reserve_for(&self, show_id: &str, user_id: &str, place: &Value) -> Response {
        let wish = json!({"eventId": show_id, "quantity": 1, "reservationToken": place["admissionToken"]});
        let url = format!("{}/v1/reservations", self.gateway.url());
        let request = self.http.post(url).bearer_auth(self.token(user_id)).header("idempotency-key", user_id);
        request.json(&wish).send().await.unwrap()
    }
}

async fn read(answer: Response) -> Result<Value, (String, String)> {
    assert!(answer.headers().contains_key("x-trace-id"), "{answer:?}");
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    if status.is_success() {
        assert!(body["success"].as_bool().unwrap_or(true), "{body}");
        return Ok(body);
    }
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned();
    Err((text("code"), text("message")))
}

fn of(status: &str, detail: &str) -> (String, String) {
    (status.to_owned(), detail.to_owned())
}

#[tokio::test]
async fn somebody_joins_is_placed_let_in_and_buys() {
    let door = Door::of(1).await;
    let joined = door.enqueue("usr_1", 1).await;
    let id = door.room.id("usr_1").to_string();
    assert_eq!((&joined["queueItemId"], &joined["status"]), (&json!(id), &json!("waiting")));
    assert_eq!(joined.get("queuePosition"), None, "he has none yet");
    assert_eq!(door.enqueue("usr_1", 3).await["queueItemId"], id, "a repeat has the same place");
    assert_eq!(door.stands("usr_1").await, of("waiting", "joining"));
    door.cancel("usr_1").await.expect_err("it is not known yet where he stands");

    let outcomes = door.room.deliver(JOINED).await;
    assert_eq!(outcomes, [ended("success"), ended("duplicate")]);
    assert_eq!(door.stands("usr_1").await, of("waiting", "joining"));
    // People are held back for two seconds after their arrival.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    door.room.tick().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let admitted = door.place("usr_1").await;
    assert_eq!((&admitted["status"], &admitted["detail"]), (&json!("processing"), &json!("admitted")), "{admitted}");
    assert_eq!((&admitted["position"], &admitted["seatsAllowed"]), (&json!(1), &json!(1)), "the first wish counts");
    assert_eq!(door.room.places().await, "A1");
    let token = admitted["admissionToken"].as_str().unwrap();
    let again = door.place("usr_1").await;
    assert_eq!((&again["admissionToken"], &again["admittedUntil"]), (&json!(token), &admitted["admittedUntil"]));

    let made = door.reserve("usr_1", &admitted).await;
    assert_eq!(made.status(), 201);
    assert_eq!(made.json::<Value>().await.unwrap()["reservationId"], admitted["reservationId"]);
    let turn = door.room.turn(1).await;
    assert_eq!(door.room.told_of(turn, "reservation.created").await, ended("success"));
    assert_eq!(door.stands("usr_1").await, of("processing", "holding"));
    door.room.reserve(turn, Status::Confirmed, true, now()).await;
    assert_eq!(door.room.told_of(turn, "reservation.confirmed").await, ended("success"));
    let sold = door.place("usr_1").await;
    assert_eq!((&sold["status"], &sold["reservationId"]), (&json!("completed"), &admitted["reservationId"]));
    assert_eq!(sold.get("pollAfterMs"), None, "nothing changes any more");
    assert_eq!(sold.get("admissionToken"), None);
}

#[tokio::test]
async fn a_claim_that_is_repeated_counts_once_and_is_answered_the_same() {
    let door = Door::of(2).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1), ("usr_3", 1)]).await;
    let id = door.room.id("usr_1").to_string();
    let right = async || {
        let place = door.place("usr_1").await;
        ["admissionToken", "admittedUntil", "reservationId"].map(|name| place[name].as_str().unwrap().to_owned())
    };
    let (first, at_once, third) = tokio::join!(right(), right(), right());
    door.room.tick().await;
    let later = right().await;
    assert!(
        [&at_once, &third, &later].into_iter().all(|again| *again == first),
        "{first:?} {at_once:?} {third:?} {later:?}"
    );
    let line = door.room.line().await;
    assert_eq!((door.room.places().await.as_str(), line.taken, line.inside, line.serving), ("A1 C1", 2, 2, 2));
    let lines = log_lines(&door.function.all_logs());
    let let_in = lines.iter().filter(|line| line["audit"] == true && line["place_id"] == id && line["to"] == "A");
    assert_eq!(let_in.count(), 1, "{lines:#?}");
}

#[tokio::test]
async fn a_ticket_of_one_line_calls_nobody_of_another_and_neither_does_its_token_buy_there() {
    const OTHER: &str = "evt_2";

    let door = Door::of(1).await;
    let (room, scope) = (&door.room, Scope { show_id: OTHER.to_owned(), ..door.room.scope.clone() });
    room.stack.inventory.stock(OTHER, &[], 10);
    assert_eq!(room.table.open(&Line::open(scope.clone(), settings(1)).unwrap()).await.unwrap(), Written::Made);
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    for (user_id, arrival) in [("usr_3", now() - MINUTE), ("usr_4", now() - MINUTE + 1)] {
        let (scope, user_id) = (scope.clone(), user_id.to_owned());
        let join = JoinMessage { scope, user_id, seats: 1, arrival, request: None };
        room.queues[JOINED].send(queue::Message::new(join.body())).unwrap();
    }
    room.deliver(JOINED).await;
    let tick_both = async || {
        for show_id in [SHOW, OTHER] {
            let body = TickMessage { show_id: show_id.to_owned() }.body();
            room.queues[TICKED].send(queue::Message::new(body)).unwrap();
            assert_eq!(room.deliver(TICKED).await, [ended("success")], "{show_id}");
        }
        let line = room.table.line(OTHER).await.unwrap().unwrap();
        let pages = room.table.pages(&line, 0).await.unwrap();
        let others: Vec<State> = pages.entries.values().map(|entry| entry.state).collect();
        (room.places().await, others)
    };
    assert_eq!(tick_both().await, ("C1".to_owned(), vec![State::Called]), "each has one ticket");

    // A ticket of the other line comes back, and three more are given to it.
    let first = room.table.entry(&scope, 1).await.unwrap().unwrap();
    let over = Entry { state: State::Ended, deadline: now() - 1, ..first };
    room.table.replace(&scope, 1, first, over).await.unwrap();
    assert_eq!(tick_both().await, ("C1".to_owned(), vec![State::Ended, State::Called]));
    let line = room.table.line(OTHER).await.unwrap().unwrap();
    room.table.set(&line.set(settings(4), now()).unwrap()).await.unwrap();
    assert_eq!(tick_both().await, ("C1".to_owned(), vec![State::Ended, State::Called]), "usr_2 waits for his own");

    let keys = PlaceKeys::read(WAITING_ROOM_KEYS).unwrap();
    let id = keys.id(&scope, "usr_4").unwrap().to_string();
    let place = door.call("usr_4", "GetQueuePosition", json!({"queueItemId": id})).await.unwrap();
    assert_eq!(place["detail"], "admitted", "{place}");
    let refused = door.reserve("usr_4", &place).await;
    assert_eq!(refused.status(), 403, "his token is for {OTHER}, and he wants {SHOW}");
    assert_eq!(door.reserve_for(OTHER, "usr_4", &place).await.status(), 201);
}

#[tokio::test]
async fn nobody_is_told_that_it_is_his_turn_in_a_line_that_is_closed() {
    let door = Door::of(3).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1), ("usr_3", 1), ("usr_4", 1)]).await;
    let admitted = door.place("usr_1").await;
    assert_eq!(admitted["detail"], "admitted");
    door.room.run_out(3).await;
    door.room.tick().await;
    assert_eq!(door.room.places().await, "A1 C1 P1 C1");

    // It is closed while it is paused, so that no call has run out.
    door.room.set(|settings| (settings.paused, settings.closes_at) = (true, now())).await;
    sleep(Duration::from_millis(1_100)).await; // So long the function believes what it knows of the line.
    let status = door.call("usr_1", "GetQueueStatus", json!({"eventId": SHOW})).await.unwrap();
    assert_eq!(status["state"], "closed");
    for user_id in ["usr_2", "usr_3", "usr_4"] {
        let place = door.place(user_id).await;
        assert_eq!((&place["status"], &place["detail"]), (&json!("expired"), &json!("closed")), "{place}");
        assert_eq!((&place["message"], place.get("admissionToken")), (&json!("the sale is over"), None), "{place}");
        assert_eq!(place.get("pollAfterMs"), None, "nothing changes any more");
        assert_eq!(door.enqueue(user_id, 1).await["status"], "expired", "{user_id}: joining says the same");
    }
    assert!(door.room.table.returned(&door.room.scope).await.unwrap().is_empty(), "nobody is called again");
    assert_eq!(door.place("usr_1").await["admissionToken"], admitted["admissionToken"], "who is in may finish");
    assert_eq!(door.reserve("usr_1", &admitted).await.status(), 201);
    for position in [2, 4] {
        door.room.run_out(position).await;
    }
    door.room.tick().await;
    assert_eq!(door.room.places().await, "A1 P1 P1 P1", "and the line can come to its end");
}

#[tokio::test]
async fn who_waits_is_told_how_many_stand_before_him_and_when_to_ask_again() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1), ("usr_3", 1)]).await;
    let place = door.place("usr_3").await;
    assert_eq!((&place["status"], &place["detail"]), (&json!("waiting"), &json!("waiting")));
    assert_eq!((&place["position"], &place["peopleAhead"], &place["queueLength"]), (&json!(3), &json!(1), &json!(2)));
    let ask_after = place["pollAfterMs"].as_u64().unwrap();
    assert!((2_000..=2_600).contains(&ask_after), "{place}");
    assert!(place["message"].as_str().unwrap().contains("fewer tickets than people before you"), "{place}");
    assert_eq!(place.get("admissionToken"), None);
    let second = door.place("usr_2").await;
    assert_eq!(second.get("peopleAhead"), None, "nobody whose turn has not come");
    door.room.set(|settings| settings.paused = true).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(door.stands("usr_3").await, of("waiting", "paused"));
    door.room.set(|settings| settings.closes_at = now()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(door.stands("usr_3").await, of("expired", "closed"));
}

#[tokio::test]
async fn each_mistake_has_its_code_and_nothing_is_sent() {
    let door = Door::of(10).await;
    let wish = |fields: Value| {
        let mut wish = json!({"eventId": SHOW, "seatCount": 1});
        wish.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        wish
    };
    let long = "x".repeat(100_000);
    for (fields, code, says) in [
        (json!({"seatCount": 0}), "invalid_argument", "seat_count"),
        (json!({"seatCount": -1}), "invalid_argument", "seat_count"),
        (json!({"seatCount": 10_000}), "invalid_argument", "seat_count"),
        (json!({"seatCount": 5}), "invalid_argument", "at most 4"),
        (json!({"seatCount": 0, "seatNumbers": ["A-1"]}), "invalid_argument", "seat_count"),
        (json!({"eventId": ""}), "invalid_argument", "event_id"),
        (json!({"eventId": "a b"}), "invalid_argument", "event_id"),
        (json!({"eventId": long}), "invalid_argument", "event_id"),
        (json!({"metadata": {"note": long}}), "invalid_argument", "metadata"),
        (json!({"metadata": {"note": "x".repeat(509)}}), "invalid_argument", "metadata"),
        (json!({"seatNumbers": vec!["A-1"; 200]}), "invalid_argument", "seat_numbers"),
        (json!({"currency": "x".repeat(701)}), "invalid_argument", "currency"),
        (json!({"userId": "usr_2"}), "permission_denied", "user_id"),
        (json!({"eventId": "evt_none"}), "not_found", "no line"),
    ] {
        door.is_refused("usr_1", "EnqueueBooking", wish(fields), code, says).await;
    }
    let all = json!({"eventId": "", "seatCount": -1, "metadata": {"note": long}});
    let fault = door.call("usr_1", "EnqueueBooking", all).await.unwrap_err().1;
    assert!(["event_id", "seat_count", "metadata"].iter().all(|name| fault.contains(name)), "{fault}");
    for made_up in ["", "q", "q1", "rsv_1", &"q1".repeat(5_000), "q1aaaaaaaaaaaaaaaaaaaaaaaaaa", "../x"] {
        for method in ["GetQueuePosition", "CancelQueueItem"] {
            door.is_refused("usr_1", method, json!({"queueItemId": made_up}), "not_found", "no such place").await;
        }
    }
    door.is_refused("usr_1", "GetQueueStatus", json!({}), "invalid_argument", "event_id").await;
    door.is_refused("usr_1", "GetQueueStatus", json!({"eventId": "evt_none"}), "not_found", "no line").await;
    for (method, kind, body) in [
        ("EnqueueBooking", "application/json", b"{".to_vec()),
        ("EnqueueBooking", "application/json", b"[]".to_vec()),
        ("EnqueueBooking", "application/json", br#"{"seatCount": 1.5}"#.to_vec()),
        ("EnqueueBooking", "application/json", br#"{"seatCount": 99999999999}"#.to_vec()),
        ("EnqueueBooking", "application/json", "[".repeat(20_000).into_bytes()),
        ("EnqueueBooking", "application/json", vec![b' '; 300_000]),
        ("EnqueueBooking", "application/proto", vec![0xff; 9]),
        ("EnqueueBooking", "application/grpc-web+proto", vec![0xff; 9]),
        ("EnqueueBooking", "text/plain", b"a".to_vec()),
        ("EnqueueBooking", "application/grpc", b"a".to_vec()),
        ("NoSuchCall", "application/json", b"{}".to_vec()),
    ] {
        let answer = door.ask("usr_1", method).header("content-type", kind).body(body.clone()).send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(status < 500 || status == 501, "{method} {kind:?} {:.20?}: {status}", body);
    }
    assert!(door.room.queues[JOINED].is_empty(), "what is wrong is not sent");
    let carried = json!({
        "seatNumbers": ["A-1"], "totalAmount": 12.5, "currency": "EUR", "metadata": {"note": "by the aisle"}, "userId": "usr_1",
    });
    door.call("usr_1", "EnqueueBooking", wish(carried)).await.unwrap();
    door.room.deliver(JOINED).await;
    let item = door.room.table.item(door.room.id("usr_1")).await.unwrap().unwrap();
    let request: Value = serde_json::from_str(&item.request.unwrap()).unwrap();
    assert_eq!(request["metadata"]["note"], "by the aisle");
    assert_eq!((&request["seat_numbers"], &request["total_amount"]), (&json!(["A-1"]), &json!(12.5)));
}

#[tokio::test]
async fn a_place_is_its_customers_own() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1)]).await;
    let id = door.room.id("usr_1").to_string();
    for method in ["GetQueuePosition", "CancelQueueItem"] {
        let request = json!({"queueItemId": id});
        door.is_refused("usr_2", method, request.clone(), "permission_denied", "another customer's").await;
        let named = json!({"queueItemId": id, "userId": "usr_1"});
        door.is_refused("usr_2", method, named.clone(), "permission_denied", "user_id").await;
        let unsigned = door.http.post(door.url(method)).json(&named).send().await.unwrap();
        assert_eq!(unsigned.status(), 401, "{method} is not for everybody");
        assert_eq!(door.call("", method, request).await.unwrap_err().0, "unauthenticated", "{method}");
    }
    let unsigned = door.http.post(door.url("EnqueueBooking")).json(&json!({"eventId": SHOW, "seatCount": 1}));
    assert_eq!(unsigned.send().await.unwrap().status(), 401);
    assert_eq!(door.room.places().await, "C1", "nobody was let in, and nobody has left");
}

/// What an environment of the function has kept of a show says nothing of a line that is opened afterwards.
#[tokio::test]
async fn who_joins_a_line_that_was_opened_a_moment_ago_has_joined_it() {
    while_it_is_kept(async || {
        let door = Door::to(Room::open(&[]).await, &[]).await;
        let id = json!({"queueItemId": door.room.id("usr_1").to_string()});
        let kept_since = Instant::now();
        door.is_refused("usr_1", "GetQueueStatus", json!({"eventId": SHOW}), "not_found", "no line").await;
        door.is_refused("usr_1", "GetQueuePosition", id.clone(), "not_found", "no such place").await;
        door.room.line_with(settings(1)).await;
        sleep(Duration::from_millis(200)).await; // So often it looks anew at most.
        // He has joined through another environment, and is not in the table yet.
        let place = door.call("usr_1", "GetQueuePosition", id.clone()).await;
        let elapsed = kept_since.elapsed();
        assert_eq!(place.unwrap()["detail"], "joining");
        elapsed
    })
    .await;
    while_it_is_kept(async || {
        let door = Door::to(Room::open(&[]).await, &[]).await;
        let kept_since = Instant::now();
        door.is_refused("usr_1", "GetQueueStatus", json!({"eventId": SHOW}), "not_found", "no line").await;
        door.room.line_with(settings(1)).await;
        door.room.join("usr_1", 1, 1);
        door.room.deliver(JOINED).await;
        let id = json!({"queueItemId": door.room.id("usr_1").to_string()});
        let place = door.call("usr_1", "GetQueuePosition", id).await;
        let elapsed = kept_since.elapsed();
        assert_eq!(place.unwrap()["status"], "waiting");
        elapsed
    })
    .await;
}

/// Repeats it on a busy machine until what it is about took less than the second for which a line is kept.
async fn while_it_is_kept(once: impl AsyncFn() -> Duration) {
    for _ in 0..20 {
        if once().await < Duration::from_secs(1) {
            return;
        }
    }
    panic!("nothing was kept for as long as it took");
}

/// An environment that keeps the line from before he was placed does not know that he has a position.
#[tokio::test]
async fn who_was_let_in_a_moment_ago_does_not_leave_as_somebody_without_a_place() {
    while_it_is_kept(async || {
        let door = Door::of(1).await;
        let kept_since = Instant::now();
        door.call("usr_1", "GetQueueStatus", json!({"eventId": SHOW})).await.unwrap();
        door.room.seated(&[("usr_1", 1)]).await;
        let read = door.room.table.item(door.room.id("usr_1")).await.unwrap().unwrap();
        let called = door.room.entry(1).await;
        let to = called.after(Change::Claim { until: now() + MINUTE }).unwrap();
        let made = Move { position: 1, from: Some(called), to };
        // He is let in through another environment.
        assert_eq!(door.room.table.admit(&door.room.scope, made, &read, now()).await.unwrap(), Written::Made);
        let left = door.cancel("usr_1").await;
        let elapsed = kept_since.elapsed();
        left.unwrap();
        assert_eq!(door.room.entry(1).await.state, State::Leaving);
        let item = door.room.table.item(door.room.id("usr_1")).await.unwrap().unwrap();
        assert_eq!(item.ended_at, None, "what he may have made of his right is found out first");
        elapsed
    })
    .await;
}

#[tokio::test]
async fn the_place_in_an_earlier_line_is_none() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1)]).await;
    let id = door.room.id("usr_1").to_string();
    door.cancel("usr_1").await.unwrap();
    door.room.tick().await;
    door.room.set(|settings| settings.closes_at = now()).await;
    door.room.tick().await;
    let body = line_of(&settings(1), json!({"anew": true}));
    assert_eq!(door.put_line(&body).await.status, 201);
    tokio::time::sleep(Duration::from_secs(1)).await;
    door.is_refused("usr_1", "GetQueuePosition", json!({"queueItemId": id}), "not_found", "no such place").await;
    assert_ne!(door.enqueue("usr_1", 1).await["queueItemId"], id, "a new line has new places");
}

#[tokio::test]
async fn who_leaves_frees_what_he_had_once() {
    let door = Door::of(2).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1), ("usr_3", 1), ("usr_4", 1)]).await;
    assert_eq!(door.room.places().await, "C1 C1");
    for _ in 0..2 {
        door.cancel("usr_1").await.unwrap();
        assert_eq!(door.room.places().await, "X1 C1", "called");
        door.cancel("usr_4").await.unwrap();
    }
    assert_eq!(door.stands("usr_1").await, of("expired", "cancelled"));
    assert_eq!(door.stands("usr_4").await, of("expired", "cancelled"));
    assert_eq!(door.place("usr_2").await["detail"], "admitted");
    door.enqueue("usr_4", 1).await;
    assert_eq!(door.room.deliver(JOINED).await, [ended("success")]);
    door.cancel("usr_2").await.unwrap();
    door.cancel("usr_2").await.unwrap();
    let leaving = door.place("usr_2").await;
    assert_eq!((&leaving["status"], &leaving["detail"]), (&json!("processing"), &json!("leaving")));
    assert_eq!(leaving.get("admissionToken"), None);
    assert_eq!(door.room.table.item(door.room.id("usr_2")).await.unwrap().unwrap().ended_at, None);
    // A tick ends the reservation before it is made, and only then the place.
    door.room.tick().await;
    assert_eq!(door.room.places().await, "X1 X1 C1 X0", "who left while he waited is not called");
    assert_eq!(door.stands("usr_2").await, of("expired", "cancelled"));

    let logs = [door.function.all_logs(), door.room.functions[TICKED].all_logs()].concat();
    let of_who_left = log_lines(&logs).into_iter().filter(|line| line["result"] == "given_up");
    let counted = of_who_left.filter_map(|line| line["booking_worker_items_processed_total"].as_u64());
    assert_eq!(counted.sum::<u64>(), 3, "each is counted once");
}

#[tokio::test]
async fn who_has_a_reservation_cancels_that_and_who_has_tickets_has_them() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1)]).await;
    assert_eq!(door.place("usr_1").await["detail"], "admitted");
    for (change, says) in [
        (Change::Hold { until: now() + MINUTE, seats: 1 }, "cancel that"),
        (Change::Sell { seats: 1, at: now() }, "your tickets"),
    ] {
        let entry = door.room.entry(1).await;
        door.room.replace(1, entry.after(change).unwrap()).await;
        let fault = door.cancel("usr_1").await.unwrap_err();
        assert!(fault.0 == "failed_precondition" && fault.1.contains(says), "{fault:?}");
    }
}

#[tokio::test]
async fn nobody_is_let_in_who_has_left_and_nobody_leaves_unnoticed_who_was_let_in() {
    let door = Door::of(10).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1), ("usr_3", 1)]).await;
    let (table, scope) = (&door.room.table, &door.room.scope);
    let item = async |user_id: &str| table.item(door.room.id(user_id)).await.unwrap().unwrap();
    let claim = async |position: u64| {
        let from = door.room.entry(position).await;
        Move { position, from: Some(from), to: from.after(Change::Claim { until: now() + MINUTE }).unwrap() }
    };

    // He left in another window after this one had looked, while the place waited; it was called since.
    let (read, made) = (item("usr_1").await, claim(1).await);
    table.end(read.id, read.arrival, now()).await.unwrap();
    assert_eq!(table.admit(scope, made, &read, now()).await.unwrap(), Written::Overtaken);
    assert_eq!(door.room.entry(1).await.state, State::Called);
    assert_eq!(door.stands("usr_1").await, of("expired", "cancelled"));

    // He was let in by another window after this one had looked, and before it knew a position.
    let (read, made) = (item("usr_2").await, claim(2).await);
    assert_eq!(table.admit(scope, made, &read, now()).await.unwrap(), Written::Made);
    assert_eq!(table.leave(scope, None, None, &read, now()).await.unwrap(), Written::Overtaken);
    let waits = Spot { position: 2, entry: None };
    let fresh = item("usr_2").await;
    assert_eq!(table.leave(scope, Some(waits), None, &fresh, now()).await.unwrap(), Written::Overtaken);
    assert_eq!(item("usr_2").await.ended_at, None, "his reservation is still waited for");

    // Both at once, by calls.
    for _ in 0..10 {
        door.room.replace(3, Entry::called(1, now() + MINUTE)).await;
        let (place, left) = tokio::join!(door.place("usr_3"), door.cancel("usr_3"));
        left.unwrap();
        let (state, ended_at) = (door.room.entry(3).await.state, item("usr_3").await.ended_at);
        if place.get("admissionToken").is_some() {
            assert_eq!((state, ended_at), (State::Leaving, None), "what he may have made of it is found out");
            continue;
        }
        assert!(state == State::GivenUp && ended_at.is_some() || state == State::Leaving, "{state:?} {ended_at:?}");
        break;
    }
}

#[tokio::test]
async fn who_did_not_answer_comes_back_and_is_called_again() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    door.room.run_out(1).await;
    door.room.tick().await;
    assert_eq!(door.room.places().await, "P1 C1");
    assert_eq!(door.stands("usr_1").await, of("waiting", "passed"));
    door.cancel("usr_2").await.unwrap();
    door.room.tick().await;
    assert_eq!(door.room.places().await, "C1 X1");
    assert_eq!(door.stands("usr_1").await, of("processing", "admitted"));
}

#[tokio::test]
async fn that_somebody_came_back_is_written_once_for_each_call() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    for call in 1..=2 {
        door.room.run_out(1).await;
        door.room.tick().await;
        door.room.stack.aws.clear_requests();
        for _ in 0..5 {
            assert_eq!(door.stands("usr_1").await, of("waiting", "passed"), "call {call}");
        }
        let written = door.room.stack.aws.requests().into_iter().filter(|request| request.target == TRANSACT);
        assert_eq!(written.count(), 1, "call {call}");
        let ahead = door.room.entry(2).await;
        door.room.replace(2, Entry { state: State::Ended, deadline: now(), ..ahead }).await;
        door.room.tick().await;
        assert_eq!(door.room.entry(1).await.state, State::Called, "call {call}");
    }
}

#[tokio::test]
async fn a_question_of_who_waits_reads_one_record_and_the_line_once_a_second() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1), ("usr_3", 1)]).await;
    let line = door.room.line().await;
    let arrival = line.cut - 1;
    let late =
        JoinMessage { scope: line.scope, user_id: "usr_late".to_owned(), seats: 1, arrival, request: None }.body();
    door.room.queues[JOINED].send(queue::Message::new(late)).unwrap();
    assert_eq!(door.room.deliver(JOINED).await, [ended("success")]);
    door.room.tick().await;
    let people = ["usr_2", "usr_3", "usr_late"];
    for (position, user_id) in (2..).zip(people) {
        assert_eq!(door.place(user_id).await["position"], position, "{user_id}");
    }
    door.room.stack.aws.clear_requests();
    let started = Instant::now();
    for _ in 0..5 {
        for (position, user_id) in (2..).zip(people) {
            assert_eq!(door.place(user_id).await["position"], position, "{user_id}");
        }
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    let mut reads: BTreeMap<String, usize> = BTreeMap::new();
    for request in door.room.stack.aws.requests().into_iter().filter(|request| request.target.starts_with("DynamoDB")) {
        let key = request.body["Key"]["pk"]["S"].as_str().unwrap_or_default();
        let record = key.split('#').next().unwrap_or_default();
        *reads.entry(format!("{} {record}", request.operation())).or_default() += 1;
    }
    let lines = reads.remove("GetItem line").unwrap_or_default();
    assert!(lines <= seconds, "{lines} in {seconds} s");
    assert_eq!(reads, BTreeMap::from([("GetItem item".to_owned(), 15)]));
}

#[tokio::test]
async fn who_comes_back_when_all_is_sold_is_told_so() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    door.room.run_out(1).await;
    door.room.tick().await;
    let sold = Entry { state: State::Sold, ..door.room.entry(2).await };
    door.room.replace(2, sold).await;
    door.room.tick().await;
    assert_eq!(door.room.places().await, "P1 S1");
    sleep(Duration::from_millis(1_100)).await; // So long the function believes what it knows of the line.
    assert_eq!(door.stands("usr_1").await, of("waiting", "sold_out"));
}

#[tokio::test]
async fn whose_turn_is_over_stands_at_the_end_again_and_who_is_in_it_does_not() {
    let door = Door::of(2).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1), ("usr_3", 1)]).await;
    let again = async |user_id: &str| {
        let told = door.enqueue(user_id, 1).await;
        let waits = door.room.queues[JOINED].len();
        (told["status"].as_str().unwrap().to_owned(), waits)
    };
    assert_eq!(again("usr_1").await, ("processing".to_owned(), 0), "joining is no claim");
    assert_eq!(door.room.places().await, "C1 C1");
    assert_eq!(again("usr_3").await, ("waiting".to_owned(), 0));
    let position = door.enqueue("usr_3", 1).await["queuePosition"].clone();
    assert_eq!(position, 3);

    // The page says that it is over, and nothing says so of its customer: whoever was to write that has died.
    let entry = door.room.entry(1).await;
    for (state, passed) in [(State::Ended, 0), (State::GivenUp, 0), (State::Passed, 3)] {
        door.room.replace(1, Entry { state, passed, deadline: now(), ..entry }).await;
        assert_eq!(again("usr_1").await, ("waiting".to_owned(), 1), "{state:?}");
        assert_eq!(door.room.deliver(JOINED).await, [ended("success")], "{state:?}");
        let item = door.room.table.item(door.room.id("usr_1")).await.unwrap().unwrap();
        assert_eq!(item.ended_at, None);
        // Back to the place that he had.
        let first = door.room.table.standing(&door.room.line().await, &[1].into()).await.unwrap()[&1];
        back_to(&door, first.arrival).await;
    }
    for (state, status) in [(State::Sold, "completed"), (State::Holding, "processing"), (State::Leaving, "processing")]
    {
        door.room.replace(1, Entry { state, ..entry }).await;
        assert_eq!(again("usr_1").await, (status.to_owned(), 0), "{state:?}");
    }
}

/// Gives the record of `usr_1` another arrival.
async fn back_to(door: &Door, arrival: u64) {
    let id = door.room.id("usr_1").to_string();
    let key = json!({"pk": {"S": format!("item#{id}")}, "sk": {"S": "item"}});
    let update = json!({
        "TableName": local_stack::stack::WAITING_ROOM, "Key": key, "UpdateExpression": "SET arrival = :a",
        "ExpressionAttributeValues": {":a": {"N": arrival.to_string()}},
    });
    door.room.stack.aws.dynamodb("UpdateItem", &update).await.unwrap();
}

#[tokio::test]
async fn who_leaves_and_joins_at_once_stands_at_the_end() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    door.cancel("usr_2").await.unwrap();
    let joined = door.enqueue("usr_2", 1).await;
    assert_eq!((&joined["status"], joined.get("queuePosition")), (&json!("waiting"), None));
    assert_eq!(door.room.deliver(JOINED).await, [ended("success")]);
}

#[tokio::test]
async fn a_line_that_takes_nobody_says_why_and_keeps_who_stands_in_it() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    let door = Door::to(room, &[("QUEUE_MAX_SIZE", "1")]).await;
    let wish = json!({"eventId": SHOW, "seatCount": 1});
    door.is_refused("usr_9", "EnqueueBooking", wish.clone(), "resource_exhausted", "1 people wait").await;
    assert_eq!(door.enqueue("usr_2", 1).await["queuePosition"], 2);

    let line = door.room.line().await;
    let sold = Line { sold_out_at: Some(1), version: line.version + 1, ..line };
    assert_eq!(door.room.table.set(&sold).await.unwrap(), Written::Made);
    tokio::time::sleep(Duration::from_secs(1)).await;
    door.is_refused("usr_9", "EnqueueBooking", wish.clone(), "failed_precondition", "sold").await;
    assert_eq!(door.stands("usr_2").await, of("waiting", "sold_out"));
    door.room.set(|settings| settings.closes_at = now()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    door.is_refused("usr_9", "EnqueueBooking", wish, "failed_precondition", "over").await;
    assert_eq!(door.enqueue("usr_2", 1).await["queuePosition"], 2);
    assert!(door.room.queues[JOINED].is_empty());
}

#[tokio::test]
async fn what_can_t_be_known_is_unavailable_and_a_repeat_finds_it_out() {
    let door = Door::of(1).await;
    let twice = |target: &str| (0..2).for_each(|_| door.room.stack.aws.fail_next(target, Injected::Silence));
    let wish = json!({"eventId": SHOW, "seatCount": 1});
    twice(GET);
    door.is_refused("usr_1", "EnqueueBooking", wish.clone(), "unavailable", "the waiting room can't be asked now")
        .await;
    door.room.seated(&[("usr_1", 1)]).await;
    twice(SEND);
    let answer = door.ask("usr_2", "EnqueueBooking").json(&wish).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(door.room.queues[JOINED].is_empty());
    twice(TRANSACT);
    let id = door.room.id("usr_1").to_string();
    door.is_refused(
        "usr_1",
        "GetQueuePosition",
        json!({"queueItemId": id}),
        "unavailable",
        "the waiting room can't be asked now",
    )
    .await;
    assert_eq!(door.room.places().await, "C1");
    // The client asks twice, and the second is told of the first.
    door.room.stack.aws.fail_next(TRANSACT, Injected::LostAnswer);
    assert_eq!(door.stands("usr_1").await, of("processing", "admitted"));
    assert_eq!(door.room.places().await, "A1");
}

#[tokio::test]
async fn a_line_is_shown_to_everybody_and_read_once_a_second() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    door.room.stack.aws.clear_requests();
    let url = door.get_url("GetQueueStatus", &json!({"eventId": SHOW}));
    let (started, mut answers) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_millis(2_500) || answers < 20 {
        answers += 1;
        let answer = door.http.get(url.clone()).send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "public, max-age=1");
        let status = read(answer).await.unwrap();
        assert_eq!((&status["queueLength"], &status["serving"]), (&json!(1), &json!(1)), "{status}");
        assert_eq!((&status["activeWorkers"], &status["ticketsLeft"]), (&json!(1), &json!(1)));
        assert_eq!((&status["state"], &status["message"].is_string()), (&json!("all_taken"), &true));
        assert!(status["opensAt"].is_string() && status["pollAfterMs"].is_number(), "{status}");
    }
    let reads = door.room.stack.aws.requests().into_iter().filter(|request| request.target == GET).count();
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!(reads <= seconds, "one environment read the line {reads} times in {seconds} s, for {answers} answers");
    let asked = door.room.stack.aws.requests().into_iter().filter(|request| request.target.starts_with("DynamoDB"));
    assert_eq!(asked.count(), reads, "and it read nothing else");
    let posted = door.http.post(door.url("GetQueueStatus")).json(&json!({"eventId": SHOW})).send().await.unwrap();
    assert_eq!(read(posted).await.unwrap()["serving"], 1);
    let health = door.http.get(door.get_url("Health", &json!({}))).send().await.unwrap();
    assert_eq!(read(health).await.unwrap()["status"], "UP");
}

#[tokio::test]
async fn whoever_asks_lets_a_line_tick_that_nobody_has_worked_lately() {
    let door = Door::of(1).await;
    let ask = async || {
        let answer = door.http.post(door.url("GetQueueStatus")).json(&json!({"eventId": SHOW})).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    ask().await;
    let sent = door.room.queues[TICKED].messages();
    assert_eq!(sent.len(), 1, "a new line need not wait for the next minute");
    assert_eq!(sent[0].body, TickMessage { show_id: SHOW.to_owned() }.body());
    for _ in 0..3 {
        ask().await;
    }
    let ticks = door.room.queues[TICKED].len();
    assert!(ticks <= 2, "one from each environment: {ticks}");
    assert_eq!(door.room.deliver(TICKED).await[0], ended("success"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    ask().await;
    assert!(door.room.queues[TICKED].is_empty(), "it was worked a second ago");
}

#[tokio::test]
async fn that_somebody_was_heard_of_is_noted_now_and_then() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    let seen = async || door.room.table.item(door.room.id("usr_2")).await.unwrap().unwrap().seen;
    let first = seen().await;
    door.place("usr_2").await;
    assert_eq!(seen().await, first, "it is known from lately");
    let item = door.room.table.item(door.room.id("usr_2")).await.unwrap().unwrap();
    door.room.table.see(item.id, item.arrival, first - 5 * MINUTE).await.unwrap();
    door.place("usr_2").await;
    assert!(seen().await >= first);
}

#[tokio::test]
async fn who_takes_part_in_a_draw_has_no_position_before_it_and_can_compute_it_afterwards() {
    let room = Room::open(&[]).await;
    room.line_with(Settings { opens_at: now() + MINUTE, draws: true, ..settings(1) }).await;
    let door = Door::to(room, &[]).await;
    let people: Vec<String> = (1..=6).map(|number| format!("usr_{number}")).collect();
    for user_id in &people {
        let joined = door.enqueue(user_id, 1).await;
        assert!(joined["message"].as_str().unwrap().contains("draw"), "{joined}");
    }
    while !door.room.queues[JOINED].is_empty() {
        door.room.deliver(JOINED).await;
    }
    assert_eq!(door.stands("usr_1").await, of("waiting", "undrawn"));
    let status = door.call("usr_1", "GetQueueStatus", json!({"eventId": SHOW})).await.unwrap();
    assert_eq!((status.get("drawSeed"), status.get("drawSize")), (None, None), "{status}");

    door.room.set(|settings| settings.opens_at = now() + 1).await;
    // The draw waits until nobody can be on his way who came before the opening.
    while door.room.line().await.draw.is_none() {
        sleep(Duration::from_millis(500)).await;
        door.room.tick().await;
    }
    sleep(Duration::from_millis(1_100)).await; // So long the function believes what it knows of the line.
    let status = door.call("usr_1", "GetQueueStatus", json!({"eventId": SHOW})).await.unwrap();
    let draw = Draw { seed: status["drawSeed"].as_str().unwrap().to_owned(), size: 6 };
    assert_eq!(status["drawSize"], 6, "{status}");
    let mut positions = Vec::new();
    for user_id in &people {
        positions.push(door.place(user_id).await["position"].as_u64().unwrap());
    }
    // They reached the gateway in this order, so that their places are 1 to 6.
    assert_eq!(positions, (1..=6).map(|place| draw.turn_of(place)).collect::<Vec<_>>());
}

/// What an operator sends for a line of these settings.
fn line_of(settings: &Settings, more: Value) -> Value {
    let mut body = json!({
        "tickets": settings.tickets, "seats_max": settings.seats_max, "opens_at": moment(settings.opens_at),
        "closes_at": moment(settings.closes_at), "paused": settings.paused,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn an_operator_opens_a_line_sets_it_and_opens_it_anew_when_it_is_over() {
    let door = Door::to(Room::open(&[]).await, &[]).await;
    let show = || ask("GET", &format!("/internal/lines/{SHOW}")).signed();
    door.operate(show()).await.is_error(404, "LINE_NOT_FOUND");
    let opened = door.put_line(&line_of(&settings(5), json!({"max_inside": 2}))).await;
    assert_eq!((opened.status, &opened.body["settings"]["tickets"]), (201, &json!(5)), "{opened:#?}");
    assert_eq!((&opened.body["joined"], &opened.body["state"]), (&json!(0), &json!("open")));
    assert_eq!(door.room.table.open_shows().await.unwrap(), [SHOW]);

    let paused = door.put_line(&line_of(&settings(7), json!({"paused": true}))).await;
    assert_eq!((paused.status, &paused.body["state"]), (200, &json!("paused")), "{paused:#?}");
    assert_eq!(paused.body["settings"]["max_inside"], Value::Null, "it is set whole");
    assert_eq!(paused.body["generation"], opened.body["generation"]);
    let shown = door.operate(show()).await;
    assert_eq!((shown.status, &shown.body), (200, &paused.body));
    // What is shown can be sent back.
    let again = door.put_line(&shown.body["settings"]).await;
    assert_eq!((again.status, &again.body["settings"]), (200, &shown.body["settings"]));

    let anew = line_of(&settings(5), json!({"anew": true}));
    door.put_line(&anew).await.is_error(409, "LINE_NOT_OVER");
    let over = line_of(&Settings { closes_at: now() - 1, ..settings(5) }, json!({}));
    assert_eq!(door.put_line(&over).await.body["state"], "closed");
    let second = door.put_line(&anew).await;
    assert_eq!(second.status, 201, "{second:#?}");
    assert!(second.body["generation"].as_u64() > opened.body["generation"].as_u64());
    door.put_line(&anew).await.is_error(409, "LINE_NOT_OVER");
}

#[tokio::test]
async fn a_line_is_not_set_to_what_takes_a_right_away_nor_by_a_stranger() {
    let door = Door::of(2).await;
    door.room.seated(&[("usr_1", 2)]).await;
    assert_eq!(door.room.places().await, "C2");
    let good = settings(2);
    for (field, change) in [
        ("tickets", json!({"tickets": 1})),
        ("tickets", json!({"tickets": -1})),
        ("tickets", json!({"tickets": 1_000_001})),
        ("tickets", json!({"tickets": null})),
        ("seats_max", json!({"seats_max": 0})),
        ("seats_max", json!({"seats_max": 11})),
        ("max_inside", json!({"max_inside": 0})),
        ("opens_at", json!({"opens_at": "tomorrow"})),
        ("opens_at", json!({"opens_at": 1})),
        ("closes_at", json!({"closes_at": moment(good.opens_at)})),
        ("paused", json!({"paused": "yes"})),
        ("pause", json!({"pause": true})),
    ] {
        let answer = door.put_line(&line_of(&good, change.clone())).await;
        assert!(answer.is_error(400, "INVALID_REQUEST")[field].is_string(), "{change}: {answer:#?}");
    }
    for body in ["", "{", "[]"] {
        let put = ask("PUT", &format!("/internal/lines/{SHOW}")).signed().text(body);
        door.operate(put).await.is_error(400, "INVALID_REQUEST");
    }
    let put = |path: &str| ask("PUT", path).body(line_of(&good, json!({"paused": true})));
    door.operate(put(&format!("/internal/lines/{SHOW}"))).await.is_error(401, "AUTHENTICATION_FAILED");
    door.operate(put(&format!("/internal/lines/{SHOW}")).by("usr_1")).await.is_error(401, "AUTHENTICATION_FAILED");
    door.operate(ask("GET", &format!("/internal/lines/{SHOW}")).by("usr_1"))
        .await
        .is_error(401, "AUTHENTICATION_FAILED");
    door.operate(put("/internal/lines/a b").signed()).await.is_error(400, "INVALID_REQUEST");
    let unsigned = door.http.get(format!("{}/internal/lines/{SHOW}", door.gateway.url())).send().await.unwrap();
    assert_eq!(unsigned.status(), 403, "the gateway asks for a signature");
    for _ in 0..2 {
        door.room.stack.aws.fail_next(GET, Injected::Silence);
    }
    door.put_line(&line_of(&good, json!({}))).await.is_error(503, "SERVICE_UNAVAILABLE");
    let lines = log_lines(&door.function.all_logs());
    let cause = lines.iter().find(|line| line["msg"] == "a request about a line can't be served now");
    assert!(cause.unwrap()["error"].as_str().unwrap().starts_with("read the line of"), "for the log: {lines:#?}");
    assert!(!door.room.line().await.settings.paused);
}

/// Of the message in `proto/`, what these tests send.
#[derive(Clone, PartialEq, Message)]
struct EnqueueBookingRequest {
    #[prost(string, tag = "2")]
    event_id: String,
    #[prost(string, repeated, tag = "3")]
    seat_numbers: Vec<String>,
    #[prost(int32, tag = "4")]
    seat_count: i32,
    #[prost(double, tag = "5")]
    total_amount: f64,
    #[prost(string, tag = "6")]
    currency: String,
}

#[derive(Clone, PartialEq, Message)]
struct EnqueueBookingResponse {
    #[prost(bool, tag = "1")]
    success: bool,
    #[prost(string, tag = "2")]
    queue_item_id: String,
    #[prost(int32, tag = "3")]
    queue_position: i32,
    #[prost(string, tag = "5")]
    message: String,
    #[prost(string, tag = "6")]
    status: String,
    #[prost(int32, tag = "7")]
    poll_after_ms: i32,
}

#[derive(Clone, PartialEq, Message)]
struct GetQueuePositionRequest {
    #[prost(string, tag = "1")]
    queue_item_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct GetQueuePositionResponse {
    #[prost(bool, tag = "1")]
    success: bool,
    #[prost(int32, tag = "2")]
    position: i32,
    #[prost(string, tag = "5")]
    status: String,
    #[prost(int32, tag = "8")]
    poll_after_ms: i32,
    #[prost(string, tag = "9")]
    admission_token: String,
    #[prost(message, optional, tag = "10")]
    admitted_until: Option<prost_types::Timestamp>,
    #[prost(int32, tag = "11")]
    seats_allowed: i32,
    #[prost(string, tag = "12")]
    reservation_id: String,
    #[prost(string, tag = "13")]
    detail: String,
}

fn wish() -> EnqueueBookingRequest {
    EnqueueBookingRequest {
        event_id: SHOW.to_owned(),
        seat_numbers: vec!["A-1".to_owned()],
        seat_count: 1,
        total_amount: 12.5,
        currency: "EUR".to_owned(),
    }
}

#[tokio::test]
async fn connect_in_binary_and_grpc_web_have_the_contract_s_numbers() {
    let door = Door::of(1).await;
    let binary = door.ask("usr_1", "EnqueueBooking").header("content-type", "application/proto");
    let answer = binary.body(wish().encode_to_vec()).send().await.unwrap();
    let joined = EnqueueBookingResponse::decode(answer.bytes().await.unwrap()).unwrap();
    assert_eq!(joined.queue_item_id, door.room.id("usr_1").to_string());
    assert!(joined.success && joined.status == "waiting" && joined.poll_after_ms >= 3_000, "{joined:?}");
    assert_eq!(door.room.queues[JOINED].len(), 1);
    let query = GetQueuePositionRequest { queue_item_id: joined.queue_item_id }.encode_to_vec();
    let length = u32::try_from(query.len()).unwrap().to_be_bytes();
    let web = door.ask("usr_1", "GetQueuePosition").header("content-type", "application/grpc-web+proto");
    let answer = web.body([&[0], &length[..], &query].concat()).send().await.unwrap();
    let body = answer.bytes().await.unwrap();
    let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize;
    let place = GetQueuePositionResponse::decode(&body[5..5 + length]).unwrap();
    assert_eq!((place.status.as_str(), place.detail.as_str()), ("waiting", "joining"));
    assert!(String::from_utf8_lossy(&body[5 + length..]).contains("grpc-status"), "its trailers are in the body");
}

#[tokio::test]
async fn native_grpc_goes_through_the_gateway_and_tells_of_both_services() {
    let door = Door::of(1).await;
    door.room.seated(&[("usr_1", 1)]).await;
    let native = NativeGrpc::start_on(0, &door.gateway).await.unwrap();
    let services = services_at(&native.address().to_string()).await;
    assert!(services.contains(&SERVICE.to_owned()), "{services:?}");
    assert!(services.contains(&"reservation.v1.ReservationService".to_owned()), "{services:?}");
    let channel = Endpoint::from_shared(format!("http://{}", native.address())).unwrap().connect().await.unwrap();
    let position = async |user_id: Option<&str>| {
        let id = door.room.id("usr_1").to_string();
        let mut request = tonic::Request::new(GetQueuePositionRequest { queue_item_id: id });
        if let Some(user_id) = user_id {
            let token = format!("Bearer {}", door.token(user_id));
            request.metadata_mut().insert("authorization", token.parse().unwrap());
        }
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let path = format!("/{SERVICE}/GetQueuePosition").parse().unwrap();
        client.unary::<_, GetQueuePositionResponse, _>(request, path, ProstCodec::default()).await
    };
    let place = position(Some("usr_1")).await.unwrap().into_inner();
    assert_eq!((place.position, place.detail.as_str(), place.seats_allowed), (1, "admitted", 1));
    assert!(place.success && place.admitted_until.is_some() && !place.admission_token.is_empty(), "{place:?}");
    assert!(place.reservation_id.starts_with("rsv_q1"), "{place:?}");
    assert_eq!(position(Some("usr_2")).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(position(None).await.unwrap_err().code(), Code::Unauthenticated);
}

/// The program on the page is another's work than the code that draws, and both are held against each other.
#[tokio::test]
async fn the_program_that_the_page_prints_computes_the_same_draw() {
    if on_path("python3").is_none() {
        return Ring::Up.skip_or_fail("the printed program is for python3, which is missing");
    }
    let page = fs::read_to_string(workspace().join("functions/WAITING-ROOM.md")).unwrap();
    let program = page.split_once("```python\n").and_then(|(_, rest)| Some(rest.split_once("```")?.0)).unwrap();
    for size in [0, 1, 2, 7, 300] {
        let draw = Draw::among(size).unwrap();
        let asks = format!("print([position('{}', {size}, place) for place in range(1, {})])", draw.seed, size + 4);
        let output = Command::new("python3").args(["-c", &format!("{program}\n{asks}")]).output().await.unwrap();
        let said: Vec<u64> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(said, (1..size + 4).map(|place| draw.turn_of(place)).collect::<Vec<_>>());
    }
}
