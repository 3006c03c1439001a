//! What each answer of the inventory leads to: the rows of the settle table.

use local_stack::{
    inventory::{Answer, CommitStatus, ReleaseStatus, Standing},
    reservations::Status,
};
use tonic::Code;

use crate::harness::{RESERVATION, World, event};

/// A paid reservation whose commit gets this answer.
async fn commit(answer: Answer) -> World {
    let world = World::with("payment-approved", &[("INVENTORY_TIMEOUT_MS", "300")]).await;
    world.given(Status::Hold, Standing::Held);
    world.stack.inventory.answer_next(RESERVATION, answer);
    world
}

/// An expired reservation whose release gets this answer.
async fn release(answer: Answer) -> World {
    let world = World::with("reservation-expired", &[("INVENTORY_TIMEOUT_MS", "300")]).await;
    world.given(Status::Hold, Standing::Held);
    world.stack.inventory.answer_next(RESERVATION, answer);
    world
}

fn in_band(code: i32, message: &str) -> Answer {
    Answer::Error { code, message: message.into() }
}

#[tokio::test]
async fn a_commit_that_succeeded_or_says_nothing_is_settled() {
    for status in [CommitStatus::Success, CommitStatus::Unspecified] {
        commit(Answer::Commit(status)).await.deliver_one(event("payment.approved")).await.is("success");
    }
}

#[tokio::test]
async fn a_release_of_what_is_held_released_or_unknown_is_settled() {
    for status in
        [ReleaseStatus::Success, ReleaseStatus::AlreadyReleased, ReleaseStatus::NotFound, ReleaseStatus::Unspecified]
    {
        release(Answer::Release(status)).await.deliver_one(event("reservation.expired")).await.is("success");
    }
}

#[tokio::test]
async fn a_commit_that_the_inventory_refuses_needs_a_person() {
    for status in [CommitStatus::FailedExpired, CommitStatus::FailedConflict, CommitStatus::FailedPayment] {
        let world = commit(Answer::Commit(status)).await;
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
    let world = release(Answer::Status(Code::FailedPrecondition, "sold".into())).await;
    world.deliver_one(event("reservation.expired")).await.is("rejected").because("inventory_conflict");
}

#[tokio::test]
async fn a_request_that_the_inventory_does_not_understand_is_rejected() {
    for code in [Code::InvalidArgument, Code::Unimplemented, Code::OutOfRange] {
        let world = commit(Answer::Status(code, "what?".into())).await;
        world.deliver_one(event("payment.approved")).await.is("rejected").because("downstream_rejected").says("what?");
    }
    let world = commit(in_band(4, "what?")).await;
    world.deliver_one(event("payment.approved")).await.is("rejected").because("downstream_rejected");
}

#[tokio::test]
async fn an_in_band_error_counts_beside_a_status_of_success() {
    let world = commit(Answer::Both { code: 14, message: "gone".into(), status: 1 }).await;
    world.deliver_one(event("payment.approved")).await.is("rejected").because("inventory_conflict");
    let world = release(Answer::Both { code: 17, message: "busy".into(), status: 1 }).await;
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
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ] {
        let world = commit(Answer::Status(code, "not now".into())).await;
        world.deliver_one(event("payment.approved")).await.is("retried").says("not now");
        assert_eq!(world.stack.inventory.calls().len(), 1, "{code:?}: asked once");
        world.redeliver().await[0].is("success");
        assert_eq!(world.state(), "CONFIRMED, sold", "{code:?}");
    }
    let world = release(Answer::Release(ReleaseStatus::Failed)).await;
    world.deliver_one(event("reservation.expired")).await.is("retried");
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "EXPIRED, free");
}

#[tokio::test]
async fn an_inventory_that_does_not_answer_is_retried() {
    let world = commit(Answer::Hang).await;
    world.deliver_one(event("payment.approved")).await.is("retried").says("did not answer within 300 ms");
    world.redeliver().await[0].is("success");
}

#[tokio::test]
async fn a_sale_whose_answer_was_lost_is_repeated_and_made_once() {
    let world = commit(Answer::HangAfterEffect).await;
    world.deliver_one(event("payment.approved")).await.is("retried");
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "CONFIRMED, sold");
    let effects = world.stack.inventory.calls().iter().filter(|call| call.had_effect).count();
    assert_eq!(effects, 1);
}
