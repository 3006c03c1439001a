//! Pushes to pages: a page opens a connection with its ticket, `waiting-room-connected` writes it down, and
//! `waiting-room-called` tells by it that it is time to ask, through the local WebSocket API.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use futures_util::{StreamExt, stream};
use local_stack::{
    admission::{FORMER_KEY, KEY, secret, ticket_by, token, turn},
    aws::Injected,
    gateway::{
        AccessKey, Target,
        sockets::{ConnectError, Page, PostAnswer, Sockets},
    },
    lambda::Function,
    realtime::{Push, Scripted},
    replay::table,
    sale::{PUSH_API, access_key, open_sockets},
    stack::{Stack, WAITING_ROOM_SECRET},
    template::Template,
};
use reqwest::Client;
use serde_json::{Value, json};
use shared::{
    admission::Admission,
    client::aws::TRIES,
    deadline::{epoch_ms, moment},
    waiting_room::{id::PlaceId, table::MOST_CONNECTIONS, ticket::GOOD_FOR},
};
use tokio::time::timeout;
use tonic::Code;

use crate::harness::{World, binaries, eventually, log_lines};

const CALLED: &str = waiting_room_called::NAME;
const CONNECTED: &str = waiting_room_connected::NAME;
const SHOW: &str = "evt_1";
const USER: &str = "usr_c7k2m1";

/// Enough for any test.
const LONG: Duration = Duration::from_secs(30);

/// The API, what answers it, and what pushes through it.
struct Site {
    world: World,
    sockets: Sockets,
    connected: Function,
}

fn place() -> PlaceId {
    PlaceId::of(1, [7; 16])
}

fn now() -> u64 {
    epoch_ms(SystemTime::now())
}

/// A ticket of a place, given at this moment.
fn ticket_of(id: PlaceId, given_at: u64) -> String {
    ticket_by(KEY, id, given_at).unwrap()
}

fn event(detail_type: &str, fields: Value) -> Value {
    let mut detail = json!({
        "queue_item_id": place().to_string(), "event_id": SHOW, "user_id": USER, "position": 12, "call": 1,
    });
    for (name, value) in fields.as_object().unwrap() {
        detail[name] = value.clone();
    }
    json!({"version": "0", "source": "holdfast", "detail-type": detail_type, "detail": detail})
}

fn called() -> Value {
    event("place.called", json!({"seats": 2, "call_until": moment(now() + 600_000)}))
}

fn passed() -> Value {
    event("place.passed", json!({}))
}

impl Site {
    /// Pushes, and a realtime service to which nobody is connected.
    async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// Pushes alone.
    async fn without_a_service() -> Self {
        Self::open_with(&[("GRPC_REALTIME_SERVICE_ENDPOINT", "")]).await
    }

    async fn open_with(changes: &[(&str, &str)]) -> Self {
        Self::on(Stack::start().await.unwrap(), changes).await
    }

    async fn on(stack: Stack, changes: &[(&str, &str)]) -> Self {
        let connected = stack.deploy(CONNECTED, binaries()[CONNECTED].clone(), 4).unwrap();
        let target = Target::Function(connected.clone());
        let sockets = open_sockets(&Template::read().unwrap(), target, 0).await.unwrap();
        let base = sockets.base();
        let changes: Vec<(&str, &str)> = [(PUSH_API, base.as_str())].iter().chain(changes).copied().collect();
        Self { world: World::on(stack, CALLED, &changes), sockets, connected }
    }

    /// A page of the place, whose connection is open.
    async fn page(&self) -> Page {
        self.page_with(&ticket_of(place(), now())).await.unwrap()
    }

    async fn page_with(&self, ticket: &str) -> Result<Page, ConnectError> {
        Page::open(&format!("{}?ticket={ticket}", self.sockets.base().replacen("http", "ws", 1))).await
    }

    /// The connections by which a place is heard of.
    async fn connections(&self, id: PlaceId) -> Vec<String> {
        table(&self.world.stack).connections(id).await.unwrap()
    }

    /// What became of pushes, by result.
    fn pushes(&self, result: &str) -> u64 {
        let lines = log_lines(&self.world.function.all_logs());
        let counted = lines.iter().filter(|line| line["result"] == result);
        counted.filter_map(|line| line["booking_worker_pushes_total"].as_u64()).sum()
    }
}

/// What a page is told next.
async fn hears(page: &mut Page) -> Value {
    let said = timeout(LONG, page.hear()).await.expect("it is told in time").expect("the connection is open");
    serde_json::from_str(&said).unwrap()
}

#[track_caller]
fn is_refused(opened: Result<Page, ConnectError>, with: StatusCode) {
    match opened {
        Err(ConnectError::Refused(status)) => assert_eq!(status, with),
        other => panic!("it must be refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_page_with_a_ticket_is_told_to_look_and_nothing_else() {
    let site = Site::without_a_service().await;
    let mut page = site.page().await;
    for (event, kind) in [(called(), "called"), (passed(), "passed")] {
        site.world.deliver_one(event).await.is("success");
        assert_eq!(hears(&mut page).await, json!({"kind": kind}));
    }
    assert_eq!(site.pushes("sent"), 2);
    let said = [site.world.function.all_logs(), site.connected.all_logs()].concat();
    assert!(said.iter().all(|line| !line.contains(USER) && !line.contains("ticket=")), "{said:#?}");
}

#[tokio::test]
async fn the_realtime_service_is_told_too_and_either_way_is_a_success() {
    let site = Site::open().await;
    let mut page = site.page().await;
    site.world.deliver_one(called()).await.is("success");
    assert_eq!(hears(&mut page).await["kind"], "called");
    assert_eq!(site.world.stack.realtime.calls().len(), 1, "it was asked, and nobody is connected there");
    site.world.stack.realtime.connect(USER, SHOW);
    page.leave().await;
    eventually("the connection has ended", || site.sockets.open().is_empty()).await;
    site.world.deliver_one(passed()).await.is("success");
    let push = Push::Place { user_id: USER.to_owned(), event_id: SHOW.to_owned(), position: 12 };
    assert_eq!(site.world.stack.realtime.heard(), [push]);
}

#[tokio::test]
async fn without_a_service_other_news_are_not_told_and_where_no_page_is_open_nobody_is() {
    let site = Site::without_a_service().await;
    site.world.deliver_one(called()).await.is("absent");
    let sold = json!({"outcome": "sold", "reservation_id": format!("rsv_{}_12_1", place()), "seats": 2});
    let sold_out = json!({"event_id": SHOW, "tickets": 2});
    for event in [
        event("place.settled", sold),
        json!({"source": "holdfast", "detail-type": "line.sold_out", "detail": sold_out}),
    ] {
        let _page = site.page().await;
        site.world.deliver_one(event).await.is("ignored");
    }
    assert!(site.sockets.taken().is_empty());
}

#[tokio::test]
async fn a_place_whose_customer_is_not_named_is_told_all_the_same() {
    let site = Site::open().await;
    let mut page = site.page().await;
    site.world.deliver_one(event("place.passed", json!({"user_id": null}))).await.is("success");
    assert_eq!(hears(&mut page).await["kind"], "passed");
    assert!(site.world.stack.realtime.calls().is_empty());
}

#[tokio::test]
async fn whoever_shows_no_ticket_of_ours_has_no_connection() {
    let site = Site::open().await;
    let admission = token(&Admission { queue_item_id: place().to_string(), ..turn(USER, SHOW) }).unwrap();
    let expired = ticket_of(place(), now() - 1_000 - u64::try_from(GOOD_FOR.as_millis()).unwrap());
    let of_others = ticket_by("a key that nobody here has ever heard of", place(), now()).unwrap();
    for ticket in ["", "made-up", &admission, &expired, &of_others] {
        is_refused(site.page_with(ticket).await, StatusCode::FORBIDDEN);
    }
    assert!(site.sockets.open().is_empty() && site.connections(place()).await.is_empty());
    let routes: Vec<Value> = log_lines(&site.connected.all_logs());
    let refused =
        routes.iter().filter(|line| line["http_server_requests_total"].is_number() && line["status"] == "403");
    assert_eq!(refused.count(), 5);
}

#[tokio::test]
async fn a_ticket_hears_of_its_own_place_alone() {
    let site = Site::without_a_service().await;
    let other = PlaceId::of(1, [8; 16]);
    let _page = site.page_with(&ticket_of(other, now())).await.unwrap();
    site.world.deliver_one(called()).await.is("absent");
    assert!(site.sockets.taken().is_empty());
    assert_eq!((site.connections(place()).await.len(), site.connections(other).await.len()), (0, 1));
}

/// A token that was signed before the keys were exchanged is good as long as the former key is known.
#[tokio::test]
async fn a_ticket_of_the_former_key_opens_a_connection_until_that_key_goes() {
    let old = ticket_of(place(), now());
    for (former, opens) in [(Some(KEY), true), (None, false)] {
        let stack = Stack::start().await.unwrap();
        stack.aws.put_secret(WAITING_ROOM_SECRET, &secret(FORMER_KEY, former));
        let site = Site::on(stack, &[]).await;
        match site.page_with(&old).await {
            Ok(_) => assert!(opens, "the key is gone"),
            refused @ Err(_) => {
                assert!(!opens, "the key is known: {refused:?}");
                is_refused(refused, StatusCode::FORBIDDEN);
            }
        }
        let new = ticket_by(FORMER_KEY, place(), now()).unwrap();
        site.page_with(&new).await.unwrap();
    }
}

#[tokio::test]
async fn three_pages_of_a_place_are_told_and_the_oldest_of_more_is_forgotten() {
    let site = Site::without_a_service().await;
    let mut pages = Vec::new();
    for _ in 0..=MOST_CONNECTIONS {
        pages.push(site.page().await);
    }
    assert_eq!(site.connections(place()).await.len(), MOST_CONNECTIONS);
    site.world.deliver_one(called()).await.is("success");
    let (oldest, others) = pages.split_first_mut().unwrap();
    for page in others {
        assert_eq!(hears(page).await["kind"], "called");
    }
    assert!(timeout(Duration::from_millis(300), oldest.hear()).await.is_err(), "it is not told any more");
    assert_eq!(site.sockets.taken().len(), MOST_CONNECTIONS);
}

#[tokio::test]
async fn many_pages_that_come_at_once_keep_the_bound() {
    let site = Site::without_a_service().await;
    let ticket = ticket_of(place(), now());
    let opening = stream::iter((0..6).map(|_| site.page_with(&ticket)));
    let opened: Vec<_> = opening.buffer_unordered(6).collect().await;
    // Whoever could not be written down has no connection.
    assert!(opened.iter().any(Result::is_ok));
    let known = site.connections(place()).await;
    assert!((1..=MOST_CONNECTIONS).contains(&known.len()), "{known:?}");
    let open = site.sockets.open();
    assert!(known.iter().all(|connection| open.contains(connection)), "{known:?} of {open:?}");
}

#[tokio::test]
async fn a_connection_that_has_ended_is_forgotten() {
    let site = Site::without_a_service().await;
    let (one, _two) = (site.page().await, site.page().await);
    one.leave().await;
    eventually("one is left", || site.sockets.open().len() == 1).await;
    for _ in 0..100 {
        if site.connections(place()).await == site.sockets.open() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} are known, and {:?} open", site.connections(place()).await, site.sockets.open());
}

/// API Gateway may not say that a connection has ended, and then a push finds out.
#[tokio::test]
async fn a_connection_that_is_gone_is_forgotten_by_the_push_that_finds_it_so() {
    let site = Site::without_a_service().await;
    let mut page = site.page().await;
    table(&site.world.stack).connect(place(), "L0SM9cOFvHcCIhw=", now()).await.unwrap();
    assert_eq!(site.connections(place()).await.len(), 2);
    site.world.deliver_one(called()).await.is("success");
    assert_eq!(hears(&mut page).await["kind"], "called");
    assert_eq!(site.connections(place()).await, site.sockets.open());
    assert_eq!((site.pushes("gone"), site.pushes("sent")), (1, 1));
    assert_eq!(table(&site.world.stack).place_of("L0SM9cOFvHcCIhw=").await.unwrap(), None);
}

#[tokio::test]
async fn a_push_that_fails_leaves_the_record_to_the_service() {
    for answer in [
        PostAnswer::Status(StatusCode::TOO_MANY_REQUESTS, "slow down"),
        PostAnswer::Status(StatusCode::INTERNAL_SERVER_ERROR, ""),
        PostAnswer::Status(StatusCode::GONE, "<p>moved</p>"),
        PostAnswer::Status(StatusCode::OK, "<p>welcome</p>"),
        PostAnswer::Hang,
        PostAnswer::HangAfterEffect,
    ] {
        let site = Site::open_with(&[("PUSH_TIMEOUT_MS", "300")]).await;
        site.world.stack.realtime.connect(USER, SHOW);
        let _page = site.page().await;
        site.sockets.answer_next(answer.clone());
        site.world.deliver_one(called()).await.is("success");
        assert_eq!((site.pushes("failed"), site.pushes("gone")), (1, 0), "{answer:?}");
        assert_eq!(site.connections(place()).await.len(), 1, "{answer:?} says nothing of the connection");
        assert_eq!(site.world.stack.realtime.heard().len(), 1);
        assert!(site.world.queue.is_empty() && site.world.dead_letters.is_empty());
    }
}

#[tokio::test]
async fn without_a_service_a_push_that_fails_ends_the_record_and_is_not_tried_again() {
    let site = Site::without_a_service().await;
    let _page = site.page().await;
    site.sockets.answer_next(PostAnswer::Status(StatusCode::SERVICE_UNAVAILABLE, ""));
    site.world.deliver_one(called()).await.is("unheard");
    assert!(site.world.queue.is_empty() && site.world.dead_letters.is_empty());
}

#[tokio::test]
async fn a_push_is_sent_again_with_its_record_alone() {
    let site = Site::open().await;
    let mut page = site.page().await;
    site.world.stack.realtime.answer_next(Scripted::Status(Code::Unavailable, "not now".into()));
    site.world.deliver_one(passed()).await.is("retried").says("not now");
    site.world.redeliver().await[0].is("success");
    for _ in 0..2 {
        assert_eq!(hears(&mut page).await["kind"], "passed", "the same says the same again");
    }
}

#[tokio::test]
async fn what_a_page_says_means_nothing_and_keeps_it_open() {
    let site = Site::without_a_service().await;
    let mut page = site.page().await;
    for said in ["{}", "{\"action\": \"$connect\"}", "ping", ""] {
        page.say(said).await;
    }
    eventually("all of it has come", || {
        let lines = log_lines(&site.connected.all_logs());
        lines.iter().filter(|line| line["route"] == "$default" && line["latency_ms"].is_number()).count() == 4
    })
    .await;
    site.world.deliver_one(called()).await.is("success");
    assert_eq!(hears(&mut page).await["kind"], "called", "nothing was answered before");
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_its_connection() {
    let site = Site::without_a_service().await;
    let mut page = site.page().await;
    page.say(&"x".repeat(128 * 1024 + 1)).await;
    assert_eq!(timeout(LONG, page.hear()).await, Ok(None));
    eventually("it is closed", || site.sockets.open().is_empty()).await;
}

#[tokio::test]
async fn only_who_signs_sends_to_a_connection_and_only_to_one_that_is_open() {
    let site = Site::open().await;
    let mut page = site.page().await;
    let [open] = site.sockets.open().try_into().unwrap();
    let http = Client::builder().no_proxy().build().unwrap();
    let post = async |connection: &str, key: Option<&AccessKey>, body: String| {
        let url = format!("{}/@connections/{}", site.sockets.base(), connection.replace('=', "%3D"));
        let mut request = http.post(url).body(body).build().unwrap();
        if let Some(key) = key {
            key.signs(&mut request).unwrap();
        }
        http.execute(request).await.unwrap().status()
    };
    let (own, other) = (access_key(), AccessKey { secret: "another".to_owned(), ..access_key() });
    let text = || "{}".to_owned();
    assert_eq!(post(&open, None, text()).await, StatusCode::FORBIDDEN);
    assert_eq!(post(&open, Some(&other), text()).await, StatusCode::FORBIDDEN);
    assert_eq!(post("made-up=", Some(&own), text()).await, StatusCode::GONE);
    assert_eq!(post(&open, Some(&own), "x".repeat(128 * 1024 + 1)).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post(&open, Some(&own), text()).await, StatusCode::OK);
    assert_eq!(hears(&mut page).await, json!({}));
    let plain = http.get(site.sockets.base()).send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::BAD_REQUEST, "it asks for no WebSocket");
}

#[tokio::test]
async fn while_the_table_is_away_no_connection_is_opened_and_no_record_fails() {
    let site = Site::without_a_service().await;
    let _page = site.page().await;
    let away = |operation: &str| {
        for _ in 0..TRIES {
            let (kind, message) = ("InternalServerError".to_owned(), "away".to_owned());
            site.world.stack.aws.fail_next(operation, Injected::Answer { status: 500, kind, message });
        }
    };
    away("DynamoDB_20120810.UpdateItem");
    is_refused(site.page_with(&ticket_of(place(), now())).await, StatusCode::SERVICE_UNAVAILABLE);
    site.world.warm_up().await;
    away("DynamoDB_20120810.GetItem");
    site.world.deliver_one(called()).await.is("unheard");
    assert_eq!((site.sockets.open().len(), site.pushes("failed")), (1, 1));
}
