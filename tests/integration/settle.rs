//! What each answer of the inventory leads to: the rows of the settle table.

use axum::http::StatusCode;
use local_stack::{
    inventory::{CommitStatus, ReleaseStatus, Scripted, SeatState},
    process::Process,
    proxy::{Foreign, Network},
    reservations::Status,
    stack::{MAX_RECEIVES, Stack},
};
use tonic::Code;

use crate::harness::{RESERVATION, Sent, World, attribute, event};

/// A paid reservation whose commit gets this answer.
async fn commit(answer: Scripted) -> World {
    answering("payment-approved", answer).await
}

/// An expired reservation whose release gets this answer.
async fn release(answer: Scripted) -> World {
    answering("reservation-expired", answer).await
}

async fn answering(function: &str, answer: Scripted) -> World {
    let hangs = matches!(answer, Scripted::Hang | Scripted::HangAfterEffect);
    let patience = [("INVENTORY_TIMEOUT_MS", "1000")];
    let world = World::with(function, if hangs { &patience } else { &[] }).await;
    world.given(Status::Hold, SeatState::Held);
    world.stack.inventory.answer_next(RESERVATION, answer);
    world
}

fn in_band(code: i32, message: &str) -> Scripted {
    Scripted::Error { code, message: message.into() }
}

#[tokio::test]
async fn a_commit_that_succeeded_or_says_nothing_is_settled() {
    for status in [CommitStatus::Success, CommitStatus::Unspecified] {
        commit(Scripted::Commit(status)).await.deliver_one(event("payment.approved")).await.is("success");
    }
}

#[tokio::test]
async fn a_release_of_what_is_held_released_or_unknown_is_settled() {
    for status in
        [ReleaseStatus::Success, ReleaseStatus::AlreadyReleased, ReleaseStatus::NotFound, ReleaseStatus::Unspecified]
    {
        release(Scripted::Release(status)).await.deliver_one(event("reservation.expired")).await.is("success");
    }
}

#[tokio::test]
async fn a_commit_that_the_inventory_refuses_needs_a_person() {
    for status in [CommitStatus::FailedExpired, CommitStatus::FailedConflict, CommitStatus::FailedPayment] {
        let world = commit(Scripted::Commit(status)).await;
        world.deliver_one(event("payment.approved")).await.is("rejected").because("inventory_conflict");
        assert_eq!(world.dead_letters.len(), 1);
    }
}

#[tokio::test]
async fn an_in_band_conflict_needs_a_person() {
    // RESERVATION_EXPIRED, INVENTORY_CONFLICT, INSUFFICIENT_INVENTORY.
    for code in [12, 14, 15] {
        let world = commit(in_band(code, "gone")).await;
        world.deliver_one(event("payment.approved")).await.is("rejected").because("inventory_conflict").says("gone");
        let world = release(in_band(code, "sold")).await;
        world.deliver_one(event("reservation.expired")).await.is("rejected").because("inventory_conflict");
    }
}

#[tokio::test]
async fn a_failed_precondition_needs_a_person() {
    let world = release(Scripted::Status(Code::FailedPrecondition, "sold".into())).await;
    world.deliver_one(event("reservation.expired")).await.is("rejected").because("inventory_conflict");
}

#[tokio::test]
async fn a_request_that_the_inventory_does_not_understand_is_rejected() {
    let world = commit(Scripted::Status(Code::InvalidArgument, "what?".into())).await;
    world.deliver_one(event("payment.approved")).await.is("rejected").because("downstream_rejected").says("what?");
    let world = commit(in_band(4, "what?")).await;
    world.deliver_one(event("payment.approved")).await.is("rejected").because("downstream_rejected");
}

#[tokio::test]
async fn an_in_band_error_counts_beside_a_status_of_success() {
    let world = commit(Scripted::Both { code: 14, message: "gone".into(), status: 1 }).await;
    world.deliver_one(event("payment.approved")).await.is("rejected").because("inventory_conflict");
    let world = release(Scripted::Both { code: 17, message: "busy".into(), status: 1 }).await;
    world.deliver_one(event("reservation.expired")).await.is("retried").says("busy");
}

#[tokio::test]
async fn an_in_band_error_without_a_code_is_retried() {
    let world = commit(in_band(0, "something")).await;
    world.deliver_one(event("payment.approved")).await.is("retried").says("something");
}

#[tokio::test]
async fn everything_else_is_retried_and_settled_by_the_next_delivery() {
    for code in [
        Code::Cancelled,
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ] {
        let world = commit(Scripted::Status(code, "not now".into())).await;
        world.deliver_one(event("payment.approved")).await.is("retried").says("not now");
        assert_eq!(world.stack.inventory.calls().len(), 1, "{code:?}: asked once");
        world.redeliver().await[0].is("success");
        assert_eq!(world.state(), "CONFIRMED, sold", "{code:?}");
    }
    let world = release(Scripted::Release(ReleaseStatus::Failed)).await;
    world.deliver_one(event("reservation.expired")).await.is("retried");
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "EXPIRED, free");
}

#[tokio::test]
async fn an_inventory_that_does_not_answer_is_retried() {
    let world = commit(Scripted::Hang).await;
    world.deliver_one(event("payment.approved")).await.is("retried").says("did not answer within 1000 ms");
    world.redeliver().await[0].is("success");
}

#[tokio::test]
async fn a_sale_whose_answer_was_lost_is_repeated_and_made_once() {
    let world = commit(Scripted::HangAfterEffect).await;
    world.deliver_one(event("payment.approved")).await.is("retried");
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "CONFIRMED, sold");
    let effects = world.stack.inventory.calls().iter().filter(|call| call.had_effect).count();
    assert_eq!(effects, 1);
}

/// A paid reservation, and a proxy before the inventory that answers the first commit in its place.
async fn commit_answered_by(answer: Foreign) -> World {
    let stack = Stack::start().await.expect("the stack starts");
    let network = Network::before(&stack, 1).await.expect("there are ports");
    network.inventory.answer_next("CommitReservation", 1, answer);
    let address = network.inventory.address().to_string();
    let world = World::on(stack, "payment-approved", &[("INVENTORY_GRPC_ADDR", &address)]);
    // Whoever holds the world holds the proxy.
    tokio::spawn(async move {
        let _kept = network;
        std::future::pending::<()>().await;
    });
    world.given(Status::Hold, SeatState::Held);
    world
}

/// A message of gRPC as it goes over the wire.
fn framed(compressed: bool, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[u8::from(compressed)], &length[..], message].concat()
}

fn grpc(body: impl Into<Vec<u8>>) -> Foreign {
    Foreign::new(StatusCode::OK, body.into()).with("content-type", "application/grpc")
}

#[tokio::test]
async fn a_proxys_not_found_is_retried_and_settled_by_the_next_delivery() {
    for page in [Foreign::new(StatusCode::NOT_FOUND, ""), Foreign::page(StatusCode::NOT_FOUND)] {
        let world = commit_answered_by(page.clone()).await;
        let ended = world.deliver_one(event("payment.approved")).await;
        ended.is("retried").says("the inventory did not carry the call out").says("404");
        world.redeliver().await[0].is("success");
        assert_eq!(world.state(), "CONFIRMED, sold", "{page:?}");
    }
}

/// Everything that a client can't read, although the inventory has sold the seats.
fn unreadable() -> [(&'static str, Foreign); 7] {
    // A sale that succeeded, as the field says it.
    let sold = [24, 1];
    [
        ("gzip that nobody asked for", grpc(framed(true, &sold)).with("grpc-encoding", "gzip")),
        ("a compressed message without its encoding", grpc(framed(true, &sold))),
        ("more than 4 MiB", grpc(framed(false, &vec![0; 5 << 20]))),
        ("no protobuf", grpc(framed(false, b"It works!"))),
        ("a half message", grpc(framed(false, &sold)[..6].to_vec())),
        ("a message without a status behind it", grpc(framed(false, &sold))),
        ("a page", Foreign::page(StatusCode::OK)),
    ]
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_retried_and_settled_by_the_next_delivery() {
    for (what, answer) in unreadable() {
        let world = commit_answered_by(answer.after_effect()).await;
        let ended = world.deliver_one(event("payment.approved")).await;
        assert_eq!(ended.outcome, "retried", "{what}: {:#}", ended.line);
        let error = ended.line["error"].as_str().unwrap_or_default();
        assert!(error.contains("answer could not be read, so the seats may have been sold"), "{what}: {error}");
        world.redeliver().await[0].is("success");
        assert_eq!(world.state(), "CONFIRMED, sold", "{what}");
        assert_eq!(world.stack.inventory.calls().iter().filter(|call| call.had_effect).count(), 1, "{what}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_retried_and_fills_no_memory() {
    for body in [framed(false, &[24, 1]), framed(false, &vec![0; 1 << 20]), b"It works!".to_vec()] {
        let world = commit_answered_by(grpc(body).endless().after_effect()).await;
        world.deliver_one(event("payment.approved")).await.is("retried");
        let invocation = world.function.invoke(r#"{"Records": []}"#).await;
        let peak = invocation.process.and_then(|process| Process(process).peak_kib());
        assert!(peak.is_none_or(|kib| kib < 100 * 1024), "{peak:?} KiB");
        world.redeliver().await[0].is("success");
        assert_eq!(world.state(), "CONFIRMED, sold");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_on_the_last_receive_says_so_in_the_dead_letter() {
    let world = commit_answered_by(grpc(framed(true, &[24, 1])).with("grpc-encoding", "gzip").after_effect()).await;
    world.deliver_one(Sent::from(event("payment.approved")).received(MAX_RECEIVES)).await.is("exhausted");
    let letter = world.only_dead_letter();
    assert_eq!(attribute(&letter, "error_code"), "retries_exhausted");
    let reason = attribute(&letter, "error_message");
    assert!(reason.contains("the seats may have been sold"), "{reason}");
}
