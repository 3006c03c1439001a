//! A sale from the customer's first request to the sold or free seat, with nothing but functions of this repository and an
//! inventory: the API behind its gateway, the relay on the table's stream, and the functions that settle, whose calls are
//! signed and go through the same gateway.

use std::time::Duration;

use local_stack::{
    aws::Request,
    inventory::{Method as Reach, SeatState},
    payments::{Course, Order},
    queue::Message,
    sale::{self, SalePorts},
    stack::{RESERVATIONS, Stack, TABLE},
    stream::StreamMapping,
    template::SCOPE,
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{binaries, log_lines};

const SHOW: &str = "evt_1";
const CUSTOMER: &str = "usr_1";

/// Everything that sells seats, each trigger of which fires when a test says so.
struct Sale {
    stack: Stack,
    deployed: sale::Sale,
    http: Client,
    relay: StreamMapping,
}

impl Sale {
    async fn open() -> Self {
        let stack = Stack::start().await.unwrap();
        stack.inventory.stock(SHOW, &["A-1", "A-2"].map(str::to_owned), 0);
        let deployed = sale::Sale::open(stack.clone(), binaries(), SalePorts::default()).await.unwrap();
        let relay = deployed.stream(reservation_changed::NAME).await.unwrap();
        Self { stack, deployed, http: Client::builder().no_proxy().build().unwrap(), relay }
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let token = self.deployed.issuer.token(CUSTOMER, SCOPE, Duration::from_secs(300)).unwrap();
        self.http.request(method, format!("{}{path}", self.deployed.gateway.url())).bearer_auth(token)
    }

    /// Holds both seats and lets the relay tell.
    async fn hold(&mut self) -> String {
        let wish = json!({"eventId": SHOW, "quantity": 2, "seatIds": ["A-1", "A-2"]});
        let create = self.ask(Method::POST, "/v1/reservations").header("idempotency-key", "key-1").json(&wish);
        let created = answer(create, 201).await;
        self.relay.drain().await.unwrap();
        created["reservationId"].as_str().unwrap().to_owned()
    }

    /// The status as its customer sees it, and the state of its seats.
    async fn state(&self, id: &str) -> (String, SeatState) {
        let shown = answer(self.ask(Method::GET, &format!("/v1/reservations/{id}")), 200).await;
        (shown["status"].as_str().unwrap().to_owned(), self.stack.inventory.seat_state(id))
    }

    fn send(&self, function: &str, body: &Value) {
        self.deployed.queues[function].send(Message::new(body.to_string())).unwrap();
    }

    /// Delivers what waits for a function, however long it would have to wait, and tells how each record ended.
    async fn deliver(&self, function: &str) -> Vec<String> {
        let (queue, function) = (&self.deployed.queues[function], &self.deployed.functions[function]);
        queue.skip_wait();
        let mapping = self.stack.map(queue.clone(), function.clone());
        let delivery = mapping.deliver_once().await.expect("a message waits");
        let lines = log_lines(&delivery.invocation.logs);
        let ended = |id: &String| {
            let of_record = lines.iter().find(|line| line["message_id"] == **id && line["outcome"].is_string());
            of_record.unwrap_or_else(|| panic!("{id} has no outcome in {lines:#?}"))["outcome"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        delivery.batch.iter().map(ended).collect()
    }

    /// The writes that DynamoDB was asked for since the last look, none of which may have made an item too large for one unit.
    async fn writes(&self) -> usize {
        for table in [RESERVATIONS, TABLE] {
            for item in self.stack.aws.scan(table).await.unwrap() {
                assert!(size(&json!({"M": item})) <= 1_024, "{item:#}");
            }
        }
        let is_write = |request: &Request| {
            let reads = ["GetItem", "BatchGetItem", "Query", "Scan", "DescribeTable"];
            // An environment looks at its table once, by a write that never has an effect, and that is no purchase's.
            let looks = request.body["Key"]["id"]["S"].as_str().is_some_and(|id| id.ends_with("probe"));
            request.target.starts_with("DynamoDB_") && !reads.contains(&request.operation()) && !looks
        };
        self.stack.aws.take_requests().iter().filter(|request| is_write(request)).count()
    }

    /// What is on the bus of this type, as a rule has handed it to a queue.
    fn on_the_bus(&self, detail_type: &str) -> Vec<Value> {
        let entries = self.stack.aws.bus_entries().into_iter().filter(|entry| entry.detail_type == detail_type);
        entries
            .map(|entry| json!({"source": entry.source, "detail-type": entry.detail_type, "detail": entry.detail}))
            .collect()
    }
}

async fn answer(request: RequestBuilder, status: u16) -> Value {
    let answer = request.send().await.unwrap();
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The size of a value as DynamoDB counts it, rounded up: names, texts and digits as they are, and three bytes and one each for
/// what holds others.
fn size(value: &Value) -> usize {
    let held = |values: Vec<usize>| 3 + values.iter().map(|size| size + 1).sum::<usize>();
    match value.as_object().and_then(|value| value.iter().next()) {
        Some((kind, Value::Array(list))) if kind == "L" => held(list.iter().map(size).collect()),
        Some((_, Value::Object(fields))) => held(fields.iter().map(|(name, value)| name.len() + size(value)).collect()),
        Some((_, Value::String(text))) => text.len(),
        Some((_, Value::Bool(_))) => 1,
        other => panic!("no value of a reservation or a claim: {other:?}"),
    }
}

fn order(id: &str) -> Order {
    let (user_id, currency) = (CUSTOMER.to_owned(), "EUR".to_owned());
    Order { reservation_id: id.to_owned(), user_id, amount: 7_600, currency, course: Course::Approved }
}

fn approval(id: &str) -> Value {
    let detail = json!({"reservation_id": id, "event_id": SHOW, "payment_intent_id": "pi_1", "amount": 7_600});
    json!({"detail-type": "payment.approved", "source": "payment-service", "detail": detail})
}

/// The same timer when its time has come: the one in the queue names a deadline that a test does not wait for.
fn due_timer(id: &str) -> Value {
    let detail = json!({"reservation_id": id, "event_id": SHOW, "expires_at": "2026-11-20T09:14:20Z"});
    json!({"detail-type": "reservation.expired", "source": "reservation-api", "detail": detail})
}

#[tokio::test]
async fn a_hold_that_nobody_pays_runs_out_and_its_seats_are_free() {
    let mut sale = Sale::open().await;
    let id = sale.hold().await;
    assert_eq!(sale.deliver("reservation-expired").await, ["retried"], "its timer waits for its time");
    sale.send("reservation-expired", &due_timer(&id));
    assert_eq!(
        sale.deliver("reservation-expired").await,
        ["retried"],
        "one that claims to be due waits for the API's word"
    );
    assert_eq!(sale.state(&id).await, ("HOLD".to_owned(), SeatState::Held));

    sale.stack.aws.age_reservation(RESERVATIONS, &id, Duration::from_secs(61)).await.unwrap();
    sale.send("reservation-expired", &due_timer(&id));
    assert_eq!(sale.deliver("reservation-expired").await, ["success"]);
    assert_eq!(sale.state(&id).await, ("EXPIRED".to_owned(), SeatState::Free));
    sale.relay.drain().await.unwrap();
    let told = sale.on_the_bus("reservation.expired");
    assert_eq!((told.len(), &told[0]["source"], &told[0]["detail"]["by"]), (1, &json!("holdfast"), &json!("worker")));

    sale.send("payment-approved", &approval(&id));
    assert_eq!(sale.deliver("payment-approved").await, ["late_approval"]);
    assert_eq!(sale.on_the_bus("payment.refund_requested").len(), 1, "he paid for nothing and gets it back");
    assert_eq!(sale.stack.inventory.oversold(), [""; 0]);
}

#[tokio::test]
async fn a_hold_that_is_paid_is_sold_and_its_timer_comes_to_nothing() {
    let mut sale = Sale::open().await;
    let id = sale.hold().await;
    let confirm = |sale: &Sale| {
        let named = json!({"reservationId": id, "paymentIntentId": "pi_1"});
        sale.ask(Method::POST, "/v1/reservations/confirm").json(&named)
    };
    answer(confirm(&sale), 402).await;
    sale.send("payment-approved", &approval(&id));
    assert_eq!(sale.deliver("payment-approved").await, ["success"]);
    assert_eq!(sale.state(&id).await, ("CONFIRMED".to_owned(), SeatState::Sold));
    assert_eq!(answer(confirm(&sale), 200).await["orderId"], json!(id.replace("rsv_", "ord_")));
    sale.relay.drain().await.unwrap();
    let told = sale.on_the_bus("reservation.confirmed");
    assert_eq!((told.len(), &told[0]["detail"]["by"]), (1, &json!("payment")));

    sale.stack.aws.age_reservation(RESERVATIONS, &id, Duration::from_secs(61)).await.unwrap();
    sale.send("reservation-expired", &due_timer(&id));
    assert_eq!(sale.deliver("reservation-expired").await, ["superseded"]);
    assert_eq!(sale.state(&id).await, ("CONFIRMED".to_owned(), SeatState::Sold));
    assert_eq!(sale.stack.inventory.oversold(), [""; 0]);
}

/// The customer pays, and confirms before his payment's event is there: one sale, whatever comes in which order.
#[tokio::test]
async fn a_hold_that_its_customer_confirms_is_sold_by_its_event_and_once_more_by_its_payments_to_no_effect() {
    let mut sale = Sale::open().await;
    let id = sale.hold().await;
    let payment = sale.stack.payments.pay(order(&id));
    let named = json!({"reservationId": id, "paymentIntentId": payment});
    let confirm = sale.ask(Method::POST, "/v1/reservations/confirm").json(&named);
    assert_eq!(answer(confirm, 200).await["orderId"], json!(id.replace("rsv_", "ord_")));
    assert_eq!(sale.state(&id).await, ("CONFIRMED".to_owned(), SeatState::Held), "the sale follows");

    sale.relay.drain().await.unwrap();
    let told = sale.on_the_bus("reservation.confirmed");
    assert_eq!((told.len(), &told[0]["detail"]["by"]), (1, &json!("client")));
    sale.send("reservation-confirmed", &told[0]);
    assert_eq!(sale.deliver("reservation-confirmed").await, ["success", "duplicate"]);
    assert_eq!(sale.state(&id).await, ("CONFIRMED".to_owned(), SeatState::Sold));

    let approved = sale.on_the_bus("payment.approved");
    assert_eq!(approved.len(), 1, "the payment service publishes what became of each payment");
    assert_eq!(sale.deliver("payment-approved").await, ["success"]);
    let commits = sale.stack.inventory.calls().into_iter().filter(|call| call.method == Reach::CommitReservation);
    assert_eq!(commits.map(|call| call.had_effect).collect::<Vec<_>>(), [true, false]);
    assert_eq!(sale.on_the_bus("payment.refund_requested").len(), 0);
    assert_eq!(sale.stack.inventory.oversold(), [""; 0]);
}

/// What a purchase costs in DynamoDB, on paper 13 units: each write is one as long as its item has a kilobyte at most, a new
/// item costs one more, for the index of its customer, and another where the relay sees the two writes of a create apart.
#[tokio::test]
async fn a_purchase_costs_13_write_units_at_most() {
    let mut sale = Sale::open().await;
    let id = sale.hold().await;
    let (index, apart) = (1, 1);
    let mut units = index + apart + sale.writes().await;
    assert_eq!(units, 5, "pending, held, and what the relay clears behind both");
    let payment = sale.stack.payments.pay(order(&id));
    let named = json!({"reservationId": id, "paymentIntentId": payment});
    answer(sale.ask(Method::POST, "/v1/reservations/confirm").json(&named), 200).await;
    units += sale.writes().await;
    sale.relay.drain().await.unwrap();
    units += sale.writes().await;
    assert_eq!(units, 7, "confirmed and cleared");
    for (function, sum) in [("reservation-confirmed", 9), ("payment-approved", 11)] {
        assert_eq!(sale.deliver(function).await, ["success"]);
        units += sale.writes().await;
        assert_eq!(units, sum, "{function}: a claim and its completion");
    }
    sale.send("reservation-expired", &due_timer(&id));
    assert_eq!(sale.deliver("reservation-expired").await, ["superseded"]);
    units += sale.writes().await;
    assert_eq!(units, 13, "the timer: a claim and its completion");
    assert_eq!(sale.state(&id).await, ("CONFIRMED".to_owned(), SeatState::Sold));
}

/// Hard case 9, saleor#14733, from the customer's own confirm: it comes too late, and his payment's event brings the refund.
#[tokio::test]
async fn a_confirm_that_comes_too_late_is_a_conflict_and_the_payments_event_brings_the_one_refund() {
    let mut sale = Sale::open().await;
    let id = sale.hold().await;
    sale.stack.aws.age_reservation(RESERVATIONS, &id, Duration::from_secs(61)).await.unwrap();
    sale.send("reservation-expired", &due_timer(&id));
    assert_eq!(sale.deliver("reservation-expired").await, ["success"]);

    let payment = sale.stack.payments.pay(order(&id));
    let named = json!({"reservationId": id, "paymentIntentId": payment});
    let refused = answer(sale.ask(Method::POST, "/v1/reservations/confirm").json(&named), 409).await;
    assert_eq!(refused["error"]["code"], "RESERVATION_EXPIRED");
    assert_eq!(sale.deliver("payment-approved").await, ["late_approval"]);
    let refunds = sale.on_the_bus("payment.refund_requested");
    assert_eq!((refunds.len(), &refunds[0]["detail"]["payment_intent_id"]), (1, &json!(payment)));
    assert_eq!(sale.state(&id).await, ("EXPIRED".to_owned(), SeatState::Free));
}

#[tokio::test]
async fn a_reservation_that_is_given_up_frees_its_seats_by_its_event() {
    let mut sale = Sale::open().await;
    let id = sale.hold().await;
    answer(sale.ask(Method::POST, &format!("/v1/reservations/{id}/cancel")), 200).await;
    assert_eq!(sale.state(&id).await, ("CANCELLED".to_owned(), SeatState::Held), "the seats follow");
    sale.relay.drain().await.unwrap();
    let told = sale.on_the_bus("reservation.cancelled");
    assert_eq!((told.len(), &told[0]["detail"]["by"]), (1, &json!("client")));
    assert_eq!(sale.deliver("reservation-cancelled").await, ["success"]);
    assert_eq!(sale.state(&id).await, ("CANCELLED".to_owned(), SeatState::Free));
    assert_eq!(sale.stack.inventory.oversold(), [""; 0]);
}
