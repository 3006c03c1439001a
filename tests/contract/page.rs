//! The page of the document, in a browser. Its scripts come from a folder in place of the CDN, and must be the very ones that
//! the page names by their hashes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path as Segments, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use local_stack::ring;
use serde_json::Value;
use tokio::{net::TcpListener, process::Command, time::timeout};

use crate::{DOCUMENT, world::World};

/// Needs a browser, and what the npm package swagger-ui-dist holds.
const RING: &str = "browser";

/// The folder of the npm package.
const PACKAGE: &str = "HOLDFAST_SWAGGER_UI";

const CDN: &str = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@";

#[derive(Clone)]
struct Site {
    api: String,
    package: PathBuf,
}

/// The page, with its scripts from here.
async fn page(State(site): State<Site>) -> Response {
    let page = reqwest::get(format!("{}/swagger-ui.html", site.api)).await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.unwrap();
    assert!(page.contains(CDN), "{page}");
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.replace(CDN, "/cdn/")).into_response()
}

async fn document(State(site): State<Site>) -> Response {
    let document = reqwest::get(format!("{}/v3/api-docs", site.api)).await.unwrap();
    ([(header::CONTENT_TYPE, "application/json")], document.text().await.unwrap()).into_response()
}

async fn file(State(site): State<Site>, Segments((_version, name)): Segments<(String, String)>) -> Response {
    let kind = if name.ends_with(".css") { "text/css" } else { "text/javascript" };
    match fs::read(site.package.join(&name)) {
        Ok(bytes) => ([(header::CONTENT_TYPE, kind)], Body::from(bytes)).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn browse(browser: &Path, arguments: &[&str], url: &str) -> String {
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser-profile");
    let mut command = Command::new(browser);
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.args(["--window-size=1280,2400", "--virtual-time-budget=20000"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    let child = command.args(arguments).arg(url).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(120), child).await.expect("the browser ends").expect("the browser runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_each_operation_of_the_document() {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(ring::on_path) else {
        return ring::skip_or_fail(RING, "no Chromium is on the PATH; install Debian's package chromium");
    };
    let Some(package) = env::var_os(PACKAGE).map(PathBuf::from).filter(|folder| folder.is_dir()) else {
        let reason = format!("{PACKAGE} names no folder; unpack the npm package swagger-ui-dist there");
        return ring::skip_or_fail(RING, &reason);
    };
    let world = World::open(1).await;
    let site = Site { api: world.gateway.url(), package };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/swagger-ui.html", listener.local_addr().unwrap());
    let routes = Router::new()
        .route("/swagger-ui.html", get(page))
        .route("/v3/api-docs", get(document))
        .route("/cdn/{version}/{name}", get(file))
        .with_state(site);
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let shown = browse(&browser, &["--dump-dom"], &url).await;
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let mut operations = 0;
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let tag = operation["tags"][0].as_str().unwrap();
            let id = format!("id=\"operations-{tag}-{}\"", operation["operationId"].as_str().unwrap());
            assert!(shown.contains(&id), "{id} is not in the page: {shown:.2000}");
            operations += 1;
        }
    }
    let others = shown.matches("id=\"operations-tag-").count();
    assert_eq!(shown.matches("id=\"operations-").count() - others, operations, "and no other");
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("swagger-ui.png");
    browse(&browser, &[&format!("--screenshot={}", picture.display())], &url).await;
    assert!(fs::metadata(&picture).is_ok_and(|file| file.len() > 20_000), "{} is no picture", picture.display());
}
