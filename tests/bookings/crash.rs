//! A function is killed before and after each message of its transactions, each call to the bus and each call to a queue, and
//! what comes of it is what would have come anyway.
//!
//! The wire to PostgreSQL and the AWS endpoint share one tripwire, so that a point is a number among all that a function sends.
//! The process that dies is a real one and gets SIGKILL; the server hears that its connection is gone, as it does of any.

use std::{
    io::{self, Write},
    time::Instant,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use futures_util::{StreamExt, stream};
use local_stack::{
    mapping::Delivery,
    postgres::{Server, wire::Wire},
    process::Process,
    queue::Message,
    replay::attribute,
    tripwire::{Point, Side, Tripwire},
};
use serde_json::{Value, json};

use crate::house::{Desk, House, JANE, booking_with, cancellation};

/// Lanes side by side.
const SIDE_BY_SIDE: usize = 4;

/// Deliveries until all is done. More than so many do not converge.
const PATIENCE: usize = 60;

/// What the function that dies is handed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scenario {
    /// Three bookings: one lands, one finds its room taken and is paid, one was given up before it came.
    Creation,
    /// Two cancellations: of a booking that stands, and of one that has not come.
    Cancellation,
    /// Records of a topic: one lands, one is refused, one waits for its user and is parked, one is poison.
    CreationTopic,
    /// Records of a topic: cancellations of a booking that stands, of one that has not come, of one whose guest nobody knows
    /// yet, and poison.
    CancellationTopic,
}

impl Scenario {
    /// Whether the function that dies is that of cancellations.
    fn cancels(self) -> bool {
        matches!(self, Self::Cancellation | Self::CancellationTopic)
    }

    /// Whether it reads a topic.
    fn is_of_a_topic(self) -> bool {
        matches!(self, Self::CreationTopic | Self::CancellationTopic)
    }
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// The function is killed, and gets its messages again.
    Killed,
    /// It is killed, and the other function gets its event of the same booking before the messages come again.
    OtherFunctionFirst,
    /// It stands still, another environment gets a copy of every message, and the other function its event; then it is killed.
    BesideAnother,
}

/// With how statements are sent there.
const LANES: [(Scenario, Mode, &str); 10] = [
    (Scenario::Creation, Mode::Killed, "unnamed"),
    (Scenario::Creation, Mode::Killed, "prepared"),
    (Scenario::Creation, Mode::OtherFunctionFirst, "unnamed"),
    (Scenario::Creation, Mode::BesideAnother, "unnamed"),
    (Scenario::Cancellation, Mode::Killed, "unnamed"),
    (Scenario::Cancellation, Mode::Killed, "prepared"),
    (Scenario::Cancellation, Mode::OtherFunctionFirst, "unnamed"),
    (Scenario::Cancellation, Mode::BesideAnother, "unnamed"),
    (Scenario::CreationTopic, Mode::Killed, "unnamed"),
    (Scenario::CancellationTopic, Mode::Killed, "unnamed"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_dies_anywhere_leaves_nothing_lost_and_nothing_done_twice() {
    let Some(server) = Server::shared() else { return };
    let started = Instant::now();
    let lanes = stream::iter(LANES)
        .map(|(scenario, mode, statements)| tokio::spawn(every_point(server, scenario, mode, statements)));
    let lanes: Vec<_> = lanes.buffered(SIDE_BY_SIDE).collect().await;
    let mut table = String::from("\n");
    let mut points = 0;
    for ((scenario, mode, statements), requests) in LANES.iter().zip(lanes) {
        let requests = requests.unwrap_or_else(|error| panic!("{scenario:?}, {mode:?}, {statements}: {error}"));
        points += requests * Side::ALL.len();
        table += &format!(
            "{:<18} {:<20} {statements:<9} {requests:>4} requests\n",
            format!("{scenario:?}"),
            format!("{mode:?}")
        );
    }
    table += &format!("{points} points in {:.0} s\n", started.elapsed().as_secs_f64());
    // Not by a macro: the test harness shows what macros print only when a test fails.
    drop(io::stderr().write_all(table.as_bytes()));
    assert!(points > 300, "{points}");
}

/// Runs the scenario without a crash, and once for each point that this run showed. The answer is how many requests it has.
async fn every_point(server: &'static Server, scenario: Scenario, mode: Mode, statements: &str) -> usize {
    let wire = Wire::to(&server.host, server.port).await.unwrap();
    let changes = [("DB_PORT", wire.address().port().to_string()), ("DB_STATEMENTS", statements.to_owned())];
    let house = House::on(server.migrated().await.unwrap(), &changes).await;
    // Who stands still holds his locks, and nobody is to wait for them for seconds.
    let database = &house.database.name;
    house.run(&format!("ALTER ROLE holdfast_app IN DATABASE {database} SET lock_timeout = '100ms'")).await;
    let site = Site { house, wire };
    let requests = site.run(scenario, mode, 0, None).await;
    let points = (1..=requests).flat_map(|request| Side::ALL.map(|side| Point { request, side }));
    for (number, point) in (1..).zip(points) {
        site.run(scenario, mode, number, Some(point)).await;
    }
    requests
}

struct Site {
    house: House,
    wire: Wire,
}

/// The ids and the days of one run.
struct Run {
    number: usize,
}

impl Run {
    fn id(&self, name: &str) -> String {
        format!("{:03}-{name}", self.number)
    }

    /// A booking of Jane's, in two nights that no other run has.
    fn booking(&self, name: &str, room: &str) -> Value {
        booking_with(&self.id(name), self.stay(room, JANE))
    }

    /// What makes a booking one of this run.
    fn stay(&self, room: &str, user: &str) -> Value {
        let first = time::Date::from_ordinal_date(2026, 1).unwrap() + time::Duration::days(self.number as i64 * 3);
        let last = first + time::Duration::days(2);
        json!({"userId": user, "roomId": room, "startDate": first.to_string(), "endDate": last.to_string()})
    }

    fn cancellation(&self, name: &str) -> Value {
        cancellation(&self.id(name), JANE)
    }
}

impl Site {
    async fn run(&self, scenario: Scenario, mode: Mode, number: usize, point: Option<Point>) -> usize {
        let (house, run) = (&self.house, Run { number });
        let (desk, other) = match scenario.cancels() {
            false => (&house.created, &house.cancelled),
            true => (&house.cancelled, &house.created),
        };
        let new_guest = run.id("new@example.com");
        let waits = booking_with(&run.id("waits"), run.stay("103", &new_guest));
        let (events, others) = match scenario {
            Scenario::Creation => {
                house.book([run.booking("taken", "101")]).await[0].is("success");
                house.cancel([run.cancellation("gone")]).await[0].is("early");
                let events = [run.booking("lands", "102"), run.booking("refused", "101"), run.booking("gone", "103")];
                (events.to_vec(), run.cancellation("lands"))
            }
            Scenario::Cancellation => {
                house.book([run.booking("stands", "101")]).await[0].is("success");
                (vec![run.cancellation("stands"), run.cancellation("comes")], run.booking("comes", "102"))
            }
            Scenario::CreationTopic => {
                house.book([run.booking("taken", "101")]).await[0].is("success");
                let events =
                    [run.booking("lands", "102"), run.booking("refused", "101"), waits.clone(), json!("poison")];
                (events.to_vec(), run.cancellation("lands"))
            }
            Scenario::CancellationTopic => {
                house.book([run.booking("stands", "101")]).await[0].is("success");
                let of_the_new = cancellation(&run.id("waits"), &new_guest);
                let events = [run.cancellation("stands"), run.cancellation("comes"), of_the_new, json!("poison")];
                (events.to_vec(), run.booking("comes", "102"))
            }
        };
        self.warm(desk).await;
        let tripwire = Tripwire::default();
        self.wire.set_tripwire(tripwire.clone());
        house.stack.aws.set_tripwire(tripwire.clone());
        tripwire.arm(point);
        match scenario.is_of_a_topic() {
            false => self.by_queue(desk, other, &events, &others, mode, point, &tripwire).await,
            true => self.by_topic(desk, &run, &events, point, &tripwire).await,
        }
        let requests = tripwire.requests().len();
        assert_eq!(tripwire.has_tripped(), point.is_some(), "{point:?} was reached");
        self.wire.set_tripwire(Tripwire::default());
        house.stack.aws.set_tripwire(Tripwire::default());

        if scenario.is_of_a_topic() {
            house.run(&format!("INSERT INTO users (email, username) VALUES ('{new_guest}', '{new_guest}')")).await;
        }
        if mode != Mode::Killed && point.is_none() || scenario.cancels() && mode == Mode::Killed {
            send(other, [&others]);
        }
        if scenario == Scenario::CancellationTopic {
            send(other, [&waits]);
        }
        self.converge(desk).await;
        self.converge(other).await;
        self.keeps_its_promise(scenario, mode, &run).await;
        requests
    }

    /// Two warm environments with a connection each, so that what is counted is the work and not a start.
    async fn warm(&self, desk: &Desk) {
        let body = match desk.function.name() {
            "booking-created" => booking_with("warm", json!({"userId": "nobody@example.com"})),
            _ => cancellation("warm", "nobody@example.com"),
        };
        let record = json!({
            "messageId": "warm", "body": body.to_string(), "receiptHandle": "r", "attributes": {}, "messageAttributes": {},
            "eventSourceARN": "arn:aws:sqs:eu-west-1:000000000000:q",
        });
        let invoke = || desk.function.invoke(json!({ "Records": [record] }).to_string());
        let (one, two) = tokio::join!(invoke(), invoke());
        assert!(one.result.is_ok() && two.result.is_ok(), "{one:#?} {two:#?}");
    }

    /// Hands the events over in one batch, and does what the mode asks for when the tripwire is reached.
    #[allow(clippy::too_many_arguments, reason = "they are what a point is made of")]
    async fn by_queue(
        &self,
        desk: &Desk,
        other: &Desk,
        events: &[Value],
        others: &Value,
        mode: Mode,
        point: Option<Point>,
        tripwire: &Tripwire,
    ) {
        send(desk, events);
        let mapping = self.house.stack.map(desk.queue.clone(), desk.function.clone());
        let mut delivery = Box::pin(mapping.deliver_once());
        tokio::select! {
            delivery = &mut delivery => {
                assert!(point.is_none(), "{point:?} was not reached");
                return ended(delivery);
            }
            () = tripwire.tripped() => {}
        }
        let first: Vec<Process> = desk.function.processes_in_hand().into_iter().map(Process).collect();
        assert_eq!(first.len(), 1, "one environment is at work");
        match mode {
            Mode::Killed | Mode::OtherFunctionFirst => {}
            Mode::BesideAnother => {
                assert!(first[0].freeze() || cfg!(not(target_os = "linux")), "it stands still");
                send(desk, events);
                send(other, [others]);
                for desk in [desk, other] {
                    let mapping = self.house.stack.map(desk.queue.clone(), desk.function.clone());
                    ended(mapping.deliver_once().await);
                }
            }
        }
        first[0].kill();
        let killed = delivery.await.expect("a message was visible");
        assert!(killed.invocation.result.is_err(), "it is dead: {killed:#?}");
        self.wire.end_held();
        if mode == Mode::OtherFunctionFirst {
            send(other, [others]);
            self.converge(other).await;
        }
    }

    /// Hands the events over as Lambda does those of a partition, until the invocation succeeds.
    async fn by_topic(&self, desk: &Desk, run: &Run, events: &[Value], point: Option<Point>, tripwire: &Tripwire) {
        let text = |event: &Value| event.as_str().map_or_else(|| event.to_string(), str::to_owned);
        let records: Vec<Value> = (run.number * 10..)
            .zip(events)
            .map(|(offset, event)| {
                json!({"topic": "bookings", "partition": 0, "offset": offset, "value": BASE64_STANDARD.encode(text(event))})
            })
            .collect();
        let event = json!({"eventSource": "aws:kafka", "records": {"bookings-0": records}}).to_string();
        let mut invocation = Box::pin(desk.function.invoke(event.clone()));
        tokio::select! {
            invocation = &mut invocation => {
                assert!(point.is_none() && invocation.result.is_ok(), "{point:?}: {invocation:#?}");
                return;
            }
            () = tripwire.tripped() => {}
        }
        desk.function.processes_in_hand().into_iter().for_each(|process| Process(process).kill());
        assert!(invocation.await.result.is_err(), "it is dead");
        self.wire.end_held();
        for _ in 0..PATIENCE {
            if desk.function.invoke(event.clone()).await.result.is_ok() {
                return;
            }
        }
        panic!("the partition stands still");
    }

    /// Delivers what waits until nothing does.
    async fn converge(&self, desk: &Desk) {
        let mapping = self.house.stack.map(desk.queue.clone(), desk.function.clone());
        for _ in 0..PATIENCE {
            if !desk.queue.skip_wait() {
                return;
            }
            ended(mapping.deliver_once().await);
        }
        panic!("{:#?} do not end", desk.queue.messages());
    }

    async fn keeps_its_promise(&self, scenario: Scenario, mode: Mode, run: &Run) {
        let house = &self.house;
        let prefix = run.id("");
        let own = |texts: Vec<String>| -> Vec<String> {
            texts.into_iter().filter_map(|text| text.strip_prefix(&prefix).map(str::to_owned)).collect()
        };
        let expected: &[&str] = match (scenario, mode) {
            (Scenario::Creation, Mode::Killed) => {
                &["gone Cancelled", "lands Accepted", "refused Refused", "taken Accepted"]
            }
            (Scenario::Creation, Mode::OtherFunctionFirst | Mode::BesideAnother) => {
                &["gone Cancelled", "lands Cancelled", "refused Refused", "taken Accepted"]
            }
            (Scenario::Cancellation, _) => &["comes Cancelled", "stands Cancelled"],
            (Scenario::CreationTopic, _) => &["lands Accepted", "refused Refused", "taken Accepted", "waits Accepted"],
            (Scenario::CancellationTopic, _) => &["comes Cancelled", "stands Cancelled", "waits Cancelled"],
        };
        assert_eq!(own(house.rows().await), expected);
        let (refund, refused) = (run.id("refused#refund"), run.id("refused#refused"));
        let mut told: Vec<String> = house.told().into_iter().filter(|told| told.contains(&prefix)).collect();
        told.sort();
        told.dedup();
        let once = [
            format!("booking.refused booking.created#{refused}"),
            format!("payment.refund_requested booking.created#{refund}"),
        ];
        let expected: &[String] = if scenario.cancels() { &[] } else { &once };
        assert_eq!(told, expected);
        let unmarked = house.texts(
            "SELECT booking_id FROM holdfast.inbox WHERE outcome IS NULL OR (outcome = 'Refused' AND refund_requested_at IS NULL)",
        );
        assert_eq!(own(unmarked.await), Vec::<String>::new(), "all of it is noted as done");

        let mut dead: Vec<String> = Vec::new();
        for desk in [&house.created, &house.cancelled] {
            let told = |name: &str, letter| attribute(letter, name).unwrap_or_default().to_owned();
            let letters = desk.dead_letters.messages();
            dead.extend(
                letters.iter().map(|letter| told("error_code", letter) + " " + &told("source_message_id", letter)),
            );
            for letter in desk.dead_letters.receive(10) {
                desk.dead_letters.delete(&letter.receipt).unwrap();
            }
        }
        dead.dedup();
        let poison = [format!("malformed_body bookings-0@{}", run.number * 10 + 3)];
        let expected: &[String] = if scenario.is_of_a_topic() { &poison } else { &[] };
        assert_eq!(dead, expected, "nothing but the poison is dead, whatever number of copies of it");
    }
}

fn send<'a>(desk: &Desk, events: impl IntoIterator<Item = &'a Value>) {
    for event in events {
        desk.queue.send(Message::new(event.to_string())).expect("SQS takes it");
    }
}

/// A delivery ends with an answer.
#[track_caller]
fn ended(delivery: Option<Delivery>) {
    let delivery = delivery.expect("a message is visible");
    assert!(delivery.invocation.result.is_ok(), "{delivery:#?}");
}
