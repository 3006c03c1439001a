//! One attempt at a way: who does what in it, who dies, and who tries again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use local_stack::{
    admission, inventory,
    lambda::Function,
    payments::{Course, Order},
    process::Process,
    queue::{Message, Queue},
    sale::{Sale, SalePorts, access_key},
    stack::{RESERVATIONS, Stack, WAITING_ROOM_KEYS},
    stream::StreamMapping,
    tripwire::{Point, Tripwire},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use shared::{
    admission::Admission,
    reservation::lifecycle::Wish,
    waiting_room::{id::PlaceKeys, line::Scope},
};
use tokio::sync::Mutex;

use super::way::{Act, Trouble, Way};
use crate::binaries;

/// A try to act once more, at most so often.
const TRIES: usize = 40;

/// Longer than the lease of a creation and than an invocation may take.
const STANDSTILL: Duration = Duration::from_secs(31);

/// A sale with everything deployed, where all points of a way have their turn.
#[derive(Clone)]
pub(crate) struct Site {
    sale: Arc<Sale>,
    stream: Arc<Mutex<StreamMapping>>,
    http: Client,
}

impl Site {
    pub(crate) async fn of(way: &Way) -> Self {
        let stack = Stack::start().await.expect("the stack starts");
        let sale = Sale::open(stack, binaries(), SalePorts::default()).await.expect("the sale opens");
        let stream = sale.stream(reservation_changed::NAME).await.expect("the table has a stream");
        let http = Client::builder().no_proxy().build().expect("a client");
        let site = Self { sale: Arc::new(sale), stream: Arc::new(Mutex::new(stream)), http };
        // What is counted is the work and not a start, and a second process need not start while the first stands still.
        for (name, function) in &site.sale.functions {
            let nothing = if *name == reservation_api::NAME { "{}" } else { r#"{"Records": []}"# };
            if way.acts.iter().any(|act| act.calls(name)) {
                tokio::join!(function.invoke(nothing), function.invoke(nothing));
            }
        }
        site
    }
}

/// What happens to the function whose request is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Blow {
    /// It is killed; of a function and the API that it asked, the API.
    Killed,
    /// Of a function and the API that it asked, the function is killed, and the API goes on.
    CallerKilled,
    /// Another environment does the same while it stands still; then it is killed.
    KilledBesideAnother,
    /// It stands still until its lease is over, and another environment does the same; then it goes on where it stood.
    OvertakenByAnother,
}

impl Blow {
    pub(crate) const ALL: [Self; 4] =
        [Self::Killed, Self::CallerKilled, Self::KilledBesideAnother, Self::OvertakenByAnother];

    /// Whether it is another blow than those before it, where this request is made. A stream and a clock have one invocation at
    /// a time.
    pub(crate) fn fits(self, hit: &Hit) -> bool {
        match self {
            Self::Killed => true,
            Self::CallerKilled => hit.nested,
            Self::KilledBesideAnother | Self::OvertakenByAnother => match hit.act {
                Act::Relay | Act::Sweep => false,
                Act::Create
                | Act::TakeBack
                | Act::Confirm
                | Act::Cancel
                | Act::Extend
                | Act::Pay
                | Act::PayInVain
                | Act::LoseStream
                | Act::Deliver(_)
                | Act::Pass(_) => true,
            },
        }
    }
}

/// A request that was made on the way.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    /// Its name.
    pub(crate) request: String,
    /// What it was made for.
    pub(crate) act: Act,
    /// Whether the API made it for another function.
    pub(crate) nested: bool,
}

pub(crate) struct Attempt {
    pub(crate) way: Way,
    pub(crate) sale: Arc<Sale>,
    pub(crate) show: String,
    pub(crate) id: String,
    pub(crate) payment: std::sync::Mutex<Option<String>>,
    /// What the customer was told of each creation that had an answer.
    pub(crate) created: std::sync::Mutex<Vec<Value>>,
    /// The answers to each try to take the turn back.
    pub(crate) taken_back: std::sync::Mutex<Vec<u16>>,
    /// His right to reserve, where his show has a line.
    admission: Option<String>,
    /// The customer's, for the whole way: a signature takes longer than most answers.
    token: String,
    customer: String,
    site: Site,
    wire: Tripwire,
}

impl Act {
    /// Whether a function is invoked by it, itself or through the API.
    fn calls(self, function: &str) -> bool {
        match self {
            Self::Create | Self::TakeBack | Self::Confirm | Self::Cancel | Self::Extend => {
                function == reservation_api::NAME
            }
            Self::Relay => function == reservation_changed::NAME,
            Self::Sweep => function == reservation_sweep::NAME,
            Self::Deliver(name) => function == name || function == reservation_api::NAME,
            Self::Pay | Self::PayInVain | Self::LoseStream | Self::Pass(_) => false,
        }
    }
}

impl Attempt {
    /// The way, ready to be taken. `number` is the attempt's own.
    pub(crate) async fn of(site: &Site, way: &Way, number: usize) -> Self {
        let (show, customer) = (format!("evt_{number}"), format!("usr_{number}"));
        let wish = Wish {
            user_id: customer.clone(),
            show_id: show.clone(),
            seat_ids: Vec::new(),
            quantity: 2,
            key: "key-1".to_owned(),
            trace_id: None,
        };
        let (sale, wire) = (site.sale.clone(), Tripwire::default());
        let inventory = &sale.stack.inventory;
        inventory.stock(&show, &["A-1", "A-2"].map(str::to_owned), 0);
        inventory.price(&show, 3_800, "EUR");
        let turn = turn(&customer, &show);
        let (id, admission) = if way.by_turn {
            admission::open_line(&sale.stack.aws, &show, 2).await.expect("the line is open");
            (turn.reservation_id(), Some(admission::token(&turn).expect("a token")))
        } else {
            (wish.reservation_id(), None)
        };
        match way.trouble {
            None => {}
            Some(Trouble::SeatTaken) => inventory.sell(&show, &format!("another-{number}"), &["A-2".to_owned()], 1),
            Some(Trouble::HoldUnanswered) => inventory.answer_next(&id, inventory::Scripted::HangAfterEffect),
        }
        set_wire(&sale, &wire);
        let token = sale.issuer.token(&customer, "reserve", Duration::from_secs(3_600)).expect("a token");
        Self {
            way: way.clone(),
            sale,
            show,
            id,
            payment: std::sync::Mutex::default(),
            created: std::sync::Mutex::default(),
            taken_back: std::sync::Mutex::default(),
            admission,
            token,
            customer,
            site: site.clone(),
            wire,
        }
    }

    /// Takes the way, with a blow at the point, and lets time pass until nothing is left to be done. Then the promise must be
    /// kept. The answer is the requests that were made, up to the point.
    pub(crate) async fn finish(self, point: Option<Point>, blow: Blow) -> Vec<Hit> {
        self.wire.arm(point);
        let mut hits = Vec::new();
        for act in self.way.acts.clone() {
            self.act(act, blow, &mut hits).await;
        }
        assert_eq!(self.wire.has_tripped(), point.is_some(), "the point was reached");
        set_wire(&self.sale, &Tripwire::default());
        self.wind_down().await;
        self.keeps_its_promise().await;
        hits
    }

    /// Acts until it is done, however often somebody dies meanwhile.
    async fn act(&self, act: Act, blow: Blow, hits: &mut Vec<Hit>) {
        for _ in 0..TRIES {
            let mut once = Box::pin(self.once(act));
            let nested = tokio::select! {
                done = &mut once => {
                    self.note(act, false, hits);
                    match done {
                        Done::Yes => return,
                        Done::Not(wait) => self.pass(wait).await,
                    }
                    continue;
                }
                () = self.wire.tripped(), if !self.wire.has_tripped() => {
                    self.strike(act, blow, once).await
                }
            };
            self.note(act, nested, hits);
        }
        panic!("{act:?} is not done after {TRIES} tries");
    }

    /// Notes the requests that were made since the last time.
    fn note(&self, act: Act, nested: bool, hits: &mut Vec<Hit>) {
        let requests = self.wire.requests();
        let worked_through_api = matches!(act, Act::Deliver(_));
        for request in requests.into_iter().skip(hits.len()) {
            // The API's own requests are those to the table of reservations; what a function does itself is another's.
            let nested = nested || worked_through_api && request.ends_with(&format!(" {RESERVATIONS}"));
            hits.push(Hit { request, act, nested });
        }
    }

    /// Strikes whoever's request is held. Whether it was made for another function.
    async fn strike(&self, act: Act, blow: Blow, once: impl Future<Output = Done>) -> bool {
        let (api, others): (Vec<_>, Vec<_>) = self
            .sale
            .functions
            .iter()
            .flat_map(|(name, function)| in_hand(function).map(move |process| (*name, process)))
            .partition(|(name, _)| *name == reservation_api::NAME);
        let processes = |found: &[(&str, Process)]| found.iter().map(|(_, process)| *process).collect::<Vec<_>>();
        let nested = !api.is_empty() && !others.is_empty();
        let (api, others) = (processes(&api), processes(&others));
        let inner = if api.is_empty() { others.clone() } else { api.clone() };
        match blow {
            Blow::Killed => {
                inner.iter().for_each(|process| process.kill());
                once.await;
            }
            Blow::CallerKilled => {
                others.iter().for_each(|process| process.kill());
                once.await;
                self.wire.release();
            }
            Blow::KilledBesideAnother | Blow::OvertakenByAnother => {
                let all = [api, others].concat();
                for process in &all {
                    assert!(process.freeze() || cfg!(not(target_os = "linux")), "{process:?} stands still");
                }
                if blow == Blow::OvertakenByAnother {
                    self.pass(STANDSTILL).await;
                }
                self.another(act).await;
                if blow == Blow::KilledBesideAnother {
                    all.iter().for_each(|process| process.kill());
                } else {
                    self.wire.release();
                    all.iter().for_each(|process| process.resume());
                }
                once.await;
            }
        }
        nested
    }

    /// Another environment does the same: the customer asks again, or the queue delivers its messages twice. Of two who are at
    /// one turn, the other comes.
    async fn another(&self, act: Act) {
        let act = if act == Act::TakeBack {
            Act::Create
        } else if act == Act::Create && self.way.is_contended() {
            Act::TakeBack
        } else {
            act
        };
        if let Act::Deliver(name) = act {
            let queue = &self.sale.queues[name];
            for message in queue.messages() {
                queue.send(Message::new(message.body)).expect("a copy is taken");
            }
            self.deliver(name).await;
        } else {
            self.once(act).await;
        }
    }

    async fn once(&self, act: Act) -> Done {
        match act {
            Act::Create => {
                let mut body = json!({"eventId": self.show, "quantity": 2, "seatIds": ["A-1", "A-2"]});
                if let Some(token) = &self.admission {
                    body["reservationToken"] = json!(token);
                }
                let (done, answer) = self.ask(Method::POST, "", &body).await;
                if let Some((201, body)) = answer {
                    self.created.lock().unwrap().push(body);
                }
                done
            }
            Act::TakeBack => self.take_back().await,
            Act::Confirm => {
                let payment = self.payment.lock().unwrap().clone().expect("he has paid");
                self.ask(Method::POST, &format!("/{}/confirm", self.id), &json!({"paymentIntentId": payment})).await.0
            }
            Act::Cancel => self.ask(Method::POST, &format!("/{}/cancel", self.id), &json!({})).await.0,
            Act::Extend => {
                self.ask(Method::POST, &format!("/{}/extend", self.id), &json!({"extensionSeconds": 60})).await.0
            }
            Act::Pay => self.pay(Course::Approved),
            Act::PayInVain => self.pay(Course::Failed),
            Act::Relay => {
                let mut stream = self.site.stream.lock().await;
                match stream.deliver_once().await.expect("the stream is read") {
                    None => Done::Yes,
                    Some(_) => Done::Not(Duration::ZERO),
                }
            }
            Act::LoseStream => {
                while self.site.stream.lock().await.skip_once().await.expect("the stream is read").is_some() {}
                Done::Yes
            }
            Act::Deliver(name) => self.deliver(name).await,
            Act::Pass(time) => {
                self.pass(time).await;
                Done::Yes
            }
            Act::Sweep => {
                let swept = self.sale.functions[reservation_sweep::NAME].invoke("{}").await;
                if swept.result.is_ok() { Done::Yes } else { Done::Not(Duration::ZERO) }
            }
        }
    }

    /// Delivers once what is due. Not done while messages are left, and when the next is due.
    async fn deliver(&self, name: &str) -> Done {
        let (queue, function) = (&self.sale.queues[name], &self.sale.functions[name]);
        if queue.next_visible_in() == Some(Duration::ZERO) {
            self.sale.stack.map(queue.clone(), function.clone()).deliver_once().await;
        }
        // Visible at that moment, and not a moment before.
        queue.next_visible_in().map_or(Done::Yes, |wait| Done::Not(wait + Duration::from_millis(1)))
    }

    /// What the waiting room sends when a turn is over. Not done while it is not known who has the turn.
    async fn take_back(&self) -> Done {
        let url = format!("{}/internal/reservations/{}", self.sale.gateway.url(), self.id);
        let request = self.site.http.put(url).header("if-none-match", "*");
        let mut request = request.build().expect("it is a request");
        access_key().signs(&mut request).expect("it can be signed");
        let Ok(answer) = self.site.http.execute(request).await else { return Done::Not(Duration::ZERO) };
        let status = answer.status().as_u16();
        self.taken_back.lock().unwrap().push(status);
        if matches!(status, 200 | 201 | 412) { Done::Yes } else { Done::Not(Duration::from_secs(1)) }
    }

    /// Sends a request of the customer's. Not done while its answer says to ask again.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> (Done, Option<(u16, Value)>) {
        let request = self.site.http.request(method, format!("{}/v1/reservations{path}", self.sale.gateway.url()));
        let request = request.bearer_auth(&self.token).header("idempotency-key", "key-1").json(body);
        let Ok(answer) = request.send().await else { return (Done::Not(Duration::ZERO), None) };
        let status = answer.status().as_u16();
        let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
        let body = answer.json().await.unwrap_or(Value::Null);
        let done = match (status, after) {
            (_, Some(after)) => Done::Not(Duration::from_secs(after)),
            (500.., None) => Done::Not(Duration::from_secs(1)),
            (_, None) => Done::Yes,
        };
        (done, Some((status, body)))
    }

    fn pay(&self, course: Course) -> Done {
        let has_lost = self.way.is_contended() && self.created.lock().unwrap().is_empty();
        let mut payment = self.payment.lock().unwrap();
        if payment.is_none() && !has_lost {
            let (reservation_id, user_id, currency) = (self.id.clone(), self.customer.clone(), "EUR".to_owned());
            let order = Order { reservation_id, user_id, amount: 7_600, currency, course };
            *payment = Some(self.sale.stack.payments.pay(order));
        }
        Done::Yes
    }

    /// Lets everything be worked, and time pass, until the reservation has ended and nothing is left to be done.
    async fn wind_down(&self) {
        for round in 0..6 {
            let (blow, hits) = (Blow::Killed, &mut Vec::new());
            self.act(Act::Relay, blow, hits).await;
            for name in self.sale.queues.keys() {
                self.act(Act::Deliver(name), blow, hits).await;
            }
            self.act(Act::Relay, blow, hits).await;
            let waits = self.sale.queues.values().any(|queue| !queue.is_empty());
            if self.has_ended().await && !waits {
                return;
            }
            self.pass(Duration::from_secs(61)).await;
            if round >= 3 {
                // An hour is over by then.
                self.act(Act::Sweep, blow, hits).await;
            }
        }
    }

    pub(crate) async fn item(&self) -> Option<Value> {
        let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": self.id}}, "ConsistentRead": true});
        self.sale.stack.aws.dynamodb("GetItem", &key).await.expect("DynamoDB answers").get("Item").cloned()
    }

    async fn has_ended(&self) -> bool {
        self.item().await.is_none_or(|item| !["HOLD", "PENDING"].iter().any(|open| item["status"]["S"] == *open))
    }

    /// Every queue of the sale by its name, the dead letters among them.
    pub(crate) fn queues(&self) -> BTreeMap<String, Queue> {
        let own = self.sale.queues.iter().map(|(name, queue)| ((*name).to_owned(), queue.clone()));
        let dead = self.sale.queues.keys().map(|name| (format!("{name}-dlq"), self.sale.stack.dead_letters(name)));
        own.chain(dead).collect()
    }
}

/// Whether an act is done, and else after which time it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Yes,
    Not(Duration),
}

/// The turn of a customer in the line of a show, by the name that his place would have there.
fn turn(customer: &str, show: &str) -> Admission {
    let scope = Scope { show_id: show.to_owned(), generation: 1, key_version: 1 };
    let id = PlaceKeys::read(WAITING_ROOM_KEYS).expect("they are keys").id(&scope, customer).expect("the key is there");
    Admission { queue_item_id: id.to_string(), ..admission::turn(customer, show) }
}

/// Every server of the sale has the same wire.
fn set_wire(sale: &Sale, wire: &Tripwire) {
    sale.stack.aws.set_tripwire(wire.clone());
    sale.stack.inventory.set_tripwire(wire.clone());
    sale.stack.payments.set_tripwire(wire.clone());
}

fn in_hand(function: &Function) -> impl Iterator<Item = Process> {
    function.processes_in_hand().into_iter().map(Process)
}
