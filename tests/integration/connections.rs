//! What becomes of connections: one that died in silence, one whose other end hangs or says that it is too busy, one on which
//! interim answers never end, and the ones that must not be made at all.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use axum::{Router, http::StatusCode, response::IntoResponse};
use local_stack::{inventory::SeatState, reservations::Status, stack::Stack};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::harness::{Sent, World, event, event_with, log_lines};

/// A server's side of HTTP/2, frame by frame: it takes calls and answers none of them.
#[derive(Clone, Copy, Debug)]
enum Sick {
    /// It answers pings, and nothing else.
    Hangs,
    /// It lets no call begin.
    TakesNoStreams,
    /// It lets no byte of a call through.
    HasNoWindow,
    /// It sends its callers away.
    GoesAway,
}

impl Sick {
    const ALL: [Self; 4] = [Self::Hangs, Self::TakesNoStreams, Self::HasNoWindow, Self::GoesAway];

    fn settings(self) -> &'static [u8] {
        match self {
            Self::Hangs | Self::GoesAway => &[],
            Self::TakesNoStreams => &[0, 3, 0, 0, 0, 0],
            Self::HasNoWindow => &[0, 4, 0, 0, 0, 0],
        }
    }
}

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const HEADERS: u8 = 1;
const ACKNOWLEDGED: u8 = 1;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
}

/// Serves until the caller ends the connection.
async fn serve_sick(mut caller: TcpStream, sick: Sick, pings: Arc<AtomicUsize>) -> io::Result<()> {
    let mut preface = [0; 24];
    caller.read_exact(&mut preface).await?;
    caller.write_all(&frame(SETTINGS, 0, sick.settings())).await?;
    loop {
        let mut head = [0; 9];
        caller.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        caller.read_exact(&mut payload).await?;
        match (kind, flags & ACKNOWLEDGED) {
            (SETTINGS, 0) => caller.write_all(&frame(SETTINGS, ACKNOWLEDGED, &[])).await?,
            (PING, 0) => {
                pings.fetch_add(1, Relaxed);
                caller.write_all(&frame(PING, ACKNOWLEDGED, &payload)).await?;
            }
            // No call was taken, and the reason is ENHANCE_YOUR_CALM.
            (HEADERS, _) if matches!(sick, Sick::GoesAway) => {
                caller
                    .write_all(&frame(GOAWAY, 0, &[&[0, 0, 0, 0, 0, 0, 0, 11][..], b"too_many_pings"].concat()))
                    .await?;
            }
            _ => {}
        }
    }
}

/// What was seen by [`sick_at_first`].
#[derive(Clone, Default)]
struct Seen {
    pings: Arc<AtomicUsize>,
    sick_ended: Arc<AtomicUsize>,
}

/// A way to the inventory whose first connection ends at a sick instance.
async fn sick_at_first(inventory: SocketAddr, sick: Sick) -> (String, Seen) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let seen = Seen::default();
    let counts = seen.clone();
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((mut caller, _)) = listener.accept().await {
            let Seen { pings, sick_ended } = counts.clone();
            let sick = std::mem::take(&mut first).then_some(sick);
            tokio::spawn(async move {
                if let Some(sick) = sick {
                    drop(serve_sick(caller, sick, pings).await);
                    sick_ended.fetch_add(1, Relaxed);
                } else if let Ok(mut inventory) = TcpStream::connect(inventory).await {
                    drop(copy_bidirectional(&mut caller, &mut inventory).await);
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_connection_to_a_sick_inventory_fails_one_event_and_is_left_by_the_next() {
    for sick in Sick::ALL {
        let stack = Stack::start().await.expect("the stack starts");
        let (address, seen) = sick_at_first(stack.inventory_address, sick).await;
        let changes = [("INVENTORY_GRPC_ADDR", address.as_str()), ("INVENTORY_TIMEOUT_MS", "2000")];
        let world = World::on(stack, "payment-approved", &changes);
        world.warm_up().await;
        world.given(Status::Hold, SeatState::Held);
        world.deliver_one(event("payment.approved")).await.is("retried");
        world.redeliver().await[0].is("success");
        assert_eq!(world.state(), "CONFIRMED, sold", "{sick:?}");
        let pings = seen.pings.load(Relaxed);
        assert!(pings <= 1, "{sick:?}: {pings} pings in one call");
        crate::harness::eventually(&format!("{sick:?}: the connection is closed"), || {
            seen.sick_ended.load(Relaxed) == 1
        })
        .await;
    }
}

/// A way to a server on which all connections that are there can be silenced at once: they stay open, and nothing passes.
struct Way {
    address: SocketAddr,
    silenced: watch::Sender<usize>,
    made: Arc<AtomicUsize>,
}

impl Way {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let address = listener.local_addr().expect("it is bound");
        let (silenced, made) = (watch::Sender::new(0), Arc::new(AtomicUsize::new(0)));
        let (silences, connections) = (silenced.clone(), made.clone());
        tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                connections.fetch_add(1, Relaxed);
                let mut silence = silences.subscribe();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut caller, &mut server) => {}
                        _ = silence.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, silenced, made }
    }

    fn silence(&self) {
        self.silenced.send_modify(|times| *times += 1);
    }
}

/// Ten events side by side, which leave ten connections behind.
fn ten(world: &World) -> Vec<Sent> {
    let event = |n: usize| {
        let (id, seat) = (format!("rsv_{n}"), format!("S-{n}"));
        world.seed(&id, &[&seat], Status::Hold, SeatState::Held, None);
        let payment = format!("pi_{n}");
        let changes = json!({"reservation_id": id, "seat_ids": [seat], "qty": 1, "payment_intent_id": payment});
        Sent::from(event_with("payment.approved", changes))
    };
    (0..10).map(event).collect()
}

/// How many deliveries an event needs after ten connections to a service have died in silence.
async fn deliveries_after_silence(variable: &str, service: fn(&Stack) -> SocketAddr) -> usize {
    let stack = Stack::start().await.expect("the stack starts");
    let way = Way::to(service(&stack)).await;
    let url = format!("http://{}", way.address);
    let world = World::on(stack, "payment-approved", &[(variable, &url)]);
    world.warm_up().await;
    world.stack.aws.set_latency(std::time::Duration::from_millis(500));
    world.stack.reservations.set_latency(std::time::Duration::from_millis(500));
    for ended in world.deliver(ten(&world)).await {
        ended.is("success");
    }
    let made = way.made.load(Relaxed);
    assert!(made >= 10, "{made} connections were made for ten records side by side");
    way.silence();
    world.given(Status::Hold, SeatState::Held);
    let mut ended = world.deliver_one(event("payment.approved")).await;
    let mut deliveries = 1;
    while ended.outcome == "retried" {
        ended = world.redeliver().await.remove(0);
        deliveries += 1;
    }
    ended.is("success");
    assert_eq!(world.state(), "CONFIRMED, sold");
    deliveries
}

#[tokio::test]
async fn ten_dead_connections_to_dynamodb_cost_no_delivery() {
    let deliveries = deliveries_after_silence("AWS_ENDPOINT_URL", |stack| stack.aws.address()).await;
    assert_eq!(deliveries, 1, "the second try of the call goes out on a new connection");
}

#[tokio::test]
async fn ten_dead_connections_to_the_reservation_api_cost_one_delivery() {
    let deliveries = deliveries_after_silence("RESERVATION_API_BASE", |stack| stack.reservation_address).await;
    assert_eq!(deliveries, 2, "the first ends all ten of them");
}

/// A server that answers every request with interim answers, and never with a last one. What it could send is counted for
/// each connection.
async fn never_final() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let (mut request, mut sent) = ([0; 16 * 1024], 0);
                if caller.read(&mut request).await.unwrap_or_default() == 0 {
                    return;
                }
                let answers = "HTTP/1.1 102 Processing\r\n\r\n".repeat(1_000);
                while caller.write_all(answers.as_bytes()).await.is_ok() {
                    sent += answers.len();
                    seen.fetch_max(sent, Relaxed);
                }
            });
        }
    });
    (url, most)
}

#[tokio::test]
async fn interim_answers_without_end_are_read_only_so_far() {
    // What a kernel keeps between two sockets comes on top of what is read.
    const MOST: usize = 24 << 20;
    for variable in ["RESERVATION_API_BASE", "AWS_ENDPOINT_URL"] {
        let (url, most) = never_final().await;
        let world = World::with("payment-approved", &[(variable, &url)]).await;
        for ended in world.deliver(ten(&world)).await {
            assert_eq!(ended.outcome, "retried", "{variable}: {:#}", ended.line);
        }
        let most = most.load(Relaxed);
        assert!((1..MOST).contains(&most), "{variable}: {most} bytes in one answer");
    }
}

/// A server that counts whoever comes, and answers with this status and a way to somewhere else.
async fn redirecting(to: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (calls, location) = (Arc::new(AtomicUsize::new(0)), to.to_owned());
    let counted = calls.clone();
    let server = Router::new().fallback(async move || {
        counted.fetch_add(1, Relaxed);
        (StatusCode::TEMPORARY_REDIRECT, [("location", location)]).into_response()
    });
    tokio::spawn(async move { axum::serve(listener, server).await });
    (url, calls)
}

#[tokio::test]
async fn no_client_follows_a_redirect() {
    let (elsewhere, strayed) = redirecting("http://127.0.0.1:9").await;
    for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "RESERVATION_API_BASE", "AWS_ENDPOINT_URL"] {
        let (url, calls) = redirecting(&elsewhere).await;
        let changes = [("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret"), (variable, url.as_str())];
        let world = World::with("payment-approved", &changes).await;
        world.given(Status::Hold, SeatState::Held);
        let outcome = if variable.starts_with("OTEL") { "success" } else { "retried" };
        world.deliver_one(event("payment.approved")).await.is(outcome);
        assert!(calls.load(Relaxed) > 0, "{variable} leads there");
        assert_eq!(strayed.load(Relaxed), 0, "{variable}");
    }
}

#[tokio::test]
async fn no_client_reads_the_variables_of_proxies() {
    let (proxy, strayed) = redirecting("http://127.0.0.1:9").await;
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let (collector, exports) = redirecting("http://127.0.0.1:9").await;
    let own = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str())];
    let changes: Vec<(&str, &str)> = names.iter().map(|name| (*name, proxy.as_str())).chain(own).collect();
    let world = World::with("payment-approved", &changes).await;
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.approved")).await.is("success");
    assert_eq!(strayed.load(Relaxed), 0, "nothing goes to the proxy");
    assert!(exports.load(Relaxed) > 0, "the spans go to the collector");
}

#[tokio::test]
async fn a_token_that_goes_over_the_network_in_clear_is_told_at_the_start() {
    for (base, told) in [("http://reservation-api.invalid:8010", true), ("http://127.0.0.1:9", false)] {
        let stack = Stack::start().await.expect("the stack starts");
        stack.aws.put_secret("holdfast/token", r#"{"reservation_api_token": "t0ken"}"#);
        let changes =
            [("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", "holdfast/token"), ("RESERVATION_API_BASE", base)];
        let world = World::on(stack, "payment-approved", &changes);
        world.warm_up().await;
        let lines = log_lines(&world.function.all_logs());
        let warned = lines.iter().filter(|line| line["msg"].as_str().is_some_and(|text| text.contains("without TLS")));
        assert_eq!(warned.count(), usize::from(told), "{base}: {lines:#?}");
    }
}
