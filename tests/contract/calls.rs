//! Requests that schemathesis makes up from the document, right ones and wrong ones, each answered as the document says.

use std::{env, fs, net::SocketAddr, path::Path, process::Stdio};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Request, Response},
};
use local_stack::{
    build::workspace,
    ring::{Ring, on_path},
    sale,
};
use reqwest::Client;
use serde_json::json;
use tokio::{net::TcpListener, process::Command};

use crate::world::World;

/// Runs schemathesis on the operations for these callers or for all but these, and fails by what it finds.
async fn nothing_is_found(world: &World, url: &str, which: [&str; 2]) {
    let Some(program) = on_path("schemathesis") else {
        return Ring::Contract.skip_or_fail("schemathesis is not on the PATH; pip install it");
    };
    let tokens = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tokens{}.json", which[0]));
    let of = |name: &str, sub: &str| {
        let bearer = format!("Bearer {}", world.token(sub));
        json!({"name": name, "fixedHeaders": [{"name": "Authorization", "value": bearer}]})
    };
    let customers = json!({"auth": [of("one", "usr_1"), of("other", "usr_2")]});
    fs::write(&tokens, customers.to_string()).expect("the folder for such files is there");
    let mut command = Command::new(program);
    command.arg("--no-color").arg("--config-file").arg(workspace().join("tests/contract/schemathesis.toml"));
    command.arg("run").arg(workspace().join("functions/reservation-api/openapi.json"));
    command.args(["--url", url, "--workers", "2"]).args(which);
    command.env("HOLDFAST_TOKENS", &tokens).env("PYTHONDONTWRITEBYTECODE", "1");
    command.current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("schemathesis runs");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("No issues found"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_made_up_for_customers_is_answered_as_the_document_says() {
    let world = World::open(4).await;
    let url = world.gateway.url();
    nothing_is_found(&world, &url, ["--exclude-tag", "functions"]).await;
    assert_eq!(world.stack.inventory.oversold(), [""; 0]);
}

/// schemathesis knows no Signature Version 4, so each request is signed on its way. That nothing is answered without is tried
/// elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_made_up_for_functions_is_answered_as_the_document_says() {
    let world = World::open(2).await;
    let address = signed(world.gateway.url()).await;
    let url = format!("http://{address}");
    nothing_is_found(&world, &url, ["--include-tag", "functions"]).await;
}

#[derive(Clone)]
struct Signed {
    gateway: String,
    http: Client,
}

/// Listens for requests that nobody has signed, and passes them on with a signature.
async fn signed(gateway: String) -> SocketAddr {
    let http = Client::builder().no_proxy().build().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().fallback(pass_on).with_state(Signed { gateway, http });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

async fn pass_on(State(signed): State<Signed>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let url = format!("{}{target}", signed.gateway);
    let mut passed = signed.http.request(head.method, &url).body(body);
    for (name, value) in &head.headers {
        if !["host", "authorization", "content-length", "connection"].contains(&name.as_str()) {
            passed = passed.header(name, value);
        }
    }
    let mut passed = passed.build().unwrap();
    sale::access_key().signs(&mut passed).unwrap();
    let answer = signed.http.execute(passed).await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if !["content-length", "connection", "transfer-encoding"].contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}
