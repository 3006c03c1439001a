//! The crash matrix of the waiting room: its functions, each killed before and after each request that it makes to anybody, on
//! the ways that a place can take. The queue brings what had no answer, and the clock ticks on; then nobody may have two
//! places, no ticket may be given twice, and no turn may be stuck.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Instant, SystemTime},
};

use local_stack::{
    admission::{KEY, ticket_by},
    gateway::{
        Target,
        sockets::{Page, Sockets},
    },
    lambda::Function,
    process::Process,
    queue::{Message, Queue},
    replay,
    reservations::Status,
    sale::{PUSH_API, open_sockets},
    scenario::{GivenLine, Person},
    stack::Stack,
    template::Template,
    tripwire::{Point, Side, Tripwire},
};
use serde_json::json;
use shared::{
    deadline::epoch_ms,
    waiting_room::{
        id::{PlaceId, PlaceKeys},
        line::Scope,
        message::{JoinMessage, TickMessage},
        place::Turn,
        table::{Table, Written},
    },
};

use crate::{
    binaries,
    lane::{Course, every_point, judge},
};

const JOINED: &str = waiting_room_joined::NAME;
const TICKED: &str = waiting_room_ticked::NAME;
const SETTLED: &str = waiting_room_settled::NAME;
const CLOCK: &str = waiting_room_clock::NAME;
const CALLED: &str = waiting_room_called::NAME;
const CONNECTED: &str = waiting_room_connected::NAME;

/// A try to act once more, at most so often.
const TRIES: usize = 20;

/// Ticks without a blow, after which a line has come to rest: what died has been delivered again before.
const TICKS_AFTER: usize = 1;

/// What happens on a way.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Three people join, one of them twice, and their messages are delivered.
    Join,
    /// The line is worked once.
    Tick,
    /// It is told what became of the reservation of the first place.
    Tell(&'static str),
    /// The customer of the first place, who is connected, is told what became of it, by his page too, and everybody that the
    /// line is sold out.
    Push,
    /// A page opens a connection.
    Connect,
    /// The connection ends.
    Disconnect,
    /// The minute begins.
    Wind,
}

/// A way that places take.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    tickets: u32,
    /// Who stands there: the letter, whether its time is over, and the reservation.
    people: &'static [(Option<char>, bool, Option<Status>)],
    acts: &'static [Act],
    /// Letter and seats of each place in the end, and the people in the line.
    end: (&'static str, u64),
}

const WAYS: [Way; 11] = [
    Way {
        name: "people join and are called",
        tickets: 2,
        people: &[],
        acts: &[Act::Join, Act::Tick, Act::Tick],
        end: ("C1 C1", 3),
    },
    Way {
        name: "nobody answers a call, and the next is called",
        tickets: 1,
        people: &[(Some('C'), true, None), (None, false, None)],
        acts: &[Act::Tick],
        end: ("P1 C1", 2),
    },
    Way {
        name: "a turn runs out, and is ended at the reservation API",
        tickets: 1,
        people: &[(Some('A'), true, None), (None, false, None)],
        acts: &[Act::Tick, Act::Tick],
        end: ("F1 C1", 2),
    },
    Way {
        name: "a turn runs out whose event was lost",
        tickets: 1,
        people: &[(Some('A'), true, Some(Status::Confirmed)), (None, false, None)],
        acts: &[Act::Tick, Act::Tick],
        end: ("S1", 2),
    },
    Way {
        name: "seats are held",
        tickets: 1,
        people: &[(Some('A'), false, Some(Status::Hold))],
        acts: &[Act::Tell("reservation.created")],
        end: ("H1", 1),
    },
    Way {
        name: "a reservation is paid, and the last ticket is sold",
        tickets: 1,
        people: &[(Some('H'), false, Some(Status::Confirmed)), (None, false, None)],
        acts: &[Act::Tell("reservation.confirmed"), Act::Tick],
        end: ("S1", 2),
    },
    Way {
        name: "a reservation gets no seats",
        tickets: 1,
        people: &[(Some('A'), false, Some(Status::Failed))],
        acts: &[Act::Tell("reservation.failed")],
        end: ("A1", 1),
    },
    Way {
        name: "who is connected is told",
        tickets: 1,
        people: &[(Some('C'), false, None)],
        acts: &[Act::Push],
        end: ("C1", 1),
    },
    Way { name: "a page opens a connection", tickets: 1, people: &[], acts: &[Act::Connect], end: ("", 0) },
    Way {
        name: "a connection of a page ends",
        tickets: 1,
        people: &[],
        acts: &[Act::Connect, Act::Disconnect],
        end: ("", 0),
    },
    Way { name: "a minute begins", tickets: 1, people: &[], acts: &[Act::Wind], end: ("", 0) },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_line_whose_functions_die_between_any_two_requests_comes_to_rest_as_if_they_had_not() {
    let started = Instant::now();
    judge("WAY", &every_point(WAYS).await, started);
}

impl Course for Way {
    type Site = Site;
    type Point = Point;

    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn site(&self) -> Site {
        Site::of(self).await
    }

    async fn without_a_point(&self, site: &Site) -> (usize, Vec<Point>) {
        let requests = site.attempt(self, 0, None).await;
        let points = (1..=requests).flat_map(|request| Side::ALL.map(|side| Point { request, side }));
        (requests, points.collect())
    }

    async fn with_a_point(&self, site: &Site, number: usize, point: Point) {
        site.attempt(self, number, Some(point)).await;
    }

    fn describe(&self, point: &Point) -> String {
        format!("{point:?}")
    }
}

/// A stack with the functions of the waiting room, where all points of a way have their turn.
#[derive(Clone)]
struct Site {
    stack: Stack,
    table: Table,
    functions: BTreeMap<&'static str, Function>,
    queues: BTreeMap<&'static str, Queue>,
    /// Where pages hear at once.
    sockets: Sockets,
}

impl Site {
    async fn of(way: &Way) -> Self {
        let stack = Stack::start().await.expect("the stack starts");
        let stack = stack.with_variable("RELEASE_GRACE_SECONDS", "1");
        let deploy = |name: &'static str| {
            let function = stack.deploy(name, binaries()[name].clone(), 2);
            (name, function.expect("it is there"))
        };
        let (name, connected) = deploy(CONNECTED);
        let target = Target::Function(connected.clone());
        let sockets =
            open_sockets(&Template::read().expect("it is a template"), target, 0).await.expect("a port is free");
        let stack = stack.with_variable(PUSH_API, &sockets.base());
        let deploy = |name: &'static str| {
            let function = stack.deploy(name, binaries()[name].clone(), 2);
            (name, function.expect("it is there"))
        };
        let others = [JOINED, TICKED, SETTLED, CLOCK, CALLED].map(deploy);
        let functions: BTreeMap<_, _> = others.into_iter().chain([(name, connected)]).collect();
        let queues = [JOINED, TICKED, SETTLED, CALLED].map(|name| (name, stack.queue(name))).into();
        // What is counted is the work and not a start.
        for act in way.acts {
            let nothing = if act.has_queue() { r#"{"Records": []}"# } else { "{}" };
            functions[act.function()].invoke(nothing).await;
        }
        Self { table: replay::table(&stack), stack, functions, queues, sockets }
    }

    /// Takes the way, with a blow at the point, and lets the line come to rest. The answer is the number of requests.
    async fn attempt(&self, way: &Way, number: usize, point: Option<Point>) -> usize {
        let show_id = format!("evt_{number}");
        let standing = |(index, (place, overdue, reservation)): (usize, &(Option<char>, bool, Option<Status>))| {
            let user_id = format!("usr_{index}");
            Person {
                user_id,
                seats: 1,
                place: *place,
                overdue: *overdue,
                reservation: *reservation,
                left: false,
                connected: true,
            }
        };
        let people = way.people.iter().enumerate().map(standing).collect();
        let given = GivenLine { event_id: show_id.clone(), tickets: way.tickets, closed: false, paused: false, people };
        replay::put_line(&self.stack, &self.table, &given).await.expect("the line is there");

        let mut page = None;
        if way.acts.iter().any(|act| matches!(act, Act::Push)) {
            page = Some(self.page(place(&show_id)).await);
        }
        let wire = Tripwire::default();
        self.set_wire(&wire);
        wire.arm(point);
        for act in way.acts {
            self.act(*act, &show_id, &wire).await;
        }
        assert_eq!(wire.has_tripped(), point.is_some(), "the point was reached");
        self.set_wire(&Tripwire::default());
        let requests = wire.requests().len();
        if !matches!(way.acts, [Act::Wind]) {
            for _ in 0..TICKS_AFTER {
                self.act(Act::Tick, &show_id, &Tripwire::default()).await;
            }
        }
        self.came_to_its_end(way, &show_id).await;
        if let Some(mut page) = page {
            assert_eq!(page.hear().await.as_deref(), Some(r#"{"kind":"passed"}"#), "his page is told");
        }
        let line = self.table.line(&show_id).await.expect("the line is read");
        let closed = self.table.close(&show_id, line.as_ref()).await;
        assert_eq!(closed.expect("it is known whether the line is off the list"), Written::Made);
        requests
    }

    fn set_wire(&self, wire: &Tripwire) {
        self.stack.aws.set_tripwire(wire.clone());
        self.stack.reservations.set_tripwire(wire.clone());
        self.stack.realtime.set_tripwire(wire.clone());
        self.sockets.set_tripwire(wire.clone());
    }

    /// A page of a place, whose connection is open.
    async fn page(&self, id: PlaceId) -> Page {
        let ticket = ticket_by(KEY, id, now()).expect("it is a key");
        let url = format!("{}?ticket={ticket}", self.sockets.base().replacen("http", "ws", 1));
        Page::open(&url).await.expect("it is let in")
    }

    /// Acts until it is done, however often somebody dies meanwhile.
    async fn act(&self, act: Act, show_id: &str, wire: &Tripwire) {
        let function = &self.functions[act.function()];
        let queue = self.queues.get(act.function());
        let bodies = act.bodies(show_id);
        for (queue, body) in queue.into_iter().flat_map(|queue| bodies.iter().map(move |body| (queue, body))) {
            queue.send(Message::new(body.clone())).expect("SQS takes it");
        }
        let invoked = bodies.first().map_or("{}", String::as_str);
        for _ in 0..TRIES {
            let once = async {
                match queue {
                    None => function.invoke(invoked.to_owned()).await.result.is_ok(),
                    Some(queue) => {
                        queue.skip_wait();
                        let mapping = self.stack.map(queue.clone(), function.clone());
                        mapping.deliver_once().await;
                        queue.is_empty()
                    }
                }
            };
            tokio::pin!(once);
            let done = tokio::select! {
                done = &mut once => done,
                () = wire.tripped(), if !wire.has_tripped() => {
                    for process in function.processes_in_hand() {
                        Process(process).kill();
                    }
                    once.await
                }
            };
            if done {
                return;
            }
        }
        panic!("{act:?} is not done after {TRIES} tries");
    }

    async fn came_to_its_end(&self, way: &Way, show_id: &str) {
        let line = self.table.line(show_id).await.expect("it can be read").expect("it is there");
        let (places, joined) = way.end;
        if matches!(way.acts, [Act::Wind]) {
            let own = self.queues[TICKED].messages().into_iter().filter(|message| message.body.contains(show_id));
            assert!(own.count() >= 75, "each second has its tick");
            while let [first, ..] = self.queues[TICKED].receive(10).as_slice() {
                drop(self.queues[TICKED].delete(&first.receipt));
                self.queues[TICKED].skip_wait();
            }
            return;
        }
        let connections = self.table.connections(place(show_id)).await.expect("they can be read");
        let known = match way.acts {
            [Act::Connect] => vec![connection(show_id)],
            [Act::Push] => connections.clone(),
            _ => Vec::new(),
        };
        assert_eq!(connections, known, "a place is heard of by what is open");
        let pages = self.table.pages(&line, 0).await.expect("they can be read");
        let entries = pages.entries.values().map(ToString::to_string);
        let found: Vec<String> = entries.filter_map(|text| Some(text.split(':').next()?.to_owned())).collect();
        assert_eq!((found.join(" ").as_str(), line.joined), (places, joined));
        let standing = self.table.standing(&line, &(1..=joined).collect()).await.expect("each place is somebody's");
        let mut ids: Vec<_> = standing.values().map(|person| person.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len() as u64, joined, "nobody has two places");
        assert!(self.table.blocks(&line).await.expect("they can be read").is_empty(), "nobody is left without a place");
        let buried = [JOINED, SETTLED, CALLED].map(|name| self.stack.dead_letters(name).len());
        assert_eq!(buried, [0; 3], "nothing is given up");
        let heard = self.stack.realtime.heard().into_iter().filter(|push| push.event_id() == show_id);
        let heard: BTreeSet<String> = heard.map(|push| push.to_string()).collect();
        let pushed = way.acts.iter().any(|act| matches!(act, Act::Push));
        let told = ["all: line.sold_out", "usr_0: position 1"].into_iter().filter(|_| pushed);
        assert_eq!(heard, told.map(str::to_owned).collect(), "each is told, and a repeat says the same");
    }
}

impl Act {
    fn function(self) -> &'static str {
        match self {
            Self::Join => JOINED,
            Self::Tick => TICKED,
            Self::Tell(_) => SETTLED,
            Self::Push => CALLED,
            Self::Wind => CLOCK,
            Self::Connect | Self::Disconnect => CONNECTED,
        }
    }

    fn has_queue(self) -> bool {
        ![CLOCK, CONNECTED].contains(&self.function())
    }

    /// The bodies of its messages, or else the one event.
    fn bodies(self, show_id: &str) -> Vec<String> {
        let scope = Scope { show_id: show_id.to_owned(), generation: 1, key_version: 1 };
        match self {
            Self::Join => {
                let join = |user_id: &str| {
                    let (user_id, arrival) = (user_id.to_owned(), 1_795_173_999_000);
                    JoinMessage { scope: scope.clone(), user_id, seats: 1, arrival, request: None }.body()
                };
                ["usr_0", "usr_1", "usr_2", "usr_0"].map(join).into()
            }
            Self::Tick => vec![TickMessage { show_id: show_id.to_owned() }.body()],
            Self::Tell(detail_type) => {
                let keys = PlaceKeys::read(local_stack::stack::WAITING_ROOM_KEYS).expect("they are keys");
                let id = keys.id(&scope, "usr_0").expect("the key is there");
                let turn = Turn { id, position: 1, call: 1 };
                let (reservation_id, item) = (turn.reservation_id(), id.to_string());
                let detail = json!({"event_id": show_id, "reservation_id": reservation_id, "queue_item_id": item});
                vec![json!({"source": "holdfast", "detail-type": detail_type, "detail": detail}).to_string()]
            }
            Self::Push => {
                let place = place(show_id).to_string();
                let passed = json!({"event_id": show_id, "queue_item_id": place, "user_id": "usr_0", "position": 1});
                let sold_out = json!({"event_id": show_id, "tickets": 1});
                let event = |kind: &str, detail| json!({"source": "holdfast", "detail-type": kind, "detail": detail});
                [event("place.passed", passed), event("line.sold_out", sold_out)].map(|event| event.to_string()).into()
            }
            Self::Connect => {
                let ticket = ticket_by(KEY, place(show_id), now()).expect("it is a key");
                let context = json!({"eventType": "CONNECT", "connectionId": connection(show_id)});
                vec![json!({"queryStringParameters": {"ticket": ticket}, "requestContext": context}).to_string()]
            }
            Self::Disconnect => {
                let context = json!({"eventType": "DISCONNECT", "connectionId": connection(show_id)});
                vec![json!({"requestContext": context}).to_string()]
            }
            Self::Wind => Vec::new(),
        }
    }
}

fn now() -> u64 {
    epoch_ms(SystemTime::now())
}

/// The place that is heard of, another one for each point.
fn place(show_id: &str) -> PlaceId {
    let mut hash = [7; 16];
    for (byte, letter) in hash.iter_mut().zip(show_id.bytes()) {
        *byte = letter;
    }
    PlaceId::of(1, hash)
}

fn connection(show_id: &str) -> String {
    format!("{show_id}=")
}
