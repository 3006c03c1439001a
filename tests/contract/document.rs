//! The document itself: it is made of the code, has each route and no other, and is valid.

use std::{collections::BTreeSet, env, fs, process::Command};

use local_stack::{
    build::workspace,
    ring::{Ring, on_path},
};
use reqwest::{Client, Method};
use serde_json::Value;

use crate::{DOCUMENT, world::World};

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("the document is JSON")
}

/// Method and path of each operation, as the router names its routes.
fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().expect("there are paths");
    let of = |(path, methods): (&String, &Value)| -> Vec<String> {
        let methods = methods.as_object().expect("a path has methods");
        methods.keys().map(|method| format!("{} {path}", method.to_ascii_uppercase())).collect()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn the_document_is_what_the_code_says() {
    let made = reservation_api::openapi::document().expect("the document can be written");
    let path = workspace().join("functions/reservation-api/openapi.json");
    if env::var_os("HOLDFAST_OPENAPI").is_some_and(|value| value == "write") {
        fs::write(&path, &made).expect("the document is written");
    }
    let kept = fs::read_to_string(&path).expect("the document is there");
    let mend = "the document is stale; write it anew: HOLDFAST_OPENAPI=write cargo test --test contract document";
    assert!(kept == made, "{mend}");
}

#[test]
fn each_route_of_the_router_is_an_operation_and_each_operation_a_route() {
    assert_eq!(operations(&document()), reservation_api::ROUTES.map(str::to_owned).into());
}

/// `Allow` is what the router itself knows. A GET is a HEAD as well, which no document says.
#[tokio::test]
async fn a_resource_is_used_by_the_methods_that_the_document_has() {
    let world = World::open(1).await;
    let token = world.token("usr_1");
    let http = Client::builder().no_proxy().build().unwrap();
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    // The gateway has no other route to the rest.
    let of_customers: Vec<_> = paths.iter().filter(|(path, _)| path.starts_with("/v1/")).collect();
    assert_eq!(of_customers.len(), 7);
    for (path, methods) in of_customers {
        let url = format!("{}{}", world.gateway.url(), path.replace("{id}", "rsv_1"));
        let answer = http.request(Method::OPTIONS, url).bearer_auth(&token).send().await.unwrap();
        let allowed = answer.headers()["allow"].to_str().unwrap().split(',').map(|method| method.trim().to_owned());
        let allowed: BTreeSet<String> = allowed.filter(|method| method != "HEAD").collect();
        let said = methods.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase()).collect();
        assert_eq!(allowed, said, "{path}");
    }
}

#[test]
fn an_error_in_an_example_has_the_code_that_the_example_is_named_after() {
    let document = document();
    let mut seen = BTreeSet::new();
    for (name, response) in document["components"]["responses"].as_object().expect("there are refusals") {
        let examples = response["content"]["application/json"]["examples"].as_object().expect("each has examples");
        for (code, example) in examples {
            let value = &example["value"];
            let says = value["error"]["code"].as_str().unwrap_or("API_GATEWAY");
            assert_eq!(says, code, "{name}");
            assert!(value["message"].is_string() || value["error"]["message"].is_string(), "{name}: {value}");
            seen.insert(code.clone());
        }
    }
    let codes = document["components"]["schemas"]["ErrorFields"]["properties"]["code"]["enum"].as_array().unwrap();
    let unseen: Vec<&Value> = codes.iter().filter(|code| !seen.contains(code.as_str().unwrap())).collect();
    assert!(unseen.is_empty(), "no operation is answered {unseen:?}");
}

#[test]
fn the_page_has_the_version_of_the_library_in_each_of_its_addresses() {
    let page = include_str!("../../functions/reservation-api/src/swagger-ui.html");
    let addresses: BTreeSet<&str> = page
        .split("https://cdn.jsdelivr.net/npm/")
        .skip(1)
        .filter_map(|rest| rest.split('/').next())
        .filter(|package| package.starts_with("swagger-ui-dist@"))
        .collect();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    assert_eq!(page.matches("integrity=\"sha384-").count(), page.matches("crossorigin=\"anonymous\"").count());
}

#[test]
fn a_validator_of_openapi_finds_no_fault() {
    const PROGRAM: &str = "openapi-spec-validator";

    let Some(program) = on_path(PROGRAM) else {
        return Ring::Contract.skip_or_fail("openapi-spec-validator is not on the PATH; pip install it");
    };
    let path = workspace().join("functions/reservation-api/openapi.json");
    let output = Command::new(&program).arg("--schema").arg("3.1").arg(&path).output().expect("the validator runs");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{said}");

    // What is no document is none to it, so that the silence above says something.
    let broken = DOCUMENT.replacen("\"description\"", "\"describing\"", 400);
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-openapi.json");
    fs::write(&file, broken).expect("the folder for such files is there");
    let output = Command::new(&program).arg("--schema").arg("3.1").arg(&file).output().expect("the validator runs");
    assert!(!output.status.success(), "it takes a document whose answers have no description");
}
