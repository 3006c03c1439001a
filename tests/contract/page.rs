//! The page of the document, in a browser. Its scripts come from a folder in place of the CDN, and must be the very ones that
//! the page names by their hashes.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use axum::{
    Router,
    body::Body,
    extract::{Path as Segments, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use local_stack::ring::Ring;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{DOCUMENT, chromium::Chromium, world::World};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_each_operation_of_the_document() {
    let Some(browser) = Chromium::start() else { return };
    let Some(package) = env::var_os(PACKAGE).map(PathBuf::from).filter(|folder| folder.is_dir()) else {
        let reason = format!("{PACKAGE} names no folder; unpack the npm package swagger-ui-dist there");
        return Ring::Browser.skip_or_fail(&reason);
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

    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let methods =
        document["paths"].as_object().unwrap().values().flat_map(|methods| methods.as_object().unwrap().values());
    let operation = |operation: &Value| {
        let tag = operation["tags"][0].as_str().unwrap();
        format!("operations-{tag}-{}", operation["operationId"].as_str().unwrap())
    };
    let operations: BTreeSet<String> = methods.map(operation).collect();
    let tab = browser.open(&url).await;
    tab.be_as_large_as(1280, 2400).await;
    let all = "Array.from(document.querySelectorAll('.opblock'), (operation) => operation.id)";
    tab.wait_for(&format!("{all}.length >= {}", operations.len())).await;
    let shown: BTreeSet<String> = serde_json::from_value(tab.evaluate(all).await).unwrap();
    assert_eq!(shown, operations);
    assert_eq!(tab.complaints(), [""; 0]);
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("swagger-ui.png");
    tab.picture(&picture).await;
    assert!(fs::metadata(&picture).is_ok_and(|file| file.len() > 20_000), "{} is no picture", picture.display());
}
