//! The waiting room's functions behind their queues, with the real table, and with the real reservation API behind its gateway:
//! whoever joins has one place, nobody is called for whom there is no ticket, and a turn that ran out goes on to the next.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use local_stack::{
    aws::Injected,
    gateway::{Gateway, Issuer, Target},
    lambda::{Function, FunctionOptions},
    queue::{Message, Queue},
    sale,
    stack::{RESERVATIONS, Stack, WAITING_ROOM, WAITING_ROOM_KEYS},
    template::Template,
    tripwire::Tripwire,
};
use serde_json::{Value, json};
use shared::{
    reservation::{Status, lifecycle::Reservation, table::Table as Reservations},
    waiting_room::{
        Moment,
        id::{PlaceId, PlaceKeys},
        line::{Line, Scope, Settings},
        message::{JoinMessage, TickMessage},
        place::{Change, Entry, State, Turn},
        sequence::sequence,
        table::{Join, Replaced, Table, Written},
    },
};

use crate::harness::{binaries, log_lines, while_held, wire_before};

pub(crate) const SHOW: &str = "evt_1";
pub(crate) const JOINED: &str = waiting_room_joined::NAME;
pub(crate) const TICKED: &str = waiting_room_ticked::NAME;
const SETTLED: &str = waiting_room_settled::NAME;
const CLOCK: &str = waiting_room_clock::NAME;
const TRANSACT: &str = "DynamoDB_20120810.TransactWriteItems";
const UPDATE: &str = "DynamoDB_20120810.UpdateItem";
pub(crate) const MINUTE: u64 = 60_000;

/// A waiting room with everything around it.
pub(crate) struct Room {
    pub(crate) stack: Stack,
    pub(crate) table: Table,
    reservations: Reservations,
    pub(crate) functions: BTreeMap<&'static str, Function>,
    pub(crate) queues: BTreeMap<&'static str, Queue>,
    expiries: Queue,
    pub(crate) scope: Scope,
    /// From when people reach the gateway: the same for all, also when a minute ends between two of them.
    arrivals_from: Moment,
    _gateway: (Gateway, Issuer),
}

/// How a record ended: its outcome, and whether its message stayed.
pub(crate) type Ended = (String, bool);

pub(crate) fn now() -> Moment {
    shared::deadline::epoch_ms(SystemTime::now())
}

pub(crate) fn settings(tickets: u32) -> Settings {
    let (opens_at, closes_at) = (now() - 10 * MINUTE, now() + 60 * MINUTE);
    Settings { tickets, seats_max: 4, max_inside: None, opens_at, closes_at, paused: false, draws: false }
}

pub(crate) fn ended(outcome: &str) -> Ended {
    (outcome.to_owned(), outcome == "retried")
}

impl Room {
    /// A room with an open line of so many tickets.
    pub(crate) async fn of(tickets: u32) -> Self {
        let room = Self::open(&[]).await;
        room.line_with(settings(tickets)).await;
        room
    }

    /// A room without a line, whose functions have these variables too.
    pub(crate) async fn open(changes: &[(&str, &str)]) -> Self {
        let stack = Stack::start().await.unwrap();
        let client = stack.aws.tables();
        let (template, issuer) = (Template::read().unwrap(), Issuer::start_on(0).await.unwrap());
        let deploy = |name: &str, environment| {
            let binary = binaries()[name].clone();
            stack.deploy_with(name, binary, 4, environment).unwrap()
        };
        let api = deploy(reservation_api::NAME, stack.environment(reservation_api::NAME));
        let targets = BTreeMap::from([(reservation_api::NAME.to_owned(), Target::Function(api))]);
        let gateway = Gateway::start(sale::options(&template, &issuer, targets, 0).unwrap()).await.unwrap();
        let functions = [JOINED, TICKED, SETTLED, CLOCK].map(|name| {
            let mut environment = stack.environment(name);
            environment.insert("RESERVATION_API_BASE".to_owned(), gateway.url());
            environment.insert("RESERVATION_API_AUTH".to_owned(), "iam".to_owned());
            environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            (name, deploy(name, environment))
        });
        let queues = [JOINED, TICKED, SETTLED].map(|name| (name, stack.queue(name))).into();
        let expiries = stack.queue("reservation-expired");
        Self {
            table: Table::new(client.clone(), WAITING_ROOM),
            reservations: Reservations::new(client, RESERVATIONS),
            functions: functions.into(),
            queues,
            expiries,
            scope: Scope { show_id: SHOW.to_owned(), generation: 1, key_version: 1 },
            arrivals_from: now() - MINUTE,
            stack,
            _gateway: (gateway, issuer),
        }
    }

    pub(crate) async fn line_with(&self, settings: Settings) {
        let line = Line::open(self.scope.clone(), settings).unwrap();
        assert_eq!(self.table.open(&line).await.unwrap(), Written::Made);
    }

    pub(crate) async fn line(&self) -> Line {
        self.table.line(SHOW).await.unwrap().unwrap()
    }

    /// What an operator opens after the line that is there.
    fn next_line(&self) -> Line {
        let scope = Scope { generation: self.scope.generation + 1, ..self.scope.clone() };
        Line::open(scope, settings(1)).unwrap()
    }

    pub(crate) async fn set(&self, change: impl FnOnce(&mut Settings)) {
        let line = self.line().await;
        let mut settings = line.settings.clone();
        change(&mut settings);
        assert_eq!(self.table.set(&line.set(settings, now()).unwrap()).await.unwrap(), Written::Made);
    }

    /// Somebody who reached the gateway a minute before the room was opened, and so many milliseconds later.
    pub(crate) fn join(&self, user_id: &str, seats: u8, arrival: u64) {
        let message = JoinMessage {
            scope: self.scope.clone(),
            user_id: user_id.to_owned(),
            seats,
            arrival: self.arrivals_from + arrival,
            request: None,
        };
        self.queues[JOINED].send(Message::new(message.body())).unwrap();
    }

    /// People who joined in this order, and have their places.
    pub(crate) async fn seated(&self, people: &[(&str, u8)]) {
        for (at, (user_id, seats)) in (1..).zip(people) {
            self.join(user_id, *seats, at);
        }
        while !self.queues[JOINED].is_empty() {
            self.deliver(JOINED).await;
        }
        self.tick().await;
    }

    /// Delivers a batch of what waits for a function, however long it would have to wait.
    pub(crate) async fn deliver(&self, name: &str) -> Vec<Ended> {
        let (queue, function) = (&self.queues[name], &self.functions[name]);
        queue.skip_wait();
        let delivery = self.stack.map(queue.clone(), function.clone()).deliver_once().await.expect("a message waits");
        let lines = log_lines(&delivery.invocation.logs);
        let ended = |id: &String| {
            let of_record = lines.iter().find(|line| line["message_id"] == **id && line["outcome"].is_string());
            let of_record = of_record.unwrap_or_else(|| panic!("{id} has no outcome in {lines:#?}"));
            (of_record["outcome"].as_str().unwrap().to_owned(), delivery.verdict.keeps(id))
        };
        delivery.batch.iter().map(ended).collect()
    }

    /// Works the line once.
    pub(crate) async fn tick(&self) -> Ended {
        let body = TickMessage { show_id: SHOW.to_owned() }.body();
        self.queues[TICKED].send(Message::new(body)).unwrap();
        self.deliver(TICKED).await.remove(0)
    }

    /// What the places are, in order: letter and seats of those whose turn has come.
    pub(crate) async fn places(&self) -> String {
        let pages = self.table.pages(&self.line().await, 0).await.unwrap();
        let entries: Vec<String> =
            pages.entries.values().map(|entry| entry.to_string().split(':').next().unwrap().to_owned()).collect();
        entries.join(" ")
    }

    /// A tick whose request of this number is held until something else is done.
    async fn tick_that_is_held_at(&self, request: usize, meanwhile: impl AsyncFn()) -> Ended {
        let wire = wire_before(request);
        self.stack.aws.set_tripwire(wire.clone());
        tokio::join!(self.tick(), while_held(&wire, meanwhile())).0
    }

    pub(crate) async fn entry(&self, position: u64) -> Entry {
        self.table.entry(&self.scope, position).await.unwrap().unwrap()
    }

    pub(crate) async fn replace(&self, position: u64, to: Entry) {
        let from = self.entry(position).await;
        assert_eq!(self.table.replace(&self.scope, position, from, to).await.unwrap(), Replaced::Made);
    }

    /// The customer asks, and is let in for a minute.
    async fn claim(&self, position: u64) -> Turn {
        let claimed = self.entry(position).await.after(Change::Claim { until: now() + MINUTE }).unwrap();
        self.replace(position, claimed).await;
        self.turn(position).await
    }

    /// The time of what a place is now is over.
    pub(crate) async fn run_out(&self, position: u64) {
        let entry = self.entry(position).await;
        self.replace(position, Entry { deadline: now() - 1, ..entry }).await;
    }

    pub(crate) async fn turn(&self, position: u64) -> Turn {
        let standing = self.table.standing(&self.line().await, &[position].into()).await.unwrap();
        Turn { id: standing[&position].id, position, call: self.entry(position).await.call }
    }

    /// Puts a reservation of this turn in the place of what there is.
    pub(crate) async fn reserve(&self, turn: Turn, status: Status, held: bool, until: Moment) {
        let id = turn.reservation_id();
        let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}});
        self.stack.aws.dynamodb("DeleteItem", &key).await.unwrap();
        let bare = Reservation::tombstone(&id, now());
        let reservation = Reservation {
            user_id: "usr".to_owned(),
            show_id: SHOW.to_owned(),
            quantity: 1,
            status,
            fingerprint: "a wish".to_owned(),
            held_at: held.then(now),
            hold_expires_at: until,
            ..bare
        };
        self.reservations.create(&reservation).await.unwrap();
    }

    async fn status_of(&self, turn: Turn) -> Option<Status> {
        self.reservations.get(&turn.reservation_id()).await.unwrap().map(|found| found.status)
    }

    /// An event about the reservation of a turn, delivered.
    pub(crate) async fn told_of(&self, turn: Turn, detail_type: &str) -> Ended {
        let detail = json!({
            "event_id": SHOW, "reservation_id": turn.reservation_id(), "queue_item_id": turn.id.to_string(),
        });
        let body = json!({"version": "0", "source": "holdfast", "detail-type": detail_type, "detail": detail});
        self.queues[SETTLED].send(Message::new(body.to_string())).unwrap();
        self.deliver(SETTLED).await.remove(0)
    }

    /// What was told of the line: the kind of each event, and of whom.
    fn told(&self) -> Vec<String> {
        let entries = self.stack.aws.bus_entries().into_iter();
        let told = |detail: &Value| detail["user_id"].as_str().unwrap_or("all").to_owned();
        entries.map(|entry| format!("{} {}", entry.detail_type, told(&entry.detail))).collect()
    }

    pub(crate) fn id(&self, user_id: &str) -> PlaceId {
        PlaceKeys::read(WAITING_ROOM_KEYS).unwrap().id(&self.scope, user_id).unwrap()
    }

    async fn positions(&self, people: &[&str]) -> Vec<Option<u64>> {
        let line = self.line().await;
        let mut positions = Vec::new();
        for user_id in people {
            let id = self.id(user_id);
            let arrival = self.table.item(id).await.unwrap().unwrap().arrival;
            positions.push(self.table.position(&line, id, arrival).await.unwrap());
        }
        positions
    }
}

#[tokio::test]
async fn copies_of_a_join_are_one_place_at_the_first_arrival() {
    let room = Room::of(10).await;
    room.join("usr_1", 1, 30);
    room.join("usr_2", 1, 20);
    room.join("usr_1", 1, 10);
    let mut outcomes = room.deliver(JOINED).await;
    outcomes.sort();
    assert_eq!(outcomes, [ended("duplicate"), ended("success"), ended("success")]);
    room.join("usr_2", 4, 1);
    assert_eq!(room.deliver(JOINED).await, [ended("duplicate")], "in a later batch too");
    assert_eq!(room.tick().await, ended("success"));
    assert_eq!(room.line().await.joined, 2);
    assert_eq!(room.positions(&["usr_1", "usr_2"]).await, [Some(1), Some(2)]);
}

#[tokio::test]
async fn one_bad_join_of_a_batch_is_buried_alone_and_the_others_have_their_places() {
    let room = Room::of(10).await;
    room.join("usr_1", 1, 1);
    room.queues[JOINED].send(Message::new("no json")).unwrap();
    let stray = JoinMessage {
        scope: Scope { show_id: "evt_none".to_owned(), ..room.scope.clone() },
        user_id: "usr_9".to_owned(),
        seats: 1,
        arrival: now(),
        request: None,
    };
    room.queues[JOINED].send(Message::new(stray.body())).unwrap();
    room.join("usr_2", 1, 2);
    let outcomes = room.deliver(JOINED).await;
    assert_eq!(outcomes, ["success", "rejected", "rejected", "success"].map(ended));
    let buried = room.stack.dead_letters(JOINED).messages();
    let codes = |message: &local_stack::queue::Snapshot| message.attributes["error_code"].string_value.clone();
    let mut codes: Vec<_> = buried.iter().filter_map(codes).collect();
    codes.sort();
    assert_eq!(codes, ["malformed_body", "unknown_line"]);
    assert!(buried.iter().any(|message| message.body == stray.body()), "byte for byte, so that it keeps its arrival");
}

#[tokio::test]
async fn a_join_whose_answer_was_lost_is_one_place() {
    let room = Room::of(10).await;
    for failure in [Injected::LostAnswer, Injected::Silence] {
        for _ in 0..2 {
            room.stack.aws.fail_next(TRANSACT, failure.clone());
        }
        room.join(&format!("usr_{failure:?}"), 1, 1);
        // The client asks twice; both answers, or both requests, are lost.
        let first = room.deliver(JOINED).await;
        assert_eq!(first, [ended("retried")], "{failure:?}");
        let (_, wait) = room.queues[JOINED].visibility_changes().pop().unwrap();
        assert!(wait <= Duration::from_secs(2), "{wait:?}");
        let expected = if failure == Injected::LostAnswer { "duplicate" } else { "success" };
        assert_eq!(room.deliver(JOINED).await, [ended(expected)], "{failure:?}");
    }
    room.tick().await;
    assert_eq!(room.line().await.joined, 2);
}

#[tokio::test]
async fn a_join_is_tried_until_its_line_closes_however_often() {
    let room = Room::of(10).await;
    room.stack.aws.fail_next("DynamoDB_20120810.GetItem", Injected::Silence);
    room.stack.aws.fail_next("DynamoDB_20120810.GetItem", Injected::Silence);
    let join = JoinMessage {
        scope: room.scope.clone(),
        user_id: "usr_1".to_owned(),
        seats: 1,
        arrival: now() - MINUTE,
        request: None,
    };
    room.queues[JOINED].send(Message { received_before: 11, ..Message::new(join.body()) }).unwrap();
    assert_eq!(room.deliver(JOINED).await[0].0, "retried");
    assert!(room.stack.dead_letters(JOINED).is_empty(), "on its last receive too it is not given up");
    let mut messages = room.queues[JOINED].messages();
    assert_eq!(messages.pop().map(|message| message.body), Some(join.body()), "it keeps its arrival");
    room.set(|settings| settings.closes_at = now()).await;
    assert_eq!(room.deliver(JOINED).await, [ended("superseded")]);
}

#[tokio::test]
async fn a_join_that_finds_no_time_on_its_last_receive_is_sent_anew() {
    let mut room = Room::of(10).await;
    let function = room.functions[JOINED].clone();
    // Less than its calls may take, so that none of its records can start.
    let hurried = FunctionOptions { timeout: Duration::from_secs(5), ..function.options().clone() };
    room.functions.insert(JOINED, Function::start(hurried).unwrap());
    room.join("usr_1", 1, 1);
    let first = room.queues[JOINED].messages().remove(0);
    for received_before in [3, 11] {
        let receipt = room.queues[JOINED].receive(1).remove(0).receipt;
        room.queues[JOINED].delete(&receipt).unwrap();
        room.queues[JOINED].send(Message { received_before, ..Message::new(first.body.clone()) }).unwrap();
        assert_eq!(room.deliver(JOINED).await[0].0, "retried", "receive {}", received_before + 1);
        let waits = room.queues[JOINED].messages();
        assert_eq!((waits.len(), &waits[0].body), (1, &first.body), "it keeps its arrival");
        assert!(waits[0].visible_in <= Duration::from_secs(2), "{:?}", waits[0].visible_in);
        room.queues[JOINED].skip_wait();
    }
    assert!(room.stack.dead_letters(JOINED).is_empty());
    room.functions.insert(JOINED, function);
    assert_eq!(room.deliver(JOINED).await, [ended("success")]);
}

#[tokio::test]
async fn whoever_reached_the_gateway_first_stands_first_however_the_messages_came() {
    let room = Room::of(10).await;
    for (user_id, arrival) in [("usr_3", 30), ("usr_1", 10), ("usr_2", 20)] {
        room.join(user_id, 1, arrival);
        room.deliver(JOINED).await;
    }
    room.tick().await;
    assert_eq!(room.positions(&["usr_1", "usr_2", "usr_3"]).await, [Some(1), Some(2), Some(3)]);
    room.join("usr_late", 1, 15);
    room.deliver(JOINED).await;
    room.tick().await;
    assert_eq!(room.positions(&["usr_late", "usr_1"]).await, [Some(4), Some(1)], "a told position never changes");
}

#[tokio::test]
async fn who_joins_in_the_same_millisecond_stands_by_name() {
    let room = Room::of(10).await;
    let mut people = ["usr_1", "usr_2", "usr_3", "usr_4"];
    for user_id in people {
        room.join(user_id, 1, 5);
    }
    room.deliver(JOINED).await;
    room.tick().await;
    people.sort_by_key(|user_id| room.id(user_id));
    assert_eq!(room.positions(&people).await, [Some(1), Some(2), Some(3), Some(4)]);
}

#[tokio::test]
async fn no_more_are_called_than_there_are_tickets_and_the_others_wait() {
    let room = Room::of(3).await;
    room.seated(&[("usr_1", 2), ("usr_2", 1), ("usr_3", 1)]).await;
    assert_eq!(room.places().await, "C2 C1");
    assert_eq!(room.told(), ["place.called usr_1", "place.called usr_2"]);
    assert_eq!(room.tick().await, ended("success"));
    assert_eq!(room.places().await, "C2 C1");
    let line = room.line().await;
    assert_eq!((line.serving, line.taken, line.inside, line.free()), (2, 3, 2, 0));
}

#[tokio::test]
async fn a_group_at_the_head_waits_while_something_may_come_back_and_is_then_offered_less() {
    let room = Room::of(3).await;
    room.seated(&[("usr_1", 1), ("usr_2", 4), ("usr_3", 1)]).await;
    assert_eq!(room.places().await, "C1", "nobody overtakes the group");
    let turn = room.claim(1).await;
    room.reserve(turn, Status::Confirmed, true, now()).await;
    assert_eq!(room.told_of(turn, "reservation.confirmed").await, ended("success"));
    room.tick().await;
    assert_eq!(room.places().await, "S1 C2");
}

#[tokio::test]
async fn who_does_not_answer_is_passed_and_called_again_twice_when_he_comes_back() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    for call in 1..=3 {
        assert_eq!(room.entry(1).await.call, call);
        room.run_out(1).await;
        room.tick().await;
        assert_eq!(room.entry(1).await.state, State::Passed);
        // The ticket goes on at once, and comes back because the second one leaves.
        let second = room.entry(2).await;
        assert_eq!(second.state, State::Called);
        room.replace(2, second.after(Change::GiveUp { at: now() }).unwrap()).await;
        let line = room.line().await;
        let standing = room.table.standing(&room.line().await, &[1].into()).await.unwrap();
        room.table.come_back(&line, 1, standing[&1]).await.unwrap();
        room.tick().await;
        let first = room.entry(1).await;
        if call < 3 {
            assert_eq!(first.state, State::Called, "called again, {call} times absent");
            room.replace(2, second).await;
            room.replace(2, Entry { deadline: now() + MINUTE, state: State::Passed, passed: 0, ..second }).await;
            let standing = room.table.standing(&room.line().await, &[2].into()).await.unwrap();
            room.table.come_back(&room.line().await, 2, standing[&2]).await.unwrap();
        } else {
            assert_eq!(first.state, State::Passed, "absent three times");
        }
    }
    assert_eq!(room.told().iter().filter(|told| *told == "place.passed usr_1").count(), 3);
}

#[tokio::test]
async fn a_turn_that_ran_out_is_ended_at_the_reservation_api_and_its_ticket_goes_on() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    let turn = room.claim(1).await;
    assert_eq!(room.tick().await, ended("success"));
    assert_eq!(room.status_of(turn).await, None, "not before its time");
    room.run_out(1).await;
    room.tick().await;
    assert_eq!(room.status_of(turn).await, Some(Status::Expired));
    assert_eq!(room.places().await, "F1");
    let item = room.table.item(turn.id).await.unwrap().unwrap();
    assert!(item.ended_at.is_some(), "he may join anew");
    room.tick().await;
    assert_eq!(room.places().await, "F1 C1");
    assert!(room.told().contains(&"place.settled usr_1".to_owned()), "{:?}", room.told());
}

#[tokio::test]
async fn a_tombstone_whose_place_was_not_written_is_found_by_the_next_tick() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1)]).await;
    let turn = room.claim(1).await;
    // A look, so that the API has started; then its own write, which is the tombstone, and that of the place.
    assert_eq!(room.told_of(turn, "reservation.created").await, ended("duplicate"));
    room.run_out(1).await;
    room.stack.aws.fail_after(1, UPDATE, Injected::Silence);
    room.stack.aws.fail_next(UPDATE, Injected::Silence);
    assert_eq!(room.tick().await, ended("success"));
    assert_eq!((room.status_of(turn).await, room.places().await), (Some(Status::Expired), "A1".to_owned()));
    room.tick().await;
    assert_eq!(room.places().await, "F1");
}

#[tokio::test]
async fn a_reservation_of_a_turn_that_ran_out_is_not_taken_back() {
    for (status, held, place) in [
        (Status::Pending, false, "H1"),
        (Status::Hold, true, "H1"),
        (Status::Confirmed, true, "S1"),
        (Status::Cancelled, true, "F1"),
        (Status::Expired, false, "F1"),
    ] {
        let room = Room::of(1).await;
        room.seated(&[("usr_1", 1)]).await;
        let turn = room.claim(1).await;
        room.reserve(turn, status.clone(), held, now() + MINUTE).await;
        room.run_out(1).await;
        room.tick().await;
        assert_eq!(room.places().await, place, "{status:?}");
        assert_eq!(room.status_of(turn).await, Some(status));
    }
}

#[tokio::test]
async fn while_the_reservation_api_is_away_a_turn_stays_and_its_ticket_waits() {
    let room = Room::open(&[("RESERVATION_API_BASE", "http://127.0.0.1:9")]).await;
    room.line_with(settings(1)).await;
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    room.claim(1).await;
    room.run_out(1).await;
    assert_eq!(room.tick().await, ended("success"));
    assert_eq!(room.places().await, "A1");
    let lines = log_lines(&room.functions[TICKED].all_logs());
    assert!(lines.iter().any(|line| line["booking_worker_errors_total"] == 1), "it is counted");
}

#[tokio::test]
async fn a_hold_that_is_open_after_its_deadline_gets_its_timer_again() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1)]).await;
    let turn = room.claim(1).await;
    let ended_at = now() - MINUTE;
    room.reserve(turn, Status::Hold, true, ended_at).await;
    room.run_out(1).await;
    room.tick().await;
    let timers = room.expiries.messages();
    assert_eq!(timers.len(), 1);
    let timer: Value = serde_json::from_str(&timers[0].body).unwrap();
    assert_eq!(timer["detail-type"], "reservation.expired");
    assert_eq!(timer["detail"]["reservation_id"], turn.reservation_id());
    let held = room.entry(1).await;
    assert!(held.state == State::Holding && held.deadline > now(), "{held:?}");
    room.tick().await;
    assert_eq!(room.expiries.len(), 1, "it is asked again after half a minute, and not each second");
}

#[tokio::test]
async fn two_ticks_at_once_give_each_place_once_and_call_nobody_twice() {
    let room = Room::of(5).await;
    for at in 0..40 {
        room.join(&format!("usr_{at}"), 1, at);
    }
    while !room.queues[JOINED].is_empty() {
        room.deliver(JOINED).await;
    }
    for _ in 0..20 {
        room.queues[TICKED].send(Message::new(TickMessage { show_id: SHOW.to_owned() }.body())).unwrap();
    }
    let mapping = room.stack.map(room.queues[TICKED].clone(), room.functions[TICKED].clone());
    let (first, second) = tokio::join!(mapping.deliver_once(), mapping.deliver_once());
    assert!(first.is_some() && second.is_some(), "both have ticks");
    assert_eq!((room.line().await.joined, room.places().await.as_str()), (40, "C1 C1 C1 C1 C1"));
    let mut told = room.told();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 5, "{told:?}");
    let standing = room.table.standing(&room.line().await, &(1..=40).collect()).await.unwrap();
    let mut ids: Vec<PlaceId> = standing.values().map(|person| person.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 40, "nobody has two places");
}

#[tokio::test]
async fn a_tick_that_read_the_line_before_another_wrote_it_writes_nothing() {
    let room = Room::of(5).await;
    let line = room.line().await;
    room.join("usr_1", 1, 1);
    room.deliver(JOINED).await;
    let before = room.table.blocks(&line).await.unwrap();
    room.join("usr_2", 1, 2);
    room.deliver(JOINED).await;
    let after = room.table.blocks(&line).await.unwrap();
    let (first, second) = (sequence(&line, before, now()).unwrap(), sequence(&line, after, now()).unwrap());
    assert_eq!(room.table.append(&first.0, &first.1).await.unwrap(), Written::Made);
    let overtaken = room.table.append(&second.0, &second.1).await.unwrap();
    assert_eq!(overtaken, Written::Overtaken, "the first would have two places");
    room.tick().await;
    assert_eq!((room.line().await.joined, room.positions(&["usr_1", "usr_2"]).await), (2, vec![Some(1), Some(2)]));
}

#[tokio::test]
async fn a_tick_that_read_an_earlier_line_of_the_show_writes_nothing() {
    let room = Room::open(&[]).await;
    room.line_with(Settings { closes_at: now() + MINUTE, ..settings(5) }).await;
    let earlier = room.line().await;
    room.join("usr_1", 1, 1);
    room.deliver(JOINED).await;
    let run = sequence(&earlier, room.table.blocks(&earlier).await.unwrap(), now()).unwrap();
    let anew = room.next_line();
    assert_eq!(room.table.open_anew(&anew, &earlier).await.unwrap(), Written::Made);
    assert_eq!(anew.version, earlier.version, "a version alone does not tell them apart");
    assert_eq!(room.table.append(&run.0, &run.1).await.unwrap(), Written::Overtaken);
    assert_eq!(room.table.open_anew(&anew, &earlier).await.unwrap(), Written::Overtaken, "it is there");
    assert_eq!(room.line().await, anew);
}

#[tokio::test]
async fn a_line_that_is_opened_while_a_tick_finds_none_is_on_the_list() {
    let room = Room::open(&[]).await;
    assert_eq!(room.tick().await, ended("closed"), "the function is warm");
    // It reads that there is no line, and takes the show off the list.
    let held = room.tick_that_is_held_at(2, async || room.line_with(settings(1)).await).await;
    assert_eq!((held, room.table.open_shows().await.unwrap()), (ended("superseded"), vec![SHOW.to_owned()]));
}

#[tokio::test]
async fn a_line_that_is_opened_or_set_while_a_tick_closes_it_is_on_the_list() {
    let room = Room::of(1).await;
    assert_eq!(room.tick().await, ended("success"), "the function is warm");
    room.set(|settings| settings.closes_at = now()).await;
    let counted = Tripwire::default();
    counted.arm(None);
    room.stack.aws.set_tripwire(counted.clone());
    assert_eq!(room.tick().await, ended("closed"));
    assert_eq!(room.table.open_shows().await.unwrap(), [""; 0]);
    let writes = counted.requests();
    let last = writes.iter().rposition(|request| request.contains("TransactWriteItems")).unwrap() + 1;

    room.set(|settings| settings.tickets = 2).await;
    let later = async || room.set(|settings| settings.closes_at = now() + MINUTE).await;
    let held = room.tick_that_is_held_at(last, later).await;
    assert_eq!((held, room.table.open_shows().await.unwrap()), (ended("superseded"), vec![SHOW.to_owned()]));

    room.set(|settings| settings.closes_at = now()).await;
    let anew = async || {
        let over = room.line().await;
        assert!(over.last_tick > 0, "the tick has written all but the list");
        assert_eq!(room.table.open_anew(&room.next_line(), &over).await.unwrap(), Written::Made);
    };
    let held = room.tick_that_is_held_at(last, anew).await;
    assert_eq!((held, room.table.open_shows().await.unwrap()), (ended("superseded"), vec![SHOW.to_owned()]));
}

#[tokio::test]
async fn a_paused_line_calls_nobody_and_a_call_runs_anew_after_it() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    room.set(|settings| settings.paused = true).await;
    room.run_out(1).await;
    room.tick().await;
    assert_eq!(room.places().await, "C1", "it does not run out");
    room.set(|settings| settings.paused = false).await;
    room.tick().await;
    assert_eq!(room.places().await, "C1", "it has its whole window again");
}

#[tokio::test]
async fn tickets_can_be_lowered_to_what_is_taken_and_raised_again() {
    let room = Room::of(4).await;
    room.seated(&[("usr_1", 2), ("usr_2", 2), ("usr_3", 2)]).await;
    assert_eq!(room.places().await, "C2 C2");
    let line = room.line().await;
    let lower = Settings { tickets: 3, ..line.settings.clone() };
    assert!(line.set(lower, now()).is_err(), "two customers have four of them");
    room.run_out(2).await;
    room.set(|settings| settings.tickets = 4).await;
    room.tick().await;
    room.set(|settings| settings.tickets = 6).await;
    room.tick().await;
    assert_eq!(room.places().await, "C2 P2 C2");
}

#[tokio::test]
async fn a_line_that_is_sold_out_says_so_once_and_goes_on_when_tickets_come() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    let turn = room.claim(1).await;
    room.reserve(turn, Status::Confirmed, true, now()).await;
    room.told_of(turn, "reservation.confirmed").await;
    room.tick().await;
    room.tick().await;
    let sold_out = |room: &Room| room.told().iter().filter(|told| *told == "line.sold_out all").count();
    assert_eq!((sold_out(&room), room.places().await), (1, "S1".to_owned()));
    room.set(|settings| settings.tickets = 2).await;
    room.tick().await;
    assert_eq!(room.places().await, "S1 C1");
}

#[tokio::test]
async fn nobody_is_called_who_could_not_finish_and_a_closed_line_ticks_no_more() {
    let room = Room::open(&[]).await;
    room.line_with(Settings { closes_at: now() + 2 * MINUTE, ..settings(1) }).await;
    room.seated(&[("usr_1", 1)]).await;
    assert_eq!((room.places().await.as_str(), room.line().await.joined), ("", 1));
    room.set(|settings| settings.closes_at = now()).await;
    assert_eq!(room.tick().await, ended("closed"));
    assert!(room.table.open_shows().await.unwrap().is_empty());
}

#[tokio::test]
async fn who_was_not_heard_of_is_not_called_and_may_join_anew() {
    let room = Room::open(&[("QUEUE_TIMEOUT_SECONDS", "240")]).await;
    room.line_with(settings(1)).await;
    room.set(|settings| settings.paused = true).await;
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    for (user_id, silent_for) in [("usr_1", 241_000), ("usr_2", 230_000)] {
        let item = room.table.item(room.id(user_id)).await.unwrap().unwrap();
        room.table.see(item.id, item.arrival, now() - silent_for).await.unwrap();
    }
    room.set(|settings| settings.paused = false).await;
    room.tick().await;
    assert_eq!(room.places().await, "X0 C1");
    assert!(room.table.item(room.id("usr_1")).await.unwrap().unwrap().ended_at.is_some());
}

#[tokio::test]
async fn a_place_follows_its_reservation_by_what_it_is_and_not_by_the_event() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1)]).await;
    let turn = room.claim(1).await;
    assert_eq!(room.told_of(turn, "reservation.confirmed").await, ended("duplicate"), "there is none");
    assert_eq!(room.places().await, "A1");
    room.reserve(turn, Status::Hold, true, now() + MINUTE).await;
    assert_eq!(room.told_of(turn, "reservation.expired").await, ended("success"), "which is on hold");
    assert_eq!(room.places().await, "H1");
    room.reserve(turn, Status::Confirmed, true, now() + MINUTE).await;
    assert_eq!(room.told_of(turn, "reservation.created").await, ended("success"));
    assert_eq!(room.told_of(turn, "reservation.confirmed").await, ended("duplicate"), "twice");
    assert_eq!(room.places().await, "S1");
}

#[tokio::test]
async fn a_confirm_whose_event_was_lost_is_found_by_the_tick() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1)]).await;
    let turn = room.claim(1).await;
    room.reserve(turn, Status::Hold, true, now() + MINUTE).await;
    room.told_of(turn, "reservation.created").await;
    room.reserve(turn, Status::Confirmed, true, now()).await;
    room.run_out(1).await;
    room.tick().await;
    assert_eq!(room.places().await, "S1");
}

#[tokio::test]
async fn a_taken_seat_costs_nobody_the_turn() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1)]).await;
    let turn = room.claim(1).await;
    let before = room.entry(1).await;
    room.reserve(turn, Status::Failed, false, now() + MINUTE).await;
    assert_eq!(room.told_of(turn, "reservation.failed").await, ended("success"));
    let after = room.entry(1).await;
    assert_eq!((after.state, after.call, after.deadline), (State::Admitted, before.call + 1, before.deadline));
    assert_eq!(room.told_of(turn, "reservation.failed").await, ended("superseded"), "the event of an earlier call");
    assert_eq!(room.entry(1).await, after);
    let lines = log_lines(&room.functions[SETTLED].all_logs());
    let counted = lines.iter().filter(|line| line["booking_worker_admitted_without_seat_total"] == 1).count();
    assert_eq!(counted, 1, "more tickets are given out than there are seats");
}

#[tokio::test]
async fn a_reservation_that_ended_makes_its_place_final_and_its_tickets_go_on() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
    let turn = room.claim(1).await;
    room.reserve(turn, Status::Hold, true, now() + MINUTE).await;
    room.told_of(turn, "reservation.created").await;
    room.reserve(turn, Status::Cancelled, true, now() + MINUTE).await;
    assert_eq!(room.told_of(turn, "reservation.cancelled").await, ended("success"));
    room.tick().await;
    assert_eq!(room.places().await, "F1", "its seats are not back for five seconds");
    room.run_out(1).await;
    room.tick().await;
    assert_eq!(room.places().await, "F1 C1");
    room.reserve(turn, Status::Confirmed, true, now()).await;
    assert_eq!(room.told_of(turn, "reservation.confirmed").await, ended("duplicate"));
    assert_eq!(room.places().await, "F1 C1", "an ended place never comes back");
}

#[tokio::test]
async fn events_of_other_lines_and_of_reservations_without_a_turn_change_nothing() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1)]).await;
    let turn = room.claim(1).await;
    let foreign = Turn { id: room.id("usr_other"), ..turn };
    room.reserve(foreign, Status::Confirmed, true, now()).await;
    assert_eq!(room.told_of(foreign, "reservation.confirmed").await, ended("superseded"));
    let later = Turn { position: 900, ..turn };
    assert_eq!(room.told_of(later, "reservation.confirmed").await, ended("superseded"));
    let detail = json!({"event_id": SHOW, "reservation_id": "rsv_4jhx2m9q1k8f3c7v5b6n0p2r4t"});
    let body = json!({"detail-type": "reservation.created", "detail": detail});
    room.queues[SETTLED].send(Message::new(body.to_string())).unwrap();
    assert_eq!(room.deliver(SETTLED).await, [ended("ignored")]);
    assert_eq!(room.places().await, "A1");
}

#[tokio::test]
async fn each_minute_every_open_line_gets_seventy_five_ticks() {
    let room = Room::of(1).await;
    let other = Scope { show_id: "evt_2".to_owned(), ..room.scope.clone() };
    room.table.open(&Line::open(other, settings(1)).unwrap()).await.unwrap();
    let invocation = room.functions[CLOCK].invoke("{}").await;
    assert_eq!(invocation.result.as_deref(), Ok(&b"null"[..]));
    let asked = room.stack.aws.requests();
    assert!(asked.iter().all(|request| request.target != UPDATE), "it only reads, and its look at the start does too");
    let messages = room.queues[TICKED].messages();
    assert_eq!(messages.len(), 150);
    let waits = |show_id: &str| {
        let own = messages.iter().filter(|message| message.body.contains(show_id));
        let mut waits: Vec<u64> =
            own.map(|message| (message.visible_in + Duration::from_millis(900)).as_secs()).collect();
        waits.sort_unstable();
        waits
    };
    for show_id in [SHOW, "evt_2"] {
        let waits = waits(show_id);
        assert_eq!((waits.len(), waits[0]), (75, 0));
        assert!(waits[74] >= 73 && waits.windows(2).all(|pair| pair[1] - pair[0] <= 2), "{waits:?}");
    }
}

#[tokio::test]
async fn a_tick_that_fails_is_acknowledged_and_counted() {
    let room = Room::of(1).await;
    for _ in 0..2 {
        room.stack.aws.fail_next("DynamoDB_20120810.GetItem", Injected::Silence);
    }
    assert_eq!(room.tick().await, ended("failed"));
    room.queues[TICKED].send(Message::new("no tick")).unwrap();
    assert_eq!(room.deliver(TICKED).await, [ended("failed")]);
    assert!(room.queues[TICKED].is_empty());
    let lines = log_lines(&room.functions[TICKED].all_logs());
    assert_eq!(lines.iter().filter(|line| line["booking_worker_errors_total"] == 1).count(), 2);
}

#[tokio::test]
async fn who_is_called_is_told_of_it_also_where_it_can_not_be_read_who_was_passed() {
    // A tick reads the blocks, who came back, and who may be called, before it writes; who stands at the places that it passed,
    // and his record, after it.
    const QUERIES: usize = 18;
    const BATCHES: usize = 2;
    for (others, target, outcome, told_of_who_passed) in
        [(QUERIES, "Query", "failed", None), (BATCHES, "BatchGetItem", "success", Some("place.passed all"))]
    {
        let room = Room::of(1).await;
        room.seated(&[("usr_1", 1), ("usr_2", 1)]).await;
        room.run_out(1).await;
        // The client asks twice.
        for others in [others, 0] {
            room.stack.aws.fail_after(others, &format!("DynamoDB_20120810.{target}"), Injected::Silence);
        }
        assert_eq!(room.tick().await, ended(outcome), "{target}");
        assert_eq!(room.places().await, "P1 C1", "{target}");
        let told: Vec<&str> =
            ["place.called usr_1"].into_iter().chain(told_of_who_passed).chain(["place.called usr_2"]).collect();
        assert_eq!(room.told(), told, "{target}");
        let lines = log_lines(&room.functions[TICKED].all_logs());
        assert_eq!(lines.iter().filter(|line| line["booking_worker_errors_total"] == 1).count(), 1, "{target}");
    }
}

#[tokio::test]
async fn what_is_done_with_a_place_is_in_the_audit_and_names_nobody() {
    let room = Room::of(1).await;
    room.seated(&[("usr_1", 1)]).await;
    let logs = [JOINED, TICKED].map(|name| room.functions[name].all_logs()).concat();
    let lines = log_lines(&logs);
    let audited: Vec<&Value> = lines.iter().filter(|line| line["audit"] == true).collect();
    let id = room.id("usr_1").to_string();
    assert!(audited.iter().all(|line| line["place_id"] == *id && line["event_id"] == SHOW), "{audited:#?}");
    let what: Vec<(&str, &str)> =
        audited.iter().map(|line| (line["by"].as_str().unwrap(), line["to"].as_str().unwrap())).collect();
    assert_eq!(what, [(JOINED, "placed"), (TICKED, "C")]);
    assert!(logs.iter().all(|line| !line.contains("usr_1")), "no line names the customer");
}

#[tokio::test]
async fn places_are_drawn_once_at_the_opening_and_whoever_comes_later_stands_behind() {
    let room = Room::open(&[]).await;
    room.line_with(Settings { opens_at: now() + MINUTE, draws: true, ..settings(5) }).await;
    let people: Vec<String> = (0..20).map(|number| format!("usr_{number}")).collect();
    let people: Vec<&str> = people.iter().map(String::as_str).collect();
    let wishes: Vec<(&str, u8)> = people.iter().map(|user_id| (*user_id, 1)).collect();
    room.seated(&wishes).await;
    assert_eq!((room.line().await.joined, room.line().await.draw), (20, None));
    assert_eq!(room.positions(&people).await, [None; 20], "no position is told before the draw");
    assert_eq!(room.places().await, "", "nobody is called");

    room.set(|settings| settings.opens_at = now() - MINUTE / 2).await;
    assert_eq!(room.tick().await, ended("success"));
    let line = room.line().await;
    let draw = line.draw.clone().expect("it was made");
    let logged = || -> Vec<(Value, Value)> {
        let lines = log_lines(&room.functions[TICKED].all_logs()).into_iter();
        lines
            .filter(|line| line["msg"] == "the places are drawn")
            .map(|line| (line["seed"].clone(), line["places"].clone()))
            .collect()
    };
    assert_eq!(logged(), [(json!(draw.seed), json!(20))]);
    assert_eq!((draw.size, line.serving), (20, 5));
    let positions: Vec<Option<u64>> = (1..=20).map(|place| Some(draw.turn_of(place))).collect();
    assert_eq!(room.positions(&people).await, positions);
    let standing = room.table.standing(&line, &(1..=20).collect()).await.unwrap();
    for (user_id, position) in people.iter().zip(positions.into_iter().flatten()) {
        assert_eq!(standing[&position].id, room.id(user_id), "{user_id} stands at {position}");
    }
    let told: Vec<String> = room.told();
    for called in (1..=5).map(|position| standing[&position].id) {
        let user_id = people.iter().find(|user_id| room.id(user_id) == called).unwrap();
        assert!(told.contains(&format!("place.called {user_id}")), "{user_id} is among the first five: {told:?}");
    }

    room.seated(&[("usr_late", 1)]).await;
    assert_eq!(room.positions(&["usr_late"]).await, [Some(21)]);
    assert_eq!(logged().len(), 1, "it is logged once");
    assert_eq!(room.line().await.draw, Some(draw), "it never changes");
}

/// DynamoDB answers a query with 1 MB at most and says where it goes on.
#[tokio::test]
async fn what_is_more_than_one_answer_to_a_query_is_read_to_its_end() {
    let room = Room::of(4).await;
    let others = ["evt_2", "evt_3"].map(|show_id| Scope { show_id: show_id.to_owned(), ..room.scope.clone() });
    for other in others {
        assert_eq!(room.table.open(&Line::open(other, settings(1)).unwrap()).await.unwrap(), Written::Made);
    }
    room.seated(&[("usr_1", 1), ("usr_2", 1), ("usr_3", 1), ("usr_4", 1)]).await;
    let late = ["usr_5", "usr_6", "usr_7"];
    for user_id in late {
        room.seated(&[(user_id, 1)]).await;
    }
    for position in 1..=4 {
        room.run_out(position).await;
    }
    room.tick().await;
    assert_eq!(room.places().await, "P1 P1 P1 P1 C1 C1 C1");
    let line = room.line().await;
    for (position, person) in room.table.standing(&line, &(1..=4).collect()).await.unwrap() {
        room.table.come_back(&line, position, person).await.unwrap();
    }
    // Of 33 blocks three lie in one of the 16 partitions at least.
    for number in 0..33 {
        let user_id = format!("usr_new_{number}");
        let join = Join { id: room.id(&user_id), user_id, seats: 1, arrival: now() - MINUTE, request: None };
        room.table.join(&line, &[join], now()).await.unwrap();
    }
    let partitions = ["lines", "new#", "back#", "late#", "seg#"];
    for record in room.stack.aws.scan(WAITING_ROOM).await.unwrap() {
        if partitions.iter().any(|partition| record["pk"]["S"].as_str().unwrap().starts_with(partition)) {
            let grown = json!({
                "TableName": WAITING_ROOM, "Key": {"pk": record["pk"], "sk": record["sk"]},
                "UpdateExpression": "SET padding = :padding",
                "ExpressionAttributeValues": {":padding": {"S": "x".repeat(395_000)}},
            });
            room.stack.aws.dynamodb("UpdateItem", &grown).await.unwrap();
        }
    }

    room.stack.aws.clear_requests();
    assert_eq!(room.table.open_shows().await.unwrap(), [SHOW, "evt_2", "evt_3"]);
    let back: Vec<u64> = room.table.returned(&room.scope).await.unwrap().into_keys().collect();
    assert_eq!(back, [1, 2, 3, 4], "who came back");
    assert_eq!(room.positions(&late).await, [Some(5), Some(6), Some(7)], "who was late");
    let standing = room.table.standing(&line, &(1..=7).collect()).await.unwrap();
    let expected = (1..=7).map(|number| room.id(&format!("usr_{number}")));
    assert_eq!(standing.values().map(|person| person.id).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(room.tick().await, ended("success"));
    assert_eq!((room.line().await.joined, room.table.blocks(&line).await.unwrap().len()), (40, 0), "who joined");

    let went_on = |partition: &str| {
        room.stack.aws.requests().iter().any(|request| {
            let of = request.body["ExpressionAttributeValues"][":pk"]["S"].as_str().unwrap_or_default();
            of.starts_with(partition) && request.body["ExclusiveStartKey"].is_object()
        })
    };
    let short: Vec<&str> = partitions.into_iter().filter(|partition| !went_on(partition)).collect();
    assert!(short.is_empty(), "one answer had all of these, and nothing is shown by them: {short:?}");
}
