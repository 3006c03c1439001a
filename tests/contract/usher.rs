//! A whole waiting room with everything around it, as it runs by itself: people join through the real function, ticks give them
//! their places and call them, and what becomes of their reservations comes by the bus. The usher is its operator, knows the
//! other people in the line, and works the till.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use local_stack::{
    build,
    gateway::sockets::Sockets,
    payments::{Course, Order},
    queue::Message,
    sale::{Running, Sale, SalePorts, access_key},
    stack::Stack,
    template::SCOPE,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use shared::{
    deadline::{epoch_ms, moment},
    waiting_room::message::TickMessage,
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

/// What the tickets are for.
pub(crate) const SHOW: &str = "evt_1";

const TICKED: &str = waiting_room_ticked::NAME;

/// How often the line is worked. In an account it is each second.
const TICK: Duration = Duration::from_millis(500);

/// So long the line may take for what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running waiting room and who runs it.
pub(crate) struct Usher {
    /// Everything.
    pub(crate) sale: Sale,
    /// What the line is set to.
    settings: Mutex<Value>,
    http: Client,
    _running: (Running, AbortOnDropHandle<()>),
}

impl Usher {
    /// Opens a line of so many tickets. The functions of the waiting room have these variables too.
    pub(crate) async fn open(tickets: u32, variables: &[(&str, &str)]) -> Self {
        Self::open_with(tickets, variables, SalePorts::default()).await
    }

    /// The same, and pages are told at once.
    pub(crate) async fn open_with_pushes(tickets: u32) -> Self {
        Self::open_with(tickets, &[], SalePorts { sockets: Some(0), ..SalePorts::default() }).await
    }

    /// The API by which pages are told at once, where they are.
    pub(crate) fn sockets(&self) -> &Sockets {
        self.sale.sockets.as_ref().expect("the pages of this line are told at once")
    }

    async fn open_with(tickets: u32, variables: &[(&str, &str)], ports: SalePorts) -> Self {
        let binaries = build::functions().expect("the functions build");
        let stack = Stack::start().await.unwrap();
        stack.inventory.stock(SHOW, &[], 1_000);
        // Nobody's seats come back by themselves while a test looks elsewhere.
        let variables = [("HOLD_SECONDS", "600")].iter().chain(variables);
        let stack = variables.fold(stack, |stack, (name, value)| stack.with_variable(name, value));
        let sale = Sale::open(stack, binaries, ports).await.unwrap();

        let (worked, _) = mpsc::unbounded_channel();
        let running = sale.run(worked).await.unwrap();
        let ticks = sale.queues[TICKED].clone();
        let clock = tokio::spawn(async move {
            let mut ticking = interval(TICK);
            loop {
                ticking.tick().await;
                drop(ticks.send(Message::new(TickMessage { show_id: SHOW.to_owned() }.body())));
            }
        });
        let running = (running, AbortOnDropHandle::new(clock));
        let http = Client::builder().no_proxy().build().unwrap();
        let at = |seconds: u64| moment(epoch_ms(SystemTime::now() + Duration::from_secs(seconds)));
        let settings = json!({"tickets": tickets, "seats_max": 4, "opens_at": at(0), "closes_at": at(7_200)});
        let usher = Self { sale, settings: Mutex::new(settings), http, _running: running };
        usher.set_line(json!({})).await;
        usher
    }

    /// The page, for somebody who wants tickets.
    pub(crate) fn page(&self) -> String {
        format!("{}/waiting-room?event={SHOW}", self.sale.gateway.url())
    }

    /// Changes what the line is set to, as its operator.
    pub(crate) async fn set_line(&self, changes: Value) {
        let settings = {
            let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            let changes = changes.as_object().unwrap().clone();
            settings.as_object_mut().unwrap().extend(changes);
            settings.clone()
        };
        self.operate(Method::PUT, Some(&settings)).await;
    }

    /// The line as its operator sees it.
    pub(crate) async fn line(&self) -> Value {
        self.operate(Method::GET, None).await
    }

    async fn operate(&self, method: Method, body: Option<&Value>) -> Value {
        let request = self.http.request(method, format!("{}/internal/lines/{SHOW}", self.sale.gateway.url()));
        let mut request = body.map_or(request.try_clone().unwrap(), |body| request.json(body)).build().unwrap();
        access_key().signs(&mut request).unwrap();
        let answer = self.http.execute(request).await.unwrap();
        let (status, line) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert!(status.is_success(), "{status}: {line}");
        line
    }

    /// Lets somebody else join, and waits until he has his place. Returns its name.
    pub(crate) async fn join(&self, user_id: &str, tickets: u32) -> String {
        let made = self.call(user_id, "EnqueueBooking", json!({"eventId": SHOW, "seatCount": tickets})).await;
        let id = made["queueItemId"].as_str().unwrap().to_owned();
        self.until("he has a place", async || self.look(user_id, &id).await["position"].is_number()).await;
        id
    }

    /// Lets these people join in this order, and waits until all have their places.
    pub(crate) async fn all_join(&self, people: &[String]) {
        for user_id in people {
            self.call(user_id, "EnqueueBooking", json!({"eventId": SHOW, "seatCount": 1})).await;
        }
        self.until("all have places", async || self.line().await["joined"] == people.len()).await;
    }

    /// Somebody else asks for his place.
    pub(crate) async fn look(&self, user_id: &str, id: &str) -> Value {
        self.call(user_id, "GetQueuePosition", json!({"queueItemId": id})).await
    }

    /// Somebody else joins, and reserves when it is his turn. Returns the reservation.
    pub(crate) async fn reserves(&self, user_id: &str, tickets: u32) -> String {
        let id = self.join(user_id, tickets).await;
        self.until("it is his turn", async || self.look(user_id, &id).await["admissionToken"].is_string()).await;
        let token = self.look(user_id, &id).await["admissionToken"].clone();
        let wish = json!({"eventId": SHOW, "quantity": tickets, "reservationToken": token, "idempotencyKey": "one"});
        let made = self.post(user_id, "reservation.v1.ReservationService/CreateReservation", wish).await;
        made["reservationId"].as_str().unwrap().to_owned()
    }

    /// Somebody pays for his reservation.
    pub(crate) fn paid(&self, user_id: &str, reservation_id: &str) {
        let (reservation_id, user_id) = (reservation_id.to_owned(), user_id.to_owned());
        let order =
            Order { reservation_id, user_id, amount: 3_800, currency: "EUR".to_owned(), course: Course::Approved };
        self.sale.stack.payments.pay(order);
    }

    /// Somebody gives his reservation back.
    pub(crate) async fn gives_back(&self, user_id: &str, reservation_id: &str) {
        let wish = json!({"reservationId": reservation_id});
        self.post(user_id, "reservation.v1.ReservationService/CancelReservation", wish).await;
    }

    /// Somebody leaves the line.
    pub(crate) async fn leaves(&self, user_id: &str) {
        let id =
            self.call(user_id, "EnqueueBooking", json!({"eventId": SHOW, "seatCount": 1})).await["queueItemId"].clone();
        self.call(user_id, "CancelQueueItem", json!({"queueItemId": id})).await;
    }

    /// All reservations of somebody.
    pub(crate) async fn reservations_of(&self, user_id: &str) -> Vec<String> {
        let found = self.post(user_id, "reservation.v1.ReservationService/ListReservations", json!({})).await;
        let found = found["reservations"].as_array().cloned().unwrap_or_default();
        found.iter().map(|reservation| reservation["reservationId"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so().await {
            assert!(Instant::now() < until, "never: {what}; the line is {}", self.line().await);
            sleep(TICK / 2).await;
        }
    }

    async fn call(&self, user_id: &str, method: &str, message: Value) -> Value {
        self.post(user_id, &format!("booking_worker.v1.BookingWorkerService/{method}"), message).await
    }

    async fn post(&self, user_id: &str, path: &str, message: Value) -> Value {
        let token = self.sale.issuer.token(user_id, SCOPE, PATIENCE * 10).unwrap();
        let request = self.http.post(format!("{}/{path}", self.sale.gateway.url())).bearer_auth(token).json(&message);
        let answer = request.send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}
