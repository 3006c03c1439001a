//! Every operation of the document by every caller that it is not for, through the gateway: none is answered more than its
//! error, and nothing has changed.

use std::time::Duration;

use local_stack::{
    document::{Document, Operation},
    gateway::{AUDIENCE, AccessKey, Issuer, Token},
    sale,
    template::SCOPE,
};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::World;

struct Door {
    world: World,
    http: Client,
    /// A customer's reservation, on hold.
    id: String,
    /// As its customer saw it then.
    shown: Value,
}

impl Door {
    async fn open() -> Self {
        let world = World::open(2).await;
        let http = Client::builder().no_proxy().build().unwrap();
        let wish = json!({"eventId": "evt_2026_1001", "seatIds": ["A-1"]});
        let url = format!("{}/v1/reservations", world.gateway.url());
        let create = http.post(url).bearer_auth(world.token("usr_1")).header("idempotency-key", "key-1").json(&wish);
        let made: Value = create.send().await.unwrap().json().await.unwrap();
        let id = made["reservationId"].as_str().unwrap().to_owned();
        let door = Self { world, http, id, shown: Value::Null };
        Self { shown: door.look().await, ..door }
    }

    async fn look(&self) -> Value {
        let url = format!("{}/v1/reservations/{}", self.world.gateway.url(), self.id);
        let shown = self.http.get(url).bearer_auth(self.world.token("usr_1")).send().await.unwrap();
        shown.json().await.unwrap()
    }

    /// What would do something, if its caller might.
    fn ask(&self, operation: Operation<'_>) -> RequestBuilder {
        let method: Method = operation.method.parse().unwrap();
        self.ask_by(method, operation)
    }

    fn ask_by(&self, method: Method, operation: Operation<'_>) -> RequestBuilder {
        let path = operation.path.replace("{id}", &self.id);
        let request = self.http.request(method, format!("{}{path}", self.world.gateway.url()));
        let request = request.header("idempotency-key", "key-2").header("if-none-match", "*");
        let examples = operation.about["requestBody"]["content"]["application/json"]["examples"].as_object();
        let Some(example) = examples.and_then(|examples| examples.values().next()) else { return request };
        let mut body = example["value"].clone();
        if body["reservationId"].is_string() {
            body["reservationId"] = json!(self.id);
        }
        request.json(&body)
    }

    /// The request with a signature of this key.
    fn signed(&self, request: RequestBuilder, (id, secret): (&str, &str)) -> reqwest::Request {
        let mut request = request.build().unwrap();
        let key = AccessKey { id: id.to_owned(), secret: secret.to_owned(), ..sale::access_key() };
        key.signs(&mut request).unwrap();
        request
    }

    /// The reservation is as it was, and the inventory was asked once.
    async fn nothing_has_changed(&self) {
        assert_eq!(self.look().await, self.shown);
        assert_eq!(self.shown["status"], "HOLD");
        assert_eq!(self.world.stack.inventory.calls().len(), 1, "only the create asked it");
    }
}

/// It is refused by API Gateway, in its own few words.
async fn is_refused_at_the_door(response: Response, status: u16, message: &str, about: &str) {
    assert_eq!(response.status().as_u16(), status, "{about}");
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"message": message}), "{about}");
}

/// It is refused by the function, with nothing but the error.
async fn is_refused(response: Response, status: u16, code: &str, about: &str) {
    assert_eq!(response.status().as_u16(), status, "{about}");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], code, "{about}: {body}");
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&body), ["error"], "{about}");
    assert_eq!(fields(&body["error"]), ["code", "details", "message", "traceId"], "{about}");
    assert_eq!(body["error"]["details"], Value::Null, "{about}");
}

#[tokio::test]
async fn no_operation_for_customers_answers_without_a_token_for_it() {
    let door = Door::open().await;
    let document = Document::read().unwrap();
    let issuer = door.world.issuer.url();
    let elsewhere = Issuer::start_on(0).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let sound = Token { issuer: &issuer, audience: AUDIENCE, sub: "usr_1", scope: SCOPE, lifetime: hour };
    let signed = |token: Token<'_>| token.signed().unwrap();
    let broken = signed(sound.clone());
    let broken = format!("{}AAAA", &broken[..broken.len() - 4]);
    let operations: Vec<_> = document.operations().into_iter().filter(|found| found.tag == "customers").collect();
    assert_eq!(operations.len(), 8);
    for operation in operations {
        let about = format!("{} {}", operation.method, operation.path);
        let unauthorized = [
            ("nothing", door.ask(operation)),
            ("no token", door.ask(operation).bearer_auth("nonsense")),
            ("a broken one", door.ask(operation).bearer_auth(&broken)),
            ("another audience", door.ask(operation).bearer_auth(signed(Token { audience: "else", ..sound.clone() }))),
            (
                "an expired one",
                door.ask(operation).bearer_auth(signed(Token { lifetime: Duration::ZERO, ..sound.clone() })),
            ),
            ("another issuer", door.ask(operation).bearer_auth(elsewhere.token("usr_1", SCOPE, hour).unwrap())),
            ("a password", door.ask(operation).basic_auth("usr_1", Some("secret"))),
        ];
        for (what, request) in unauthorized {
            is_refused_at_the_door(request.send().await.unwrap(), 401, "Unauthorized", &format!("{about} by {what}"))
                .await;
        }
        let signature = door.signed(door.ask(operation), ("test", "test"));
        is_refused_at_the_door(door.http.execute(signature).await.unwrap(), 401, "Unauthorized", &about).await;
        let other_scope = door.ask(operation).bearer_auth(signed(Token { scope: "other", ..sound.clone() }));
        is_refused_at_the_door(other_scope.send().await.unwrap(), 403, "Forbidden", &about).await;
        // A token that names nobody is good at the door, and nobody's in the function.
        let nobody = door.ask(operation).bearer_auth(signed(Token { sub: "", ..sound.clone() }));
        is_refused(nobody.send().await.unwrap(), 401, "AUTHENTICATION_FAILED", &about).await;
    }
    door.nothing_has_changed().await;
}

#[tokio::test]
async fn another_customers_reservation_is_not_told_from_one_that_is_not_there() {
    let door = Door::open().await;
    let document = Document::read().unwrap();
    let mut tried = 0;
    for operation in document.operations().into_iter().filter(|found| found.tag == "customers") {
        let about = format!("{} {}", operation.method, operation.path);
        let names = operation.path.contains("{id}")
            || operation.path.ends_with("confirm")
            || operation.path.ends_with("cancel");
        if names {
            let other = door.ask(operation).bearer_auth(door.world.token("usr_2"));
            is_refused(other.send().await.unwrap(), 404, "RESERVATION_NOT_FOUND", &about).await;
            tried += 1;
        }
    }
    assert_eq!(tried, 6);
    door.nothing_has_changed().await;
}

#[tokio::test]
async fn no_operation_for_functions_answers_without_a_known_signature() {
    let door = Door::open().await;
    let document = Document::read().unwrap();
    let operations: Vec<_> = document.operations().into_iter().filter(|found| found.tag == "functions").collect();
    assert_eq!(operations.len(), 3);
    for operation in operations {
        let about = format!("{} {}", operation.method, operation.path);
        let token = door.world.token("usr_1");
        for request in [door.ask(operation), door.ask(operation).bearer_auth(token)] {
            is_refused_at_the_door(request.send().await.unwrap(), 403, "Forbidden", &about).await;
        }
        for key in [("test", "a guess"), ("stranger", "test")] {
            let request = door.signed(door.ask(operation), key);
            is_refused_at_the_door(door.http.execute(request).await.unwrap(), 403, "Forbidden", &about).await;
        }
    }
    door.nothing_has_changed().await;
}

/// What is public has routes for GET alone, so that API Gateway refuses the rest by itself.
#[tokio::test]
async fn another_method_is_refused_on_every_path_and_told_which_there_are() {
    let door = Door::open().await;
    let document = Document::read().unwrap();
    let mut tried = 0;
    for operation in document.operations() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            let taken = document.operation(method, operation.path).is_some_and(|found| found.path == operation.path);
            if taken {
                continue;
            }
            let about = format!("{method} {}", operation.path);
            let request = door.ask_by(method.parse().unwrap(), operation);
            let response = match operation.tag {
                "functions" => door.http.execute(door.signed(request, ("test", "test"))).await.unwrap(),
                _ => request.bearer_auth(door.world.token("usr_1")).send().await.unwrap(),
            };
            if operation.tag == "anybody" {
                is_refused_at_the_door(response, 404, "Not Found", &about).await;
            } else {
                let allowed = response.headers().get("allow").and_then(|value| value.to_str().ok()).unwrap_or_default();
                assert!(allowed.split(',').any(|name| name.trim() == operation.method), "{about}: {allowed:?}");
                is_refused(response, 405, "METHOD_NOT_ALLOWED", &about).await;
            }
            tried += 1;
        }
    }
    assert!(tried > 80, "{tried}");
    door.nothing_has_changed().await;
}

/// What API Gateway decodes may be anything. It is answered as a path of its own, and opens none that is closed.
#[tokio::test]
async fn an_odd_path_or_method_is_refused_and_opens_nothing() {
    let door = Door::open().await;
    let token = door.world.token("usr_1");
    let id = &door.id;
    for (method, target, status) in [
        ("GET", format!("/v1/reservations/{id}"), 200),
        ("HEAD", format!("/v1/reservations/{id}"), 200),
        ("HEAD", "/v1/reservations/rsv_none".to_owned(), 404),
        ("OPTIONS", format!("/v1/reservations/{id}"), 204),
        ("BREW", format!("/v1/reservations/{id}"), 405),
        ("GET", format!("/v1/reservations/{id}%2Fcancel"), 405),
        ("GET", "/v1/reservations/%2F".to_owned(), 404),
        ("GET", "/v1/reservations/..%2F..%2Finternal%2Freservations%2Frsv_1".to_owned(), 404),
        ("GET", "/v1/../health".to_owned(), 404),
        ("GET", "/v1/reservations/%22rsv%22".to_owned(), 404),
        ("GET", "/v1/reservations/rsv\"1".to_owned(), 404),
        ("GET", "/v1/reservations/%00".to_owned(), 404),
        ("GET", "/v1/reservations?status=%22HOLD%22".to_owned(), 400),
        ("GET", "/v1/reservations?limit=\"5\"".to_owned(), 400),
        ("GET", "/v1/reservations?%ff=%ff".to_owned(), 200),
        ("GET", format!("/internal/reservations/{id}"), 403),
        ("GET", format!("/internal%2Freservations%2F{id}"), 403),
    ] {
        let (found, body) = raw(&door, method, &target, &token).await;
        assert_eq!(found, status, "{method} {target}: {body}");
        assert!(method != "HEAD" || body.is_empty(), "{method} {target}: {body}");
    }
    door.nothing_has_changed().await;
}

/// Sends what no client library would, and returns the status and the body.
async fn raw(door: &Door, method: &str, target: &str, token: &str) -> (u16, String) {
    let address = door.world.gateway.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default(), body.to_owned())
}
