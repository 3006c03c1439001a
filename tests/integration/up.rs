//! `cargo local up`: a person pastes the lines that it prints, and sees there what they lead to.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use local_stack::{
    build::workspace,
    inventory::SeatState,
    payments::DELAY,
    replay,
    reservations::Status,
    ring::{Ring, on_path},
    scenario::{Given, Known},
    stack::Stack,
    till::Till,
};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use crate::{harness::binaries, reflection::services_at};

/// The running program, and the lines that it prints.
struct Up {
    _program: Child,
    lines: mpsc::UnboundedReceiver<String>,
    seen: Vec<String>,
}

impl Up {
    fn start() -> Self {
        let ports = ["gateway", "grpc", "inventory", "issuer", "payment", "invoke", "push"]
            .map(|name| format!("--{name}-port=0"));
        let mut program = Command::new(env!("CARGO_BIN_EXE_local"));
        // A test builds no PostgreSQL.
        program.current_dir(workspace()).args(["up", "--no-sidecar"]).args(ports);
        program.stdout(Stdio::piped()).kill_on_drop(true);
        let mut program = program.spawn().expect("the program starts");
        let output = program.stdout.take().expect("its output is ours");
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                drop(sender.send(line));
            }
        });
        Self { _program: program, lines, seen: Vec::new() }
    }

    /// Waits until a line is printed that holds all of these.
    async fn says(&mut self, parts: &[&str]) {
        let started = Instant::now();
        let is_said = |line: &String| parts.iter().all(|part| line.contains(part));
        while !self.seen.iter().any(is_said) {
            let left = Duration::from_secs(20).saturating_sub(started.elapsed());
            let line = tokio::time::timeout(left, self.lines.recv()).await;
            let line = line.unwrap_or_else(|_| panic!("no line with {parts:?} in {:#?}", self.seen));
            self.seen.push(line.unwrap_or_else(|| panic!("it ended after {:#?}", self.seen)));
        }
    }

    /// The indented lines that were printed before any change, which are those to paste.
    fn pasted(&self) -> Vec<String> {
        let lines = self.seen.iter().filter_map(|line| line.strip_prefix("  "));
        lines.filter(|line| line.contains("curl -s") || line.starts_with("API=")).map(str::to_owned).collect()
    }
}

/// Where something listens, by what it is called in these lines.
fn address<'l>(name: &str, seen: &'l [String]) -> &'l str {
    let line = seen.iter().find_map(|line| line.trim_start().strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("no {name} in {seen:#?}"));
    word.trim_end_matches(',')
}

/// The story as a person without options reads it.
fn by_default(lines: &[String], seen: &[String]) -> Vec<String> {
    let of = |name: &str| address(name, seen);
    let ports = [(of("the API"), "http://127.0.0.1:8020"), (of("payments"), "http://127.0.0.1:8023")];
    let line = |line: &String| {
        let line = ports.iter().fold(line.clone(), |line, (found, usual)| line.replace(found, usual));
        match line.split_once(" --issuer-port ") {
            Some((before, after)) => format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => line,
        }
    };
    lines.iter().map(line).collect()
}

/// What bash makes of these lines, one after the other.
async fn bash(lines: &[String]) -> String {
    let script = lines.join("\n").replace("cargo local", concat!("'", env!("CARGO_BIN_EXE_local"), "'"));
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", &script]).output().await.expect("there is a bash");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{said}\n{errors}");
    said.into_owned()
}

#[tokio::test]
async fn the_printed_lines_sell_seats_and_give_others_back() {
    if on_path("curl").is_none() || on_path("bash").is_none() {
        return Ring::Up.skip_or_fail("the printed lines are for bash and curl, and one of them is missing");
    }
    binaries(); // What it builds is there then, and its start takes no minute.
    let mut up = Up::start();
    up.says(&["Ctrl-C ends it"]).await;
    let (bookings, lines): (Vec<String>, Vec<String>) =
        up.pasted().into_iter().partition(|line| line.contains("booking.created"));
    let [story @ .., sweep] = lines.as_slice() else { panic!("{:#?}", up.seen) };
    assert_eq!(story.len(), 6, "{story:#?}");
    let readme = fs::read_to_string(workspace().join("README.md")).expect("there is a README");
    for line in by_default(&story[..4], &up.seen) {
        assert!(readme.contains(&line), "README.md has to show {line}");
    }

    let services = services_at(address("by gRPC", &up.seen)).await;
    assert!(services.iter().any(|name| name == "reservation.v1.ReservationService"), "{services:?}");

    let said = bash(story).await;
    let said: Vec<&str> = said.lines().collect();
    let [bought, paid, shown, given_up, cancelled] = said[..] else { panic!("{said:#?}") };
    assert!(bought.starts_with("rsv_") && given_up.starts_with("rsv_") && bought != given_up, "{said:#?}");
    assert!(paid.contains("\"COMPLETED\""), "{paid}");
    assert!(shown.contains("\"CONFIRMED\"") && shown.contains(bought), "{shown}");
    assert!(cancelled.contains("\"CANCELLED\""), "{cancelled}");
    up.says(&[bought, "HOLD"]).await;
    up.says(&["on the bus: payment.approved", bought]).await;
    up.says(&["payment-approved: success", bought]).await;
    up.says(&[bought, "CONFIRMED", "sold"]).await;
    up.says(&["on the bus: reservation.cancelled", given_up]).await;
    assert_eq!(bash(std::slice::from_ref(sweep)).await, "null");
    book(&mut up, &bookings).await;
}

/// What is printed of bookings, where there is a PostgreSQL.
async fn book(up: &mut Up, lines: &[String]) {
    if let Some(why) = up.seen.iter().find(|line| line.starts_with("Bookings are left out")) {
        return Ring::Postgres.skip_or_fail(why);
    }
    if on_path("psql").is_none() {
        return Ring::Postgres.skip_or_fail("a printed line is for psql, which is missing");
    }
    let mut shown = up.seen.iter().filter_map(|line| line.strip_prefix("  "));
    let look = shown.find(|line| line.contains("psql")).expect("a look at the rows").to_owned();
    let said = bash(lines).await;
    assert!(said.contains("\"FailedEntryCount\":0"), "{said}");
    up.says(&["on the bus: booking.created b1"]).await;
    up.says(&["booking-created: success b1"]).await;
    let said = bash(&[look]).await;
    assert!(said.contains("b1") && said.contains("Accepted"), "{said}");
}

#[tokio::test]
async fn each_course_of_a_payment_begins_at_the_till() {
    let stack = Stack::start().await.unwrap();
    let till = Till::start_on(0, stack.clone()).await.unwrap();
    let given = Given {
        reservation_id: "rsv_1".to_owned(),
        event_id: "evt_1".to_owned(),
        user_id: "usr_1".to_owned(),
        status: Status::Hold,
        seat_ids: vec!["A-1".to_owned(), "A-2".to_owned()],
        quantity: 2,
        payment_intent_id: None,
        seats: SeatState::Held,
    };
    replay::put(&stack, &Known { given, key: None, seconds_ago: 0, untold: false }).await.unwrap();
    let http = Client::builder().no_proxy().build().unwrap();
    let pay = async |course: &str| -> (u16, Value) {
        let answer = http.post(format!("{}/{course}", till.url())).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    };
    for (course, status) in
        [("approve", "COMPLETED"), ("fail", "FAILED"), ("delay", "PROCESSING"), ("timeout", "PROCESSING")]
    {
        let (code, body) = pay(&format!("{course}/rsv_1")).await;
        assert_eq!((code, &body["status"], &body["amount"]), (200, &json!(status), &json!(7_600)), "{course}: {body}");
    }
    let told = || -> Vec<String> { stack.aws.bus_entries().into_iter().map(|entry| entry.detail_type).collect() };
    assert_eq!(told(), ["payment.approved", "payment.failed"]);
    tokio::time::sleep(DELAY + Duration::from_millis(500)).await;
    assert_eq!(told(), ["payment.approved", "payment.failed", "payment.approved"], "of the last one nobody hears");
    assert_eq!(stack.aws.bus_entries()[0].detail["user_id"], "usr_1");

    let (code, body) = pay("approve/rsv_2").await;
    assert!(code == 404 && body["message"].as_str().unwrap().contains("rsv_2"), "{body}");
    assert_eq!(pay("steal/rsv_1").await.0, 400);
}
