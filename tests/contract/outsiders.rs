//! Both services by RPC, through the clients of other people: connect-node in each of its protocols, `buf curl`, and native
//! gRPC on the port of a developer's machine. A customer of each stands in line, is let in, reserves and gives it back.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use local_stack::{
    admission, build,
    gateway::NativeGrpc,
    proto::DESCRIPTORS_FILE,
    ring::{Ring, on_path},
    sale::{Running, Sale, SalePorts},
    stack::Stack,
    template::SCOPE,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::{sleep, timeout},
};

/// The folder in which the packages are installed.
const PACKAGES: &str = "HOLDFAST_OUTSIDERS";

const ROOM: &str = "booking_worker.v1.BookingWorkerService";
const RESERVATIONS: &str = "reservation.v1.ReservationService";

const SHOW: &str = "evt_1";

/// The protocols of connect-node. The last is native gRPC, which API Gateway does not carry.
const PROTOCOLS: [&str; 5] = ["connect", "connect-json", "grpc-web", "grpc-web-json", "grpc"];

/// A sale that goes on, with a line in which nobody stands.
struct House {
    sale: Sale,
    native: NativeGrpc,
    _running: Running,
}

impl House {
    async fn open() -> Self {
        let stack = Stack::start().await.unwrap();
        stack.inventory.stock(SHOW, &[], 100);
        let binaries = build::functions().expect("the functions build");
        let sale = Sale::open(stack, binaries, SalePorts::default()).await.unwrap();
        admission::open_line(&sale.stack.aws, SHOW, 100).await.unwrap();
        let native = NativeGrpc::start_on(0, &sale.gateway).await.unwrap();
        let (worked, _told) = mpsc::unbounded_channel();
        let running = sale.run(worked).await.unwrap();
        sale.wind().await.unwrap();
        Self { sale, native, _running: running }
    }

    fn url(&self, protocol: &str) -> String {
        if protocol == "grpc" { format!("http://{}", self.native.address()) } else { self.sale.gateway.url() }
    }

    fn token(&self, sub: &str) -> String {
        self.sale.issuer.token(sub, SCOPE, Duration::from_secs(600)).unwrap()
    }
}

/// What makes calls.
trait Caller {
    /// What a call was answered: `ok` with the message, or `code`.
    async fn call(&mut self, house: &House, sub: &str, method: (&str, &str), request: Value) -> Value;
}

/// A program of connect-node in one of its protocols.
struct Node {
    protocol: &'static str,
    _program: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(packages: &Path, protocol: &'static str) -> Self {
        let script = include_str!("outsiders/call.mjs");
        let mut command = Command::new("node");
        // A module that is no file finds its packages from the folder where it runs.
        command.args(["--input-type=module", "--eval", script]).current_dir(packages).kill_on_drop(true);
        command.env("DESCRIPTORS", DESCRIPTORS_FILE).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().expect("node starts");
        let (input, output) = (program.stdin.take().unwrap(), program.stdout.take().unwrap());
        Self { protocol, input, output: BufReader::new(output).lines(), _program: program }
    }
}

impl Caller for Node {
    async fn call(&mut self, house: &House, sub: &str, (service, method): (&str, &str), request: Value) -> Value {
        let (url, token, protocol) = (house.url(self.protocol), house.token(sub), self.protocol);
        let call = json!({"url": url, "protocol": protocol, "service": service, "method": method, "token": token, "request": request});
        self.input.write_all(format!("{call}\n").as_bytes()).await.unwrap();
        let line = timeout(Duration::from_secs(30), self.output.next_line()).await.expect("it answers in time");
        serde_json::from_str(&line.unwrap().expect("node goes on")).unwrap()
    }
}

/// `buf curl`, once for each call.
struct Buf {
    program: PathBuf,
    protocol: &'static str,
}

impl Caller for Buf {
    async fn call(&mut self, house: &House, sub: &str, (service, method): (&str, &str), request: Value) -> Value {
        let mut command = Command::new(&self.program);
        command.arg("curl").arg("--schema").arg(DESCRIPTORS_FILE).args(["--protocol", self.protocol]);
        if self.protocol == "grpc" {
            command.arg("--http2-prior-knowledge");
        }
        command.args(["--header", &format!("Authorization: Bearer {}", house.token(sub))]);
        command.args(["--data", &request.to_string()]).arg(format!("{}/{service}/{method}", house.url(self.protocol)));
        let output = timeout(Duration::from_secs(30), command.output()).await.expect("it ends in time").unwrap();
        let text = if output.status.success() { &output.stdout } else { &output.stderr };
        let said: Value = serde_json::from_slice(text).unwrap_or_else(|error| {
            panic!("{method} by {}: {error}: {}", self.protocol, String::from_utf8_lossy(text))
        });
        if output.status.success() { json!({"ok": said}) } else { said }
    }
}

/// The folder with the packages.
fn packages() -> Option<PathBuf> {
    let folder = env::var_os(PACKAGES).map(PathBuf::from).filter(|folder| folder.join("node_modules").is_dir());
    if folder.is_none() || on_path("node").is_none() {
        Ring::Outsiders.skip_or_fail(&format!(
            "node or the packages of tests/contract/outsiders are missing: install them, and set {PACKAGES}"
        ));
        return None;
    }
    folder
}

/// A customer's way through both services; the answers are those of proto3's JSON, whatever went over the wire.
async fn story(house: &House, caller: &mut impl Caller, sub: &str) {
    let other = format!("{sub}_other");
    let mut ask = async |who: &str, method: (&str, &str), request: Value| {
        let answer = caller.call(house, who, method, request.clone()).await;
        (
            answer["ok"].clone(),
            answer["code"].as_str().unwrap_or_default().to_owned(),
            format!("{sub}: {method:?} {request}: {answer}"),
        )
    };

    let (status, _, why) = ask(sub, (ROOM, "GetQueueStatus"), json!({"eventId": SHOW})).await;
    assert_eq!(status["state"], "open", "{why}");
    let (health, _, why) = ask(sub, (ROOM, "Health"), json!({})).await;
    assert!(health["status"].is_string(), "{why}");

    let (joined, _, why) = ask(sub, (ROOM, "EnqueueBooking"), json!({"eventId": SHOW, "seatCount": 2})).await;
    let id = joined["queueItemId"].as_str().unwrap_or_else(|| panic!("{why}")).to_owned();
    let (_, code, why) = ask(&other, (ROOM, "GetQueuePosition"), json!({"queueItemId": id})).await;
    assert!(["permission_denied", "not_found", "PermissionDenied", "NotFound"].contains(&code.as_str()), "{why}");
    let (_, code, why) = ask(sub, (ROOM, "EnqueueBooking"), json!({"eventId": SHOW, "seatCount": 10_000})).await;
    assert!(["invalid_argument", "InvalidArgument"].contains(&code.as_str()), "{why}");
    let mut token = None;
    for _ in 0..60 {
        let (place, _, why) = ask(sub, (ROOM, "GetQueuePosition"), json!({"queueItemId": id})).await;
        assert!(["waiting", "processing"].contains(&place["status"].as_str().unwrap_or_default()), "{why}");
        token = place["admissionToken"].as_str().map(str::to_owned);
        if token.is_some() {
            assert!(place["position"].as_u64() >= Some(1) && place["seatsAllowed"] == 2, "{why}");
            break;
        }
        sleep(Duration::from_millis(500)).await;
    }
    let token = token.unwrap_or_else(|| panic!("{sub} was not called"));

    let wish =
        json!({"eventId": SHOW, "quantity": 2, "idempotencyKey": format!("key-{sub}"), "reservationToken": token});
    let (made, _, why) = ask(sub, (RESERVATIONS, "CreateReservation"), wish).await;
    assert_eq!(made["status"], "RESERVATION_STATUS_HOLD", "{why}");
    let named = json!({"reservationId": made["reservationId"]});
    let (shown, _, why) = ask(sub, (RESERVATIONS, "GetReservation"), named.clone()).await;
    assert_eq!(shown["reservation"]["eventId"], SHOW, "{why}");
    let (all, _, why) = ask(sub, (RESERVATIONS, "ListReservations"), json!({})).await;
    assert_eq!(all["reservations"].as_array().map(Vec::len), Some(1), "{why}");
    let longer = json!({"reservationId": made["reservationId"], "extensionSeconds": 30});
    let (_, code, why) = ask(sub, (RESERVATIONS, "ExtendHold"), longer).await;
    assert_eq!(code, "", "{why}");
    let payment = json!({"reservationId": made["reservationId"], "paymentIntentId": "pi_unknown"});
    let (_, code, why) = ask(sub, (RESERVATIONS, "ConfirmReservation"), payment).await;
    assert!(!code.is_empty(), "an unknown payment confirms nothing: {why}");
    let (_, code, why) = ask(sub, (RESERVATIONS, "CancelReservation"), named).await;
    assert_eq!(code, "", "{why}");

    let (joined, _, why) = ask(&other, (ROOM, "EnqueueBooking"), json!({"eventId": SHOW, "seatCount": 1})).await;
    let id = joined["queueItemId"].as_str().unwrap_or_else(|| panic!("{why}")).to_owned();
    let mut left = String::new();
    for _ in 0..60 {
        let (_, code, _) = ask(&other, (ROOM, "CancelQueueItem"), json!({"queueItemId": id})).await;
        left = code;
        if left.is_empty() {
            break;
        }
        // His message has not become a place yet.
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(left, "", "{other} could not leave");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_node_calls_every_rpc_by_each_of_its_protocols() {
    let Some(packages) = packages() else { return };
    let house = House::open().await;
    for protocol in PROTOCOLS {
        let mut node = Node::start(&packages, protocol);
        story(&house, &mut node, &format!("usr_{}", protocol.replace('-', "_"))).await;
    }
    let mut node = Node::start(&packages, "connect-get");
    for (method, request) in [("GetQueueStatus", json!({"eventId": SHOW})), ("Health", json!({}))] {
        let answer = node.call(&house, "usr_1", (ROOM, method), request).await;
        assert!(answer["ok"].is_object(), "{method} by GET: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buf_curl_calls_every_rpc() {
    let Some(packages) = packages() else { return };
    let house = House::open().await;
    for protocol in ["connect", "grpcweb", "grpc"] {
        let mut buf = Buf { program: packages.join("node_modules/.bin/buf"), protocol };
        story(&house, &mut buf, &format!("usr_buf_{protocol}")).await;
    }
}
