//! A sale as it is deployed: a customer's token opens the HTTP API, and nobody else gets in; a payment's event confirms by a
//! signed call, and his own word by the payment service; a hold is given up, or runs out, and its late payment is refunded.
//! What MiniStack does otherwise than API Gateway is asserted, so that it shows when it ends.

use std::time::Duration;

use local_stack::{
    gateway::{AUDIENCE, Issuer},
    inventory::{Inventory, SeatState},
    ministack::MiniStack,
    payments::{Course, Order, Payments},
};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    STACK, alarms, body, delete, log, messages, only_tables_are_left, put_on_the_bus, resource, sam,
    subscribe_to_refunds, traffic::Entry, until, waiting,
};

const SHOW: &str = "evt_2026_1121";
pub(crate) const SCOPE: &str = "reserve";
const PAGE: &str = "https://shop.example";

/// The API as its clients have it.
pub(crate) struct Api {
    client: Client,
    pub(crate) url: String,
    issuer: Issuer,
}

/// An answer, whose body is JSON or nothing.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Api {
    pub(crate) async fn of(account: &MiniStack, issuer: Issuer) -> Self {
        let id = resource(account, "Api").await;
        // Not the address of the stack's output, whose name not every resolver knows.
        let url = format!("{}/_aws/execute-api/{id}/$default", account.url);
        Self { client: Client::builder().no_proxy().build().unwrap(), url, issuer }
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A request of this customer, whose token has the scope that the API asks for.
    pub(crate) fn ask_as(&self, sub: &str, method: Method, path: &str) -> RequestBuilder {
        self.ask(method, path).bearer_auth(self.token(sub, SCOPE))
    }

    fn token(&self, sub: &str, scope: &str) -> String {
        self.issuer.token(sub, scope, Duration::from_secs(300)).unwrap()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    Answer { status, body }
}

/// Asserts that this is an answer of API Gateway's own.
#[track_caller]
fn is_of_the_gateway(answer: &Answer, status: u16, message: &str) {
    assert_eq!((answer.status.as_u16(), &answer.body), (status, &json!({"message": message})));
}

/// Asserts that this is an error of the function.
#[track_caller]
pub(crate) fn is_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), &answer.body["error"]["code"]), (status, &json!(code)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_are_sold_given_up_and_run_out_on_the_deployed_template_and_nobody_else_gets_in() {
    let Some(built) = sam::built() else { return };
    let account = sam::account("reservations").await;
    let issuer = Issuer::start_on(0).await.unwrap();
    let inventory = Inventory::default();
    inventory.stock(SHOW, &["A-1", "A-2", "B-1", "C-1", "D-1"].map(str::to_owned), 0);
    inventory.price(SHOW, 3_800, "EUR");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let inventory_address = listener.local_addr().unwrap().to_string();
    tokio::spawn(inventory.clone().serve(listener));
    let payments = Payments::default();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let payment_address = listener.local_addr().unwrap().to_string();
    tokio::spawn(payments.clone().serve(listener));
    let issuer_url = issuer.url();
    let parameters = sam::parameters(&[
        ("InventoryGrpcAddr", &inventory_address),
        ("PaymentGrpcAddr", &payment_address),
        ("HoldSeconds", "30"), // The shortest: one of the holds runs out.
        ("JwtIssuer", &issuer_url),
        ("JwtAudience", AUDIENCE),
        ("JwtScope", SCOPE),
        ("CorsOrigins", PAGE),
        // MiniStack throttles nothing. When it does, a request is answered 429, and this goes off .template/README.md.
        ("ThrottleRate", "1"),
        ("ThrottleBurst", "1"),
        ("AwsEndpointUrl", &account.url),
    ]);
    sam::deploy_template(&account.url, STACK, &built.join("template.yaml"), &parameters);
    let refund_queue = subscribe_to_refunds(&account).await;
    let api = Api::of(&account, issuer).await;
    let (running_out, given_up, own_word) = (api.hold("D-1").await, api.hold("B-1").await, api.hold("C-1").await);

    nobody_else_gets_in(&api).await;
    let wish = json!({"eventId": SHOW, "quantity": 2, "seatIds": ["A-1", "A-2"]});
    let create =
        || api.ask_as("usr_1", Method::POST, "/v1/reservations").header("idempotency-key", "key-1").json(&wish);
    let created = answer(create()).await;
    assert_eq!((created.status, &created.body["status"]), (StatusCode::CREATED, &json!("HOLD")), "{created:?}");
    assert_eq!(answer(create()).await.body, created.body, "a repeat is told the same");
    let id = created.body["reservationId"].as_str().unwrap();
    let path = format!("/v1/reservations/{id}");
    let shown = answer(api.ask_as("usr_1", Method::GET, &path)).await;
    assert_eq!((shown.status, &shown.body["status"]), (StatusCode::OK, &json!("HOLD")), "{shown:?}");
    is_error(&answer(api.ask_as("usr_2", Method::GET, &path)).await, 404, "RESERVATION_NOT_FOUND");
    let listed = answer(api.ask_as("usr_1", Method::GET, "/v1/reservations?status=HOLD&limit=1")).await;
    assert_eq!(listed.body["items"], json!([shown.body]), "the role may read index and table");
    let by_rpc = api.ask_as("usr_1", Method::POST, "/reservation.v1.ReservationService/GetReservation");
    let by_rpc = answer(by_rpc.json(&json!({"reservationId": id}))).await;
    assert_eq!(
        (by_rpc.status, &by_rpc.body["reservation"]["reservationId"]),
        (StatusCode::OK, &json!(id)),
        "{by_rpc:?}"
    );
    assert_eq!(inventory.seat_state(id), SeatState::Held);
    only_a_signature_opens_what_is_internal(&account, &api, id).await;

    let detail = json!({
        "reservation_id": id, "event_id": SHOW, "qty": 2, "payment_intent_id": "pi_1", "amount": 7_600, "currency": "EUR",
    });
    let paid = Entry { source: "payment-service", detail_type: "payment.approved", detail };
    put_on_the_bus(&account, STACK, [&paid]).await;
    until("the payment's event is settled", async || inventory.seat_state(id) == SeatState::Sold).await;
    let confirm =
        api.ask_as("usr_1", Method::POST, &format!("{path}/confirm")).json(&json!({"paymentIntentId": "pi_1"}));
    let confirmed = answer(confirm).await;
    assert_eq!((confirmed.status, &confirmed.body["status"]), (StatusCode::OK, &json!("CONFIRMED")), "{confirmed:?}");

    let cancelled = answer(api.ask_as("usr_1", Method::POST, &format!("/v1/reservations/{given_up}/cancel"))).await;
    assert_eq!(cancelled.body["status"], "CANCELLED", "{cancelled:?}");
    let payment = payments.pay(order(&own_word));
    let confirm = api.ask_as("usr_1", Method::POST, &format!("/v1/reservations/{own_word}/confirm"));
    let confirmed = answer(confirm.json(&json!({"paymentIntentId": payment}))).await;
    assert_eq!(confirmed.body["status"], "CONFIRMED", "{confirmed:?}");
    until("what the customer did is settled by its events", async || {
        let seats = |id: &str| inventory.seat_state(id);
        (seats(&given_up), seats(&own_word)) == (SeatState::Free, SeatState::Sold)
    })
    .await;

    until("the hold has run out, and its seat is free", async || inventory.seat_state(&running_out) == SeatState::Free)
        .await;
    let ended = answer(api.ask_as("usr_1", Method::GET, &format!("/v1/reservations/{running_out}"))).await;
    assert_eq!(ended.body["status"], "EXPIRED", "{ended:?}");
    let detail = json!({"reservation_id": running_out, "payment_intent_id": "pi_late", "amount": 3_800});
    let late = Entry { source: "payment-service", detail_type: "payment.approved", detail };
    put_on_the_bus(&account, STACK, [&late]).await;
    until("the late payment is settled", async || waiting(&account).await == 0).await;
    let refunds: Vec<Value> =
        messages(&account, &refund_queue).await.iter().map(|message| body(message)["detail"].clone()).collect();
    assert_eq!(refunds.len(), 1, "{refunds:#?}");
    let refund = &refunds[0];
    assert_eq!((&refund["reservation_id"], &refund["payment_intent_id"]), (&json!(running_out), &json!("pi_late")));
    assert_eq!(inventory.oversold(), Vec::<String>::new());

    let lines = log(&account, "reservation-api").await;
    assert!(lines.contains("\"route\":\"PATCH /internal/reservations/{id}\""), "the guard was asked here:\n{lines}");
    assert!(!lines.contains("usr_1") && !lines.contains("Bearer"), "a line names a customer:\n{lines}");
    let alarms = alarms(&account, "").await;
    for kind in ["errors", "throttles", "duration", "server-errors", "latency"] {
        assert!(alarms.contains(&format!("{STACK}-reservation-api-{kind}")), "{kind} is missing in {alarms:?}");
    }
    let form = format!("Action=GetDashboard&Version=2010-08-01&DashboardName={STACK}-reservations");
    assert!(account.query("monitoring", &form).await.contains("http_server_requests_seconds"));

    delete(&account).await;
    only_tables_are_left(&account, 2, &[]).await;
}

impl Api {
    /// Holds this seat; the answer is the reservation's id.
    async fn hold(&self, seat: &str) -> String {
        let wish = json!({"eventId": SHOW, "quantity": 1, "seatIds": [seat]});
        let create = self.ask_as("usr_1", Method::POST, "/v1/reservations").header("idempotency-key", seat);
        let created = answer(create.json(&wish)).await;
        assert_eq!((created.status, &created.body["status"]), (StatusCode::CREATED, &json!("HOLD")), "{created:?}");
        created.body["reservationId"].as_str().unwrap().to_owned()
    }
}

fn order(reservation_id: &str) -> Order {
    Order {
        reservation_id: reservation_id.to_owned(),
        user_id: "usr_1".to_owned(),
        amount: 3_800,
        currency: "EUR".to_owned(),
        course: Course::Approved,
    }
}

async fn nobody_else_gets_in(api: &Api) {
    let list = |token: &str| api.ask(Method::GET, "/v1/reservations").bearer_auth(token);
    is_of_the_gateway(&answer(api.ask(Method::GET, "/v1/reservations")).await, 401, "Unauthorized");
    is_of_the_gateway(&answer(api.ask(Method::POST, "/v1/reservations")).await, 401, "Unauthorized");
    is_of_the_gateway(&answer(list("a.b.c")).await, 401, "Unauthorized");
    is_of_the_gateway(&answer(list(&api.token("usr_1", "profile"))).await, 403, "Forbidden");
    let other = Issuer::start_on(0).await.unwrap();
    let foreign = other.token("usr_1", SCOPE, Duration::from_secs(300)).unwrap();
    is_of_the_gateway(&answer(list(&foreign)).await, 401, "Unauthorized");
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/v1"),
        (Method::GET, "/v2/reservations"),
        (Method::POST, "/health"),
        (Method::GET, "/internal"),
    ] {
        is_of_the_gateway(&answer(api.ask(method, path)).await, 404, "Not Found");
    }
    for path in ["/health", "/actuator/health"] {
        assert_eq!(answer(api.ask(Method::GET, path)).await.body, json!({"status": "UP"}));
    }
    assert_eq!(answer(api.ask(Method::GET, "/info")).await.body["name"], "reservation-api");
    let unknown = api.ask_as("usr_1", Method::DELETE, "/v1/reservations/rsv_1");
    is_error(&answer(unknown).await, 405, "METHOD_NOT_ALLOWED");

    // MiniStack answers a preflight before it looks for a route, and does not read the origins of CloudFormation.
    let preflight = api.ask(Method::OPTIONS, "/v1/reservations").header("origin", PAGE);
    let preflight = answer(preflight.header("access-control-request-method", "POST")).await;
    let mend = "MiniStack takes CORS from CloudFormation now: assert the answer, and take this off .template/README.md";
    assert_eq!(preflight.status, StatusCode::FORBIDDEN, "{mend}");
}

async fn only_a_signature_opens_what_is_internal(account: &MiniStack, api: &Api, id: &str) {
    let path = format!("/internal/reservations/{id}");
    is_of_the_gateway(&answer(api.ask(Method::GET, &path)).await, 403, "Forbidden");
    // API Gateway refuses it. MiniStack lets it pass, and the function knows nobody by it.
    let customer = api.ask_as("usr_1", Method::GET, &path);
    is_error(&answer(customer).await, 401, "AUTHENTICATION_FAILED");
    let cancel = json!({"status": "CANCELLED"});
    let refused = answer(api.ask_as("usr_1", Method::PATCH, &path).json(&cancel)).await;
    is_error(&refused, 401, "AUTHENTICATION_FAILED");

    let base = api.url.strip_prefix(&account.url).unwrap();
    let signed = account.get("execute-api", &format!("{base}{path}")).await;
    let signed: Value = serde_json::from_str(&signed).unwrap();
    assert_eq!((&signed["reservation_id"], &signed["status"]), (&json!(id), &json!("HOLD")), "and nothing has changed");
}
