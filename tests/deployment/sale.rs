//! A sale as it is deployed: three hundred people come to a line for twenty tickets, through the deployed doors. Each of them
//! is one as `cargo sale` knows them, some in two tabs, absent, leaving, declined; what they were told is judged by the
//! deployed tables, the inventory, the refunds on the bus and the dead letters.

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use local_stack::{
    admission::KEY,
    books::Books,
    catalogue::{System, all_fed, function},
    crowd::{Crowd, Doors, Options, Report, SEATS_MAX, SHOW, Windows, stock},
    gateway::{AUDIENCE, Issuer},
    inventory::Inventory,
    ministack::MiniStack,
    payments::Payments,
    stack::{PAYMENT_SOURCE, WAITING_ROOM_KEYS},
};
use serde_json::{Value, json};
use shared::{
    deadline::{epoch_ms, moment},
    waiting_room::table::Table,
};
use tokio::net::TcpListener;

use crate::{
    PATIENCE, STACK, body,
    bookings::secret,
    in_queue, log, messages, put_on_the_bus,
    reservations::{Api, SCOPE},
    resource, sam, subscribe_to_refunds,
    traffic::Entry,
};

/// MiniStack takes some ten requests a second here, so that nobody asks for his place who can read how far the line is.
const OPTIONS: Options = Options {
    people: 300,
    tickets: 20,
    arrive_within: Duration::from_secs(10),
    windows: Windows {
        call: Duration::from_secs(20),
        booking: Duration::from_secs(30),
        hold: Duration::from_secs(60),
        longest_wait: Duration::from_secs(5),
    },
    some_pay_late: false,
    reads_board: true,
    is_calm: true,
    seed: 1,
};

/// What a slow machine is denied: for several messages that are handed back at once MiniStack asks for an action of its own,
/// which on AWS is allowed with that for one. They come back a little later.
const BATCH: &str = "messages could not be handed back";

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_people_buy_the_twenty_tickets_of_a_deployed_sale_and_each_knows_his_end() {
    if sam::built().is_none() {
        return;
    }
    let house = House::deploy().await;
    let deployed = Instant::now();
    let refund_desk = subscribe_to_refunds(&house.account).await;
    house.open_line().await;
    house.wind_up().await;
    let mut crowd = Crowd::before(house.doors().await, OPTIONS).unwrap();
    crowd.visit(|_| ()).await.unwrap();
    house.come_to_rest(&mut crowd).await;

    let refunds = messages(&house.account, &refund_desk).await;
    let refunds = refunds.iter().map(|message| body(message)["detail"].clone());
    let books = Books::read(&house.reservations().await, refunds);
    let faults = books.faults_by(&house.inventory, house.dead_letters().await);
    let report = crowd.report(&books, faults).await.unwrap();
    let Report { fates, placed_within, requests, late, inversions, .. } = &report;
    let told = format!(
        "{}\nPlaced within {placed_within:?}, {late} late, {inversions} pairs out of order; {requests:?} requests; {fates:?}; \
         at rest {:?} after it was deployed.\n",
        report.verdict(),
        deployed.elapsed()
    );
    // Not by a macro: the test harness shows what macros print only when a test fails.
    drop(io::stderr().write_all(told.as_bytes()));
    assert!(report.breaches.is_empty(), "{:#?}", report.breaches);
    assert_eq!(report.sold, OPTIONS.tickets);
    assert_eq!(fates.values().sum::<usize>(), OPTIONS.people as usize, "each knows his end: {fates:?}");
    for name in functions() {
        let lines = log(&house.account, name).await;
        let denied: Vec<&str> =
            lines.lines().filter(|line| line.contains("AccessDenied") && !line.contains(BATCH)).collect();
        assert!(denied.is_empty(), "the role of {name} suffices: {denied:#?}");
    }
}

/// A stack that sells, and what stands around it.
struct House {
    account: Arc<MiniStack>,
    api: Api,
    issuer: Issuer,
    inventory: Inventory,
    payments: Payments,
}

impl House {
    async fn deploy() -> Self {
        let account = Arc::new(sam::account("sale").await);
        let issuer = Issuer::start_on(0).await.unwrap();
        let inventory = Inventory::default();
        stock(&inventory, &OPTIONS);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let inventory_address = listener.local_addr().unwrap().to_string();
        tokio::spawn(inventory.clone().serve(listener));
        let keys = json!({"waiting_room_key": WAITING_ROOM_KEYS, "admission_key": KEY});
        let (keys, issuer_url) = (secret(&account, "keys", &keys).await, issuer.url());
        let seconds = |time: Duration| time.as_secs().to_string();
        let [call, booking, hold] = [OPTIONS.windows.call, OPTIONS.windows.booking, OPTIONS.windows.hold].map(seconds);
        let parameters = [
            ("WaitingRoom", "true"),
            ("SecretArn", &keys),
            ("InventoryGrpcAddr", &inventory_address),
            ("JwtIssuer", &issuer_url),
            ("JwtAudience", AUDIENCE),
            ("JwtScope", SCOPE),
            ("CallWindowSeconds", &call),
            ("BookingWindowSeconds", &booking),
            ("HoldSeconds", &hold),
            ("AwsEndpointUrl", &account.url),
        ];
        sam::deploy(&account.url, STACK, &parameters);
        let api = Api::of(&account, issuer.clone()).await;
        let payments = Payments::default();
        let bus = account.clone();
        payments.publish_by(move |(detail_type, detail)| {
            let bus = bus.clone();
            tokio::spawn(async move {
                let ended = Entry { source: PAYMENT_SOURCE, detail_type, detail };
                put_on_the_bus(&bus, STACK, [&ended]).await
            });
        });
        Self { account, api, issuer, inventory, payments }
    }

    /// As its operator does, by a signed request.
    async fn open_line(&self) {
        let at = |minutes: u64| moment(epoch_ms(SystemTime::now() + Duration::from_secs(60 * minutes)));
        let line = json!({
            "tickets": OPTIONS.tickets, "seats_max": SEATS_MAX, "opens_at": at(0), "closes_at": at(60),
        });
        let stage = self.api.url.strip_prefix(&self.account.url).unwrap();
        let path = format!("{stage}/internal/lines/{SHOW}");
        let opened = self.account.try_rest("execute-api", "PUT", &path, &line).await.unwrap();
        assert_eq!((&opened["state"], &opened["joined"]), (&json!("open"), &json!(0)), "{opened}");
    }

    /// Has the clock send the ticks of a minute, which its rule does by itself too, at a moment of its own.
    async fn wind_up(&self) {
        let answer = self.account.invoke(&format!("{STACK}-waiting-room-clock:live")).await;
        assert_eq!(answer, "null", "the clock has sent its ticks");
    }

    async fn doors(&self) -> Doors {
        let table = Table::new(self.account.tables(), resource(&self.account, "WaitingRoomTable").await);
        Doors { url: self.api.url.clone(), issuer: self.issuer.clone(), payments: self.payments.clone(), table }
    }

    /// Waits until nothing waits in a queue or for the relay, and no turn is going on. Ticks come each second and are nobody's.
    async fn come_to_rest(&self, crowd: &mut Crowd) {
        let started = Instant::now();
        loop {
            let inside = crowd.look().await.unwrap();
            let mut waiting = 0;
            for name in functions().filter(|name| *name != waiting_room_ticked::NAME) {
                waiting += in_queue(&self.account, name).await;
            }
            let untold = self.reservations().await.iter().filter(|item| item.get("unpublished").is_some()).count();
            if (inside, waiting, untold) == (0, 0, 0) {
                return;
            }
            let what = format!("{inside} places are inside, {waiting} messages wait, {untold} changes are not told");
            assert!(started.elapsed() < PATIENCE, "the sale does not come to rest: {what}");
        }
    }

    async fn reservations(&self) -> Vec<Value> {
        let mut input =
            json!({"TableName": resource(&self.account, "ReservationsTable").await, "ConsistentRead": true});
        let mut items = Vec::new();
        loop {
            let mut found = self.account.call("dynamodb", "DynamoDB_20120810.Scan", input.clone()).await;
            items.extend(found["Items"].as_array().cloned().unwrap_or_default());
            let last = found["LastEvaluatedKey"].take();
            if last.is_null() {
                return items;
            }
            input["ExclusiveStartKey"] = last;
        }
    }

    /// The dead letters, each with its function.
    async fn dead_letters(&self) -> Vec<(String, String)> {
        let mut letters = Vec::new();
        for name in functions().filter(|name| *name != waiting_room_ticked::NAME) {
            let found = messages(&self.account, &format!("{STACK}-{name}-dlq")).await;
            letters.extend(found.iter().map(|letter| (name.to_owned(), letter.to_string())));
        }
        letters
    }
}

/// The deployed functions that read a queue.
fn functions() -> impl Iterator<Item = &'static str> {
    let is_deployed = |name: &&str| function(name).is_some_and(|function| function.system != System::Bookings);
    all_fed().map(|fed| fed.name).filter(is_deployed)
}
