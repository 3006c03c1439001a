//! The local HTTP API, in front of a real function that answers with what it has seen.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use axum::{Router, body::Bytes, extract::Path, http::StatusCode, routing::post};
use local_stack::{
    build,
    gateway::{
        AUDIENCE, AccessKey, Authorization, Gateway, GatewayError, GatewayOptions, Issuer, JwtConfiguration, Route,
        TIMEOUT, Target,
    },
    lambda::{Function, FunctionOptions},
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const WORKER: &str = "arn:aws:sts::000000000000:assumed-role/payment-approved/local";
const KEY: (&str, &str) = ("worker", "worker's secret");

fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build::example("http").expect("the example builds")).clone()
}

fn route(key: &str, authorization: Authorization) -> Route {
    Route { key: key.parse().unwrap(), authorization, function: "http".to_owned() }
}

fn routes() -> Vec<Route> {
    let jwt = |scopes: &[&str]| Authorization::Jwt { scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect() };
    vec![
        route("ANY /v1/{proxy+}", jwt(&["tickets"])),
        route("ANY /any-token/{proxy+}", jwt(&[])),
        route("ANY /internal/{proxy+}", Authorization::Iam),
        route("GET /health", Authorization::None),
        route("ANY /open/{proxy+}", Authorization::None),
    ]
}

struct World {
    gateway: Gateway,
    function: Function,
    issuer: Issuer,
    http: Client,
}

/// An API in front of a function with this time-out.
async fn world_with(function_timeout: Duration, timeout: Duration) -> World {
    let function = Function::start(FunctionOptions {
        name: "http".to_owned(),
        binary: binary(),
        environment: BTreeMap::new(),
        timeout: function_timeout,
        environments: 2,
        memory_mb: 256,
        core: None,
    })
    .unwrap();
    let issuer = Issuer::start_on(0).await.unwrap();
    let gateway = Gateway::start(options(&issuer, Target::Function(function.clone()), timeout)).await.unwrap();
    World { gateway, function, issuer, http: Client::builder().no_proxy().build().unwrap() }
}

async fn world() -> World {
    world_with(Duration::from_secs(10), TIMEOUT).await
}

fn options(issuer: &Issuer, target: Target, timeout: Duration) -> GatewayOptions {
    let (id, secret) = KEY;
    GatewayOptions {
        port: 0,
        routes: routes(),
        functions: [("http".to_owned(), target)].into(),
        jwt: Some(JwtConfiguration { issuer: issuer.url(), audience: vec![AUDIENCE.to_owned()] }),
        access_keys: vec![AccessKey { id: id.to_owned(), secret: secret.to_owned(), arn: WORKER.to_owned() }],
        timeout,
    }
}

impl World {
    fn request(&self, method: &str, target: &str) -> RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{target}", self.gateway.url()))
    }

    async fn get(&self, target: &str) -> Response {
        self.request("GET", target).send().await.unwrap()
    }

    fn token(&self, scope: &str) -> String {
        self.issuer.token("usr_1", scope, Duration::from_secs(60)).unwrap()
    }

    /// A request that is signed with a key.
    fn signed(&self, method: &str, target: &str, (id, secret): (&str, &str), body: &'static str) -> RequestBuilder {
        let url = format!("{}{target}", self.gateway.url());
        let host = self.gateway.url().trim_start_matches("http://").to_owned();
        let identity = Credentials::new(id, secret, None, None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("execute-api")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .unwrap();
        let headers = [("host", host.as_str())].into_iter();
        let signable = SignableRequest::new(method, &url, headers, SignableBody::Bytes(body.as_bytes())).unwrap();
        let (instructions, _) = sign(signable, &parameters.into()).unwrap().into_parts();
        let request = self.request(method, target).body(body);
        instructions.headers().fold(request, |request, (name, value)| request.header(name, value))
    }

    /// The status and the body that a request gets whose target no client library would send.
    async fn raw(&self, target: &str) -> (u16, String) {
        let address = self.gateway.url();
        let address = address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The function answers a request that nobody waits for any more.
    async fn comes_to_its_end(&self) {
        let started = Instant::now();
        while self.invocations() == 0 {
            assert!(started.elapsed() < Duration::from_secs(20), "its invocation was ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How often the function has answered.
    fn invocations(&self) -> usize {
        self.function.all_logs().iter().filter(|line| line.contains("request answered")).count()
    }
}

/// The response is API Gateway's own.
async fn check_own(response: Response, status: u16, message: &str) {
    assert_eq!(response.status().as_u16(), status);
    assert!(response.headers().contains_key("apigw-requestid"));
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"message": message}));
}

async fn seen(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_function_and_its_answer_the_client() {
    let world = world().await;
    let request = world.request("POST", "/open/a%20b/c?x=1&x=%2F&y=a+b").header("x-probe", "first");
    let request = request.header("x-probe", "second").header("cookie", "a=1; b=2").header("content-type", "text/plain");
    let response = request.body("grüße").send().await.unwrap();
    let headers = response.headers().clone();
    let seen = seen(response).await;
    assert_eq!((&seen["method"], &seen["path"]), (&json!("POST"), &json!("/open/a%20b/c")));
    assert_eq!((&seen["query"], &seen["body"]), (&json!("x=1&x=%2F&y=a+b"), &json!("grüße")));
    assert_eq!((&seen["headers"]["x-probe"], &seen["headers"]["cookie"]), (&json!("first,second"), &json!("a=1; b=2")));
    assert_eq!(seen["requestId"], headers["apigw-requestid"].to_str().unwrap());
    assert_eq!(seen["traceId"], headers["x-trace-id"].to_str().unwrap());
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(seen["caller"], Value::Null, "a route for everybody knows nobody");
}

#[tokio::test]
async fn bytes_that_are_no_text_and_cookies_go_both_ways() {
    let world = world().await;
    let sent = world.request("PUT", "/open/echo").body(vec![0xff, 0, 0xfe]).send().await.unwrap();
    assert_eq!(seen(sent).await["bytes"], 3);
    assert_eq!(world.get("/open/binary").await.bytes().await.unwrap().as_ref(), b"\xff\xfe\0");
    let response = world.get("/open/cookies").await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers().get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
}

#[tokio::test]
async fn what_no_route_takes_is_not_found_and_invokes_nothing() {
    let world = world().await;
    for (method, target) in [("GET", "/"), ("GET", "/v2/a"), ("POST", "/health"), ("GET", "/v1"), ("GET", "/health/")] {
        check_own(world.request(method, target).send().await.unwrap(), 404, "Not Found").await;
    }
    assert_eq!(world.invocations(), 0);
    assert_eq!(seen(world.get("/health").await).await["path"], "/health");
}

#[tokio::test]
async fn a_token_of_the_issuer_names_its_subject() {
    let world = world().await;
    let token = world.token("tickets other");
    let seen = seen(world.request("GET", "/v1/reservations").bearer_auth(token).send().await.unwrap()).await;
    assert_eq!(seen["caller"], json!({"sub": "usr_1", "scopes": ["tickets", "other"]}));
}

#[tokio::test]
async fn without_a_sound_token_a_route_is_unauthorized_and_invokes_nothing() {
    let world = world().await;
    let expired = world.issuer.token("usr_1", "tickets", Duration::ZERO).unwrap();
    let elsewhere = Issuer::start_on(0).await.unwrap().token("usr_1", "tickets", Duration::from_secs(60)).unwrap();
    let sound = world.token("tickets");
    for token in ["", "nonsense", &expired, &elsewhere, &sound[..sound.len() - 4]] {
        let response = world.request("GET", "/v1/reservations").bearer_auth(token).send().await.unwrap();
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.starts_with("Bearer") && challenge.contains("error_description"), "{challenge}");
        check_own(response, 401, "Unauthorized").await;
    }
    check_own(world.get("/v1/reservations").await, 401, "Unauthorized").await;
    let twice = world.request("GET", "/v1/reservations").bearer_auth(&sound).bearer_auth(&sound);
    check_own(twice.send().await.unwrap(), 401, "Unauthorized").await;
    assert_eq!(world.invocations(), 0);
}

#[tokio::test]
async fn a_token_without_the_routes_scope_is_forbidden() {
    let world = world().await;
    for scope in ["", "other", "tickets:read"] {
        let token = world.token(scope);
        let response = world.request("GET", "/v1/reservations").bearer_auth(&token).send().await.unwrap();
        check_own(response, 403, "Forbidden").await;
        let any = world.request("GET", "/any-token/a").bearer_auth(&token).send().await.unwrap();
        assert_eq!(any.status(), StatusCode::OK, "a route that asks for no scope takes any token");
    }
}

#[tokio::test]
async fn a_signature_names_its_principal() {
    let world = world().await;
    let target = "/internal/reservations/rsv_1?a=b";
    let response = world.signed("PATCH", target, KEY, "{\"status\": \"EXPIRED\"}").send().await.unwrap();
    assert_eq!(seen(response).await["caller"], json!({"arn": WORKER}));
}

#[tokio::test]
async fn without_a_sound_signature_a_route_is_forbidden_and_invokes_nothing() {
    let world = world().await;
    let target = "/internal/reservations/rsv_1";
    check_own(world.get(target).await, 403, "Forbidden").await;
    let token = world.token("tickets");
    let bearer = world.request("GET", target).bearer_auth(&token).send().await.unwrap();
    check_own(bearer, 403, "Forbidden").await;
    for key in [("worker", "a guess"), ("stranger", KEY.1)] {
        check_own(world.signed("GET", target, key, "").send().await.unwrap(), 403, "Forbidden").await;
    }
    let changed = world.signed("PATCH", target, KEY, "{\"status\": \"EXPIRED\"}").body("{\"status\": \"CONFIRMED\"}");
    check_own(changed.send().await.unwrap(), 403, "Forbidden").await;
    assert_eq!(world.invocations(), 0);
}

#[tokio::test]
async fn a_signature_opens_no_route_for_tokens() {
    let world = world().await;
    let signed = world.signed("GET", "/v1/reservations", KEY, "").send().await.unwrap();
    check_own(signed, 401, "Unauthorized").await;
}

#[tokio::test]
async fn an_escape_opens_no_other_route() {
    let world = world().await;
    for target in ["/%69nternal/a", "/internal%2Fa", "/%2569nternal/a", "//internal/a", "/internal/%2e%2e/open"] {
        let (status, body) = world.raw(target).await;
        assert_eq!((status, body.as_str()), (403, r#"{"message":"Forbidden"}"#), "{target}");
    }
    let (status, body) = world.raw("/open/..%2finternal/a").await;
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &seen["path"], &seen["caller"]), (200, &json!("/open/../internal/a"), &Value::Null));
}

#[tokio::test]
async fn no_path_and_no_query_makes_an_error_of_the_function() {
    let world = world().await;
    for (target, path, query) in [
        ("/open/a%3Fb?c", "/open/a", Some("c")),
        ("/open/a%253Fb", "/open/a%3Fb", None),
        ("/open/a%23b", "/open/a%23b", None),
        ("/open/a%2525b", "/open/a%25b", None),
        ("/open/%CE%BB%22%0A", "/open/%CE%BB%22%0A", None),
        ("/open/a?q=%zz%", "/open/a", Some("q=%25zz%25")),
        ("/open/a?q=%22+%20{}|", "/open/a", Some("q=%22+%20{}|")),
    ] {
        let (status, body) = world.raw(target).await;
        let seen: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{target}: {error} in {body}"));
        assert_eq!((status, &seen["path"], &seen["query"]), (200, &json!(path), &json!(query)), "{target}");
    }
    for target in ["/open/%", "/open/a%25b", "/open/%zz"] {
        assert_eq!(world.raw(target).await, (400, r#"{"message":"Bad Request"}"#.to_owned()), "{target}");
    }
}

#[tokio::test]
async fn request_line_and_headers_have_a_limit() {
    let world = world().await;
    let with = |length: usize| world.request("GET", "/health").header("x-long", "x".repeat(length)).send();
    assert_eq!(with(10_000).await.unwrap().status(), StatusCode::OK);
    check_own(with(10_240).await.unwrap(), 431, "Request Header Fields Too Large").await;
    let long = world.get(&format!("/open/{}", "x".repeat(10_240))).await;
    check_own(long, 431, "Request Header Fields Too Large").await;
    assert_eq!(world.invocations(), 1);
}

#[tokio::test]
async fn a_body_has_the_limit_of_the_api_and_its_event_that_of_lambda() {
    const MB: usize = 1024 * 1024;
    let world = world().await;
    let with = |content_type: &str, length: usize| {
        world.request("POST", "/open/echo").header("content-type", content_type).body("x".repeat(length)).send()
    };
    assert_eq!(with("text/plain", 5 * MB).await.unwrap().status(), StatusCode::OK);
    for (content_type, length) in
        [("text/plain", 6 * MB), ("application/octet-stream", 5 * MB), ("text/plain", 10 * MB + 1)]
    {
        let response = with(content_type, length).await.unwrap();
        check_own(response, 413, "Request Entity Too Large").await;
    }
    assert_eq!(world.invocations(), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_invokes_nothing() {
    let world = world().await;
    let address = world.gateway.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!("POST /open/echo HTTP/1.1\r\nhost: {address}\r\ncontent-length: 10\r\n\r\nhalf");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream.read_to_end(&mut Vec::new()).await);
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
    assert_eq!(world.invocations(), 1, "only the second request was whole");
}

#[tokio::test]
async fn an_answer_that_lambda_would_refuse_is_an_error_of_the_functions_own() {
    let world = world().await;
    // Each quote is escaped in the event, and twice in the answer.
    let quotes = "\"".repeat(2 * 1024 * 1024);
    let response = world.request("POST", "/open/echo").header("content-type", "text/plain").body(quotes).send();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "INTERNAL_ERROR");
}

#[tokio::test]
async fn what_lambda_cannot_answer_is_an_internal_error_and_the_next_request_is_answered() {
    let world = world().await;
    check_own(world.get("/open/exit").await, 500, "Internal Server Error").await;
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_panic_is_answered_by_the_function_and_its_process_goes_on() {
    let world = world().await;
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
    let response = world.get("/open/panic").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let trace_id = response.headers()["x-trace-id"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["traceId"]), (&json!("INTERNAL_ERROR"), &json!(trace_id)));
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
    let starts = world.function.all_logs().iter().filter(|line| line.contains("the function is ready")).count();
    assert_eq!(starts, 1, "one process has answered all three");
}

#[tokio::test]
async fn a_function_that_runs_out_of_time_answers_before_lambda_ends_it() {
    let world = world_with(Duration::from_secs(2), TIMEOUT).await;
    let response = world.get("/open/never").await;
    assert_eq!(
        (response.status(), &response.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "SERVICE_UNAVAILABLE");
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_api_waits_no_longer_than_its_time_out_and_the_function_goes_on() {
    let world = world_with(Duration::from_secs(3), Duration::from_secs(1)).await;
    check_own(world.get("/open/never").await, 503, "Service Unavailable").await;
    assert_eq!(world.invocations(), 0);
    world.comes_to_its_end().await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_what_it_asked_for() {
    let world = world_with(Duration::from_secs(2), TIMEOUT).await;
    let impatient = world.request("GET", "/open/never").timeout(Duration::from_millis(500)).send().await;
    assert!(impatient.unwrap_err().is_timeout());
    world.comes_to_its_end().await;
}

#[tokio::test]
async fn a_request_has_one_line_and_one_line_of_metrics_and_nothing_secret_in_them() {
    let world = world().await;
    let request = world.request("POST", "/v1/reservations?a=secret").header("x-probe", "secret").body("secret");
    let token = world.token("tickets");
    assert_eq!(request.bearer_auth(&token).send().await.unwrap().status(), StatusCode::OK);
    let logs = world.function.all_logs();
    let lines: Vec<Value> = logs.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered: Vec<&Value> = lines.iter().filter(|line| line["msg"] == "request answered: 200").collect();
    let [line] = answered.as_slice() else { panic!("{logs:#?}") };
    assert_eq!((&line["route"], &line["status"]), (&json!("ANY /echo/{what}"), &json!(200)), "the service's own route");
    for field in ["trace_id", "gateway_request_id", "function_request_id", "latency_ms"] {
        assert!(!line[field].is_null(), "{field} is missing in {line}");
    }
    let metrics: Vec<&Value> = lines.iter().filter(|line| !line["_aws"].is_null()).collect();
    let [metrics] = metrics.as_slice() else { panic!("{logs:#?}") };
    assert_eq!((&metrics["route"], &metrics["status"]), (&json!("ANY /echo/{what}"), &json!("200")));
    assert_eq!(metrics["http_server_requests_total"], 1);
    assert!(metrics["http_server_requests_seconds"][0].as_f64().is_some_and(|seconds| seconds < 10.0), "{metrics}");
    let own = lines.iter().find(|line| line["msg"] == "a line of the function's own crate").unwrap();
    assert_eq!(own["trace_id"], line["trace_id"], "what the service logs can be found by the trace");
    let all = logs.concat();
    assert!(!all.contains("secret") && !all.contains(&token), "{all}");
}

#[tokio::test]
async fn a_function_may_be_one_of_cargo_lambda_watch() {
    type Asked = Arc<Mutex<Vec<(String, Value)>>>;
    let asked: Asked = Arc::default();
    let noted = asked.clone();
    let answer = async move |Path(name): Path<String>, event: Bytes| {
        let event: Value = serde_json::from_slice(&event).unwrap();
        let path = event["rawPath"].as_str().unwrap().to_owned();
        noted.lock().unwrap().push((name, event));
        match path.as_str() {
            "/open/failed" => (StatusCode::OK, [("x-amz-function-error", "Unhandled")], "{}".to_owned()),
            "/open/throttled" => (StatusCode::TOO_MANY_REQUESTS, [("x-none", "")], String::new()),
            "/open/refused" => (StatusCode::BAD_GATEWAY, [("x-none", "")], "{}".to_owned()),
            _ => (StatusCode::OK, [("x-none", "")], json!({"statusCode": 418, "body": "tea"}).to_string()),
        }
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/2015-03-31/functions/{name}/invocations", post(answer));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let issuer = Issuer::start_on(0).await.unwrap();
    let target = Target::InvokeApi { url, name: "reservation-api".to_owned() };
    let gateway = Gateway::start(options(&issuer, target, TIMEOUT)).await.unwrap();

    let http = Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| http.get(format!("{}{path}", gateway.url())).send().await.unwrap();
    let response = get("/open/tea").await;
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (418, "tea"));
    let (name, event) = asked.lock().unwrap().pop().unwrap();
    assert_eq!((name.as_str(), &event["routeKey"]), ("reservation-api", &json!("ANY /open/{proxy+}")));
    check_own(get("/open/failed").await, 500, "Internal Server Error").await;
    check_own(get("/open/refused").await, 500, "Internal Server Error").await;
    check_own(get("/open/throttled").await, 503, "Service Unavailable").await;
}

#[tokio::test]
async fn an_api_that_contradicts_itself_is_not_deployed() {
    let issuer = Issuer::start_on(0).await.unwrap();
    let target = Target::InvokeApi { url: "http://127.0.0.1:1".to_owned(), name: "http".to_owned() };
    let sound = || options(&issuer, target.clone(), TIMEOUT);
    let mut twice = sound();
    twice.routes.push(route("GET /health", Authorization::Iam));
    assert!(matches!(Gateway::start(twice).await, Err(GatewayError::Conflict(_))));
    let without_function = GatewayOptions { functions: BTreeMap::new(), ..sound() };
    assert!(matches!(Gateway::start(without_function).await, Err(GatewayError::Function(..))));
    let without_issuer = GatewayOptions { jwt: None, ..sound() };
    assert!(matches!(Gateway::start(without_issuer).await, Err(GatewayError::Authorizer(_))));
}
