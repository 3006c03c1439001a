//! A line as it is deployed: joins become places, the clock's ticks call them one after the other, and a place follows its
//! reservation, which is made at the deployed API. Each role suffices for what its function does. The first three come by one
//! batch of messages, so that their order is known; the last of them is let in at the door, and another joins there.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use local_stack::{
    admission::{KEY, token},
    gateway::{AUDIENCE, Issuer, sockets::Page},
    inventory::{Inventory, SeatState},
    ministack::MiniStack,
    realtime::Realtime,
    stack::WAITING_ROOM_KEYS,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{
    admission::Admission,
    deadline::epoch_ms,
    waiting_room::{
        Moment,
        id::PlaceKeys,
        line::{Line, Scope, Settings},
        message::JoinMessage,
        place::{Change, Entry, State, Turn},
        table::{Replaced, Table, Written},
    },
};
use tokio::net::TcpListener;

use crate::{
    STACK, alarms, attribute, body,
    bookings::secret,
    delete, log, messages, only_tables_are_left, queue_url,
    reservations::{Answer, Api, SCOPE, answer, is_error},
    resource, sam, subscribe, until,
};

const SHOW: &str = "evt_2026_1121";
const MINUTE: u64 = 60_000;

/// The people, in the order in which they reach the gateway.
const PEOPLE: [&str; 3] = ["usr_1", "usr_2", "usr_3"];

/// Who joins at the door when all others have been called.
const LATE: &str = "usr_4";

/// A line with a single ticket, and what stands around it.
struct Room {
    account: MiniStack,
    api: Api,
    table: Table,
    scope: Scope,
}

fn now() -> Moment {
    epoch_ms(SystemTime::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_called_one_after_the_other_and_places_follow_their_reservations() {
    if sam::built().is_none() {
        return;
    }
    let inventory = Inventory::default();
    inventory.stock(SHOW, &[], 1);
    inventory.price(SHOW, 3_800, "EUR");
    let realtime = Realtime::default();
    PEOPLE.iter().for_each(|user_id| realtime.connect(user_id, SHOW));
    let room = Room::deploy(&inventory, &realtime).await;
    let told = subscribe(&room.account, "announcer", &["place.called", "place.settled"]).await;
    is_error(&room.reserve("usr_1", None).await, 403, "ADMISSION_REQUIRED");

    room.join().await;
    room.wind_up().await;
    until("each has his place, by the time at which he came", async || {
        let line = room.line().await;
        let mut positions = Vec::new();
        for user_id in PEOPLE {
            positions.push(room.position(&line, user_id).await);
        }
        positions == [Some(3), Some(2), Some(1)]
    })
    .await;
    until("one is called, for the one ticket", async || room.states().await == [State::Called]).await;

    // The first is let in, holds the seat, and gives it up.
    let first = room.claim(1, now() + 5 * MINUTE).await;
    let held = room.reserve("usr_3", Some(first)).await;
    assert_eq!(
        (held.status, &held.body["reservationId"]),
        (StatusCode::CREATED, &json!(first.reservation_id())),
        "{held:?}"
    );
    assert_eq!(inventory.seat_state(&first.reservation_id()), SeatState::Held);
    until("the bus tells of it, and the place holds", async || room.states().await == [State::Holding]).await;
    let path = format!("/v1/reservations/{}/cancel", first.reservation_id());
    let cancelled = answer(room.api.ask_as("usr_3", Method::POST, &path)).await;
    assert_eq!(cancelled.body["status"], "CANCELLED", "{cancelled:?}");
    room.wind_up().await;
    until("his turn is over, and the next is called", async || room.states().await == [State::Ended, State::Called])
        .await;

    // The second is let in and does nothing. His turn is taken back at the reservation API, and then it is the third's.
    let mut page = room.page("usr_1").await;
    let second = room.claim(2, now() - 1).await;
    until("his turn is taken back, and the last is called", async || {
        room.states().await == [State::Ended, State::Ended, State::Called]
    })
    .await;
    assert_eq!(page.hear().await.as_deref(), Some(r#"{"kind":"called"}"#), "his page is told to look");
    is_error(&room.reserve("usr_2", Some(second)).await, 409, "RESERVATION_EXPIRED");
    the_door_lets_in_and_takes_on(&room, &inventory).await;
    assert_eq!(inventory.oversold(), Vec::<String>::new());

    everybody_was_told(&room.account, &told).await;
    let turns = [(1, "usr_3", first), (2, "usr_2", second)];
    let heard = turns.iter().flat_map(|(position, user_id, turn)| {
        [format!("{user_id}: position {position}"), format!("{user_id}: lost {}", turn.reservation_id())]
    });
    let expected: BTreeSet<String> = heard.chain(["usr_1: position 3".to_owned()]).collect();
    until("who is connected has heard of each", async || {
        realtime.heard().iter().map(ToString::to_string).collect::<BTreeSet<_>>() == expected
    })
    .await;
    the_account_shows_how_it_went(&room.account).await;
    room.stand_still().await;
    delete(&room.account).await;
    only_tables_are_left(&room.account, 3, &[]).await;
}

/// The last in line asks, is let in, and holds the seat by the token that he is given; somebody else joins, and everybody may
/// see how far the line is, and its page.
async fn the_door_lets_in_and_takes_on(room: &Room, inventory: &Inventory) {
    let place = json!({"queueItemId": room.id("usr_1")});
    let admitted = room.call(Some("usr_1"), "GetQueuePosition", &place).await;
    assert_eq!((&admitted["status"], &admitted["position"]), (&json!("processing"), &json!(3)), "{admitted}");
    let token = admitted["admissionToken"].as_str().unwrap_or_else(|| panic!("no token in {admitted}"));
    assert_eq!(room.call(Some("usr_1"), "GetQueuePosition", &place).await["admissionToken"], token, "asked again");
    let held = room.reserve_by("usr_1", Some(token.to_owned())).await;
    assert_eq!(
        (held.status, &held.body["reservationId"]),
        (StatusCode::CREATED, &admitted["reservationId"]),
        "{held:?}"
    );
    assert_eq!(inventory.seat_state(held.body["reservationId"].as_str().unwrap()), SeatState::Held);
    until("his place holds", async || room.states().await == [State::Ended, State::Ended, State::Holding]).await;

    let joined = room.call(Some(LATE), "EnqueueBooking", &json!({"eventId": SHOW, "seatCount": 1})).await;
    assert_eq!(joined["queueItemId"], room.id(LATE), "{joined}");
    room.wind_up().await;
    let place = json!({"queueItemId": room.id(LATE)});
    until("he has his place", async || room.call(Some(LATE), "GetQueuePosition", &place).await["position"] == 4).await;
    let stranger = room.call(Some("usr_2"), "GetQueuePosition", &place).await;
    assert_eq!(stranger["code"], "permission_denied", "{stranger}");
    let status = room.call(None, "GetQueueStatus", &json!({"eventId": SHOW})).await;
    assert_eq!((&status["state"], &status["serving"]), (&json!("all_taken"), &json!(3)), "{status}");
    let page = room.api.ask(Method::GET, "/waiting-room").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.text().await.unwrap().contains("<title>"));
}

impl Room {
    /// Deploys the stack, and opens the line.
    async fn deploy(inventory: &Inventory, realtime: &Realtime) -> Self {
        let account = sam::account("waiting-room").await;
        let issuer = Issuer::start_on(0).await.unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let inventory_address = listener.local_addr().unwrap().to_string();
        tokio::spawn(inventory.clone().serve(listener));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let realtime_address = listener.local_addr().unwrap().to_string();
        tokio::spawn(realtime.clone().serve(listener));
        let keys = json!({"waiting_room_key": WAITING_ROOM_KEYS, "admission_key": KEY});
        let (keys, issuer_url) = (secret(&account, "keys", &keys).await, issuer.url());
        let parameters = [
            ("WaitingRoom", "true"),
            ("WaitingRoomPush", "true"),
            ("SecretArn", &keys),
            ("InventoryGrpcAddr", &inventory_address),
            ("RealtimeGrpcAddr", &realtime_address),
            ("JwtIssuer", &issuer_url),
            ("JwtAudience", AUDIENCE),
            ("JwtScope", SCOPE),
            ("AwsEndpointUrl", &account.url),
        ];
        sam::deploy(&account.url, STACK, &parameters);
        let api = Api::of(&account, issuer).await;
        let table = Table::new(account.tables(), resource(&account, "WaitingRoomTable").await);
        let scope = Scope { show_id: SHOW.to_owned(), generation: 1, key_version: 1 };
        let settings = Settings {
            tickets: 1,
            seats_max: 1,
            max_inside: None,
            opens_at: now() - 10 * MINUTE,
            closes_at: now() + 60 * MINUTE,
            paused: false,
            draws: false,
        };
        let line = Line::open(scope.clone(), settings).unwrap();
        assert_eq!(table.open(&line).await.unwrap(), Written::Made);
        Self { account, api, table, scope }
    }

    /// Everybody joins, and something that is no join. The last to be sent reached the gateway first. They come in one batch,
    /// so that the clock's own ticks find all of them or nobody.
    async fn join(&self) {
        let url = queue_url(&self.account, &format!("{STACK}-waiting-room-joined")).await;
        let minute_ago = now() - MINUTE;
        let join = |(later, user_id): (u64, &str)| {
            let (scope, user_id, arrival) = (self.scope.clone(), user_id.to_owned(), minute_ago - later);
            JoinMessage { scope, user_id, seats: 1, arrival, request: None }.body()
        };
        let bodies = (0..).zip(PEOPLE).map(join).chain(["no json".to_owned()]);
        let entries: Vec<Value> =
            bodies.enumerate().map(|(at, body)| json!({"Id": at.to_string(), "MessageBody": body})).collect();
        let input = json!({"QueueUrl": url, "Entries": entries});
        let sent = self.account.call("sqs", "AmazonSQS.SendMessageBatch", input).await;
        assert_eq!(sent["Successful"].as_array().map(Vec::len), Some(entries.len()), "{sent}");
    }

    /// Has the clock send the ticks of a minute, which its rule does by itself too, at a moment of its own.
    async fn wind_up(&self) {
        let answer = self.account.invoke(&format!("{STACK}-waiting-room-clock:live")).await;
        assert_eq!(answer, "null", "the clock has sent its ticks");
    }

    /// Takes the line from the clock, and its ticks out of their queue. One at work while a stack is deleted writes its log
    /// when the log's group is gone, and so makes another, here as on AWS.
    async fn stand_still(&self) {
        until("the line is off the list", async || {
            let line = self.table.line(SHOW).await.unwrap();
            self.table.close(SHOW, line.as_ref()).await.unwrap() == Written::Made
        })
        .await;
        let url = queue_url(&self.account, &format!("{STACK}-waiting-room-ticked")).await;
        self.account.call("sqs", "AmazonSQS.PurgeQueue", json!({"QueueUrl": url})).await;
        let log = async || log(&self.account, "waiting-room-ticked").await;
        until("no tick is at work any more", async || {
            let before = log().await;
            tokio::time::sleep(Duration::from_secs(5)).await; // A tick takes less.
            log().await == before
        })
        .await;
    }

    async fn line(&self) -> Line {
        self.table.line(SHOW).await.unwrap().unwrap()
    }

    async fn position(&self, line: &Line, user_id: &str) -> Option<u64> {
        let id = PlaceKeys::read(WAITING_ROOM_KEYS).unwrap().id(&self.scope, user_id).unwrap();
        let item = self.table.item(id).await.unwrap()?;
        self.table.position(line, id, item.arrival).await.unwrap()
    }

    /// The places whose turn has come, in order.
    async fn places(&self) -> Vec<Entry> {
        self.table.pages(&self.line().await, 0).await.unwrap().entries.into_values().collect()
    }

    async fn states(&self) -> Vec<State> {
        self.places().await.into_iter().map(|entry| entry.state).collect()
    }

    /// Lets the customer of a place in until then, as his next poll does. The answer is the right that he has.
    async fn claim(&self, position: u64, until: Moment) -> Turn {
        let called = self.table.entry(&self.scope, position).await.unwrap().unwrap();
        let admitted = called.after(Change::Claim { until }).unwrap();
        let replaced = self.table.replace(&self.scope, position, called, admitted).await.unwrap();
        assert_eq!(replaced, Replaced::Made);
        let standing = self.table.standing(&self.line().await, &BTreeSet::from([position])).await.unwrap();
        Turn { id: standing[&position].id, position, call: admitted.call }
    }

    /// The name of somebody's place.
    fn id(&self, user_id: &str) -> String {
        PlaceKeys::read(WAITING_ROOM_KEYS).unwrap().id(&self.scope, user_id).unwrap().to_string()
    }

    /// A page of somebody who waits, which hears at once.
    async fn page(&self, user_id: &str) -> Page {
        let place = json!({"queueItemId": self.id(user_id)});
        let shown = self.call(Some(user_id), "GetQueuePosition", &place).await;
        let url = shown["pushUrl"].as_str().unwrap_or_else(|| panic!("no address in {shown}"));
        let made_up = url.split_once('=').map_or(url, |(address, _)| address);
        assert!(Page::open(&format!("{made_up}=made-up")).await.is_err(), "only a ticket opens a connection");
        Page::open(url).await.unwrap()
    }

    /// One call at the door, with the token of a customer or without any.
    async fn call(&self, user_id: Option<&str>, method: &str, message: &Value) -> Value {
        let path = format!("/booking_worker.v1.BookingWorkerService/{method}");
        let ask = match user_id {
            Some(user_id) => self.api.ask_as(user_id, Method::POST, &path),
            None => self.api.ask(Method::POST, &path),
        };
        answer(ask.timeout(Duration::from_secs(30)).json(message)).await.body
    }

    /// What the API says to somebody who wants the seat, by the right of a turn, if he has one.
    async fn reserve(&self, user_id: &str, turn: Option<Turn>) -> Answer {
        let token = turn.map(|turn| {
            let admission = Admission {
                user_id: user_id.to_owned(),
                show_id: SHOW.to_owned(),
                queue_item_id: turn.id.to_string(),
                position: turn.position,
                call: turn.call.into(),
                most_tickets: 1,
                issued_at: now(),
                expires_at: now() + MINUTE,
            };
            token(&admission).unwrap()
        });
        self.reserve_by(user_id, token).await
    }

    async fn reserve_by(&self, user_id: &str, token: Option<String>) -> Answer {
        let mut wish = json!({"eventId": SHOW, "quantity": 1});
        if let Some(token) = token {
            wish["reservationToken"] = json!(token);
        }
        let create = self.api.ask_as(user_id, Method::POST, "/v1/reservations").header("idempotency-key", user_id);
        answer(create.timeout(Duration::from_secs(30)).json(&wish)).await
    }
}

/// Each call was told, and the end of both turns.
async fn everybody_was_told(account: &MiniStack, queue: &str) {
    let told: BTreeSet<(String, String)> = messages(account, queue)
        .await
        .iter()
        .map(body)
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&event["detail-type"]), text(&event["detail"]["user_id"]))
        })
        .collect();
    let expected = [
        ("place.called", "usr_1"),
        ("place.called", "usr_2"),
        ("place.called", "usr_3"),
        ("place.settled", "usr_2"),
        ("place.settled", "usr_3"),
    ];
    assert_eq!(told, expected.map(|(kind, user_id)| (kind.to_owned(), user_id.to_owned())).into());
}

/// Dead letters, logs, alarms and the dashboard.
async fn the_account_shows_how_it_went(account: &MiniStack) {
    let letters = messages(account, &format!("{STACK}-waiting-room-joined-dlq")).await;
    let reasons: Vec<String> = letters.iter().map(|letter| attribute(letter, "error_code")).collect();
    assert_eq!(reasons, ["malformed_body"]);
    for (function, says) in [
        ("joined", "\"outcome\":\"success\""),
        ("clock", "the ticks of the minute are sent"),
        ("ticked", "\"outcome\":\"success\""),
        ("settled", "\"outcome\":\"success\""),
        ("called", "\"outcome\":\"success\""),
        ("connected", "a place is heard of by a connection"),
    ] {
        let lines = log(account, &format!("waiting-room-{function}")).await;
        assert!(lines.contains(says), "{function}:\n{lines}");
        assert!(!lines.contains("AccessDenied"), "its role suffices:\n{lines}");
        assert!(PEOPLE.iter().all(|user_id| !lines.contains(user_id)), "a line names a customer:\n{lines}");
    }
    let lines = log(account, "waiting-room").await;
    assert!(lines.contains("GetQueuePosition") && !lines.contains("AccessDenied"), "its role suffices:\n{lines}");
    assert!(PEOPLE.iter().chain(&[LATE]).all(|user_id| !lines.contains(user_id)), "a line names a customer:\n{lines}");
    let alarms = alarms(account, "").await;
    for alarm in
        ["joined-placement-lag", "ticked-tick-age", "ticked-late-joins", "clock-stopped", "joined-dead-letters"]
    {
        assert!(alarms.contains(&format!("{STACK}-waiting-room-{alarm}")), "{alarm} is missing in {alarms:?}");
    }
    let form = format!("Action=GetDashboard&Version=2010-08-01&DashboardName={STACK}-waiting-room");
    assert!(account.query("monitoring", &form).await.contains("booking_worker_tick_age_seconds"));
}
