//! By what the reservation API knows that it is a function of ours that calls.

use axum::http::Method;
use local_stack::{
    inventory::SeatState,
    lambda::FunctionError,
    reservations::{Scripted, Status},
    stack::Stack,
};

use crate::harness::{RESERVATION, World, event};

const AUTH: &str = "RESERVATION_API_AUTH";

#[tokio::test]
async fn a_signed_call_names_the_role_the_service_and_what_is_signed() {
    let world = World::with("payment-failed", &[(AUTH, "iam")]).await;
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
    let call = &world.stack.reservations.calls()[0];
    let authorization = call.authorization.as_deref().unwrap();
    for part in ["AWS4-HMAC-SHA256 Credential=", "/us-east-1/execute-api/aws4_request", "idempotency-key", "host"] {
        assert!(authorization.contains(part), "{part} is missing in {authorization}");
    }
    assert!(world.stack.reservations.probes()[0].authorization.is_some(), "the look at the start is signed as well");
}

/// An object with a message alone is what API Gateway answers: it decides nothing about the event.
#[tokio::test]
async fn behind_a_gateway_only_an_error_with_a_code_is_the_apis_own_word() {
    let coded = r#"{"error": {"code": "INVALID_REQUEST", "message": "no"}}"#;
    for (auth, body, outcome) in [
        ("iam", r#"{"message": "Bad Request"}"#, "retried"),
        ("iam", r#"{"error": {"message": "Bad Request"}}"#, "retried"),
        ("iam", coded, "rejected"),
        ("none", r#"{"message": "Bad Request"}"#, "rejected"),
    ] {
        let world = World::with("payment-failed", &[(AUTH, auth)]).await;
        world.given(Status::Hold, SeatState::Held);
        let answer = Scripted::Respond { status: 400, headers: Vec::new(), body: body.to_owned() };
        world.stack.reservations.answer_next(RESERVATION, Method::PATCH, answer);
        world.deliver_one(event("payment.failed")).await.is(outcome);
    }
}

#[tokio::test]
async fn the_access_is_what_the_variable_says_and_else_what_the_secret_holds() {
    let secret = [("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", "holdfast/token")];
    for (auth, bearer) in [("", true), ("bearer", true), ("none", false)] {
        let stack = Stack::start().await.unwrap();
        stack.aws.put_secret("holdfast/token", r#"{"reservation_api_token": "t0ken"}"#);
        let world = World::on(stack, "payment-failed", &[&secret[..], &[(AUTH, auth)]].concat());
        world.given(Status::Hold, SeatState::Held);
        world.deliver_one(event("payment.failed")).await.is("success");
        let authorization = world.stack.reservations.calls()[0].authorization.clone();
        assert_eq!(authorization.as_deref(), bearer.then_some("Bearer t0ken"), "{auth:?}");
    }
    for (auth, fault) in [
        ("bearer", "RESERVATION_API_AUTH is bearer, and no secret holds reservation_api_token"),
        ("password", "RESERVATION_API_AUTH must be iam, bearer or none"),
    ] {
        let world = World::with("payment-failed", &[(AUTH, auth)]).await;
        let invocation = world.function.invoke(r#"{"Records": []}"#).await;
        let Err(FunctionError::Init(text)) = &invocation.result else { panic!("it must not start: {invocation:#?}") };
        assert!(text.contains(fault), "{text}");
    }
}
