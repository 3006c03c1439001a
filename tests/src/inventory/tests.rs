use super::*;
use crate::latency::Clock;

fn seats_of(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn held(seat_ids: &[&str], quantity: u32) -> Inventory {
    let inventory = Inventory::default();
    inventory.hold("e", "r", &seats_of(seat_ids), quantity);
    inventory
}

/// A message as it comes in.
fn over_a_connection<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Clock::default());
    request
}

fn commit_request(reservation: &str, seat_ids: &[&str], quantity: i32, key: &str) -> CommitReservationRequest {
    CommitReservationRequest {
        reservation_id: reservation.into(),
        event_id: "e".into(),
        seat_ids: seats_of(seat_ids),
        quantity,
        payment_intent_id: "pi".into(),
        user_id: String::new(),
        idempotency_key: key.into(),
    }
}

async fn commit(
    inventory: &Inventory,
    reservation: &str,
    seat_ids: &[&str],
    quantity: i32,
    key: &str,
) -> Result<CommitReservationResponse, Status> {
    let request = commit_request(reservation, seat_ids, quantity, key);
    inventory.commit_reservation(over_a_connection(request)).await.map(Response::into_inner)
}

async fn release(
    inventory: &Inventory,
    reservation: &str,
    seat_ids: &[&str],
    quantity: i32,
    key: &str,
) -> Result<ReleaseHoldResponse, Status> {
    let request = ReleaseHoldRequest {
        reservation_id: reservation.into(),
        event_id: "e".into(),
        seat_ids: seats_of(seat_ids),
        quantity,
        reason: "EXPIRED".into(),
        idempotency_key: key.into(),
    };
    inventory.release_hold(over_a_connection(request)).await.map(Response::into_inner)
}

async fn reserve(inventory: &Inventory, reservation: &str, seat_ids: &[&str], quantity: i32) -> ReserveSeatResponse {
    let request = ReserveSeatRequest {
        reservation_id: reservation.into(),
        event_id: "e".into(),
        seat_ids: seats_of(seat_ids),
        quantity,
        idempotency_key: format!("reserve#{reservation}"),
        ..Default::default()
    };
    inventory.reserve_seat(over_a_connection(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_hold_whose_deadline_is_past_or_whose_release_came_first_is_refused() {
    let ask = async |inventory: &Inventory, deadline: Duration, before: bool| {
        let (now, part) = (SystemTime::now(), deadline);
        let at = if before { now - part } else { now + part };
        let request = ReserveSeatRequest {
            reservation_id: "r".into(),
            event_id: "e".into(),
            seat_ids: seats_of(&["A1"]),
            idempotency_key: "k".into(),
            hold_expires_at: Some(at.into()),
            ..Default::default()
        };
        inventory.reserve_seat(over_a_connection(request)).await.unwrap().into_inner()
    };
    let minute = Duration::from_secs(60);
    let inventory = Inventory::default();
    inventory.stock("e", &seats_of(&["A1"]), 0);
    check_error(ask(&inventory, minute, true).await.error, ErrorCode::ReservationExpired);
    let nothing = release(&inventory, "r", &["A1"], 0, "release").await.unwrap();
    assert_eq!(nothing.status, ReleaseStatus::NotFound as i32);
    check_error(ask(&inventory, minute, false).await.error, ErrorCode::InventoryConflict);
    assert_eq!(inventory.seat_state("r"), SeatState::Unknown, "a call that lingers holds nothing");

    let inventory = Inventory::default();
    inventory.stock("e", &seats_of(&["A1"]), 0);
    assert_eq!(ask(&inventory, minute, false).await.status, HoldStatus::Active as i32);
    assert_eq!(ask(&inventory, minute, false).await.status, HoldStatus::Active as i32, "a repeat");
}

async fn remaining(inventory: &Inventory) -> i32 {
    let request = CheckAvailabilityRequest { event_id: "e".into(), ..Default::default() };
    inventory.check_availability(over_a_connection(request)).await.unwrap().into_inner().remaining_in_section
}

#[track_caller]
fn check_error(error: Option<Error>, code: ErrorCode) {
    assert_eq!(error.unwrap().code, code as i32);
}

#[tokio::test]
async fn a_hold_is_sold_once_under_one_order_id() {
    let inventory = held(&["A1", "A2"], 0);
    let first = commit(&inventory, "r", &["A2", "A1"], 2, "k1").await.unwrap();
    let again = commit(&inventory, "r", &["A1", "A2"], 0, "k2").await.unwrap();
    assert_eq!((first.status, again.status), (CommitStatus::Success as i32, CommitStatus::Success as i32));
    assert_eq!(first.order_id, again.order_id);
    assert_eq!(inventory.seat_state("r"), SeatState::Sold);
    assert_eq!(inventory.calls().iter().map(|call| call.had_effect).collect::<Vec<_>>(), [true, false]);
    assert!(inventory.oversold().is_empty());
}

#[tokio::test]
async fn what_is_sold_is_never_given_back() {
    let inventory = Inventory::default();
    inventory.sell("e", "r", &seats_of(&["A1"]), 0);
    let refusal = release(&inventory, "r", &["A1"], 0, "k").await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert_eq!(inventory.seat_state("r"), SeatState::Sold);
}

#[tokio::test]
async fn the_seats_of_another_reservation_are_neither_sold_nor_given_back() {
    let inventory = held(&["A1"], 0);
    inventory.hold("e", "other", &seats_of(&["B1"]), 0);
    for seat_ids in [&["B1"][..], &["A1", "B1"]] {
        let sale = commit(&inventory, "r", seat_ids, 0, "c").await.unwrap();
        assert_eq!(sale.status, CommitStatus::FailedConflict as i32);
        let nothing = release(&inventory, "new", seat_ids, 0, "n").await.unwrap();
        assert_eq!(nothing.status, ReleaseStatus::NotFound as i32);
    }
    assert_eq!((inventory.seat_state("r"), inventory.seat_state("other")), (SeatState::Held, SeatState::Held));
}

#[tokio::test]
async fn a_release_frees_all_that_its_reservation_holds_whatever_it_names_and_nothing_else() {
    for named in [&[][..], &["A1"], &["A1", "B1"], &["C1"]] {
        let inventory = held(&["A1", "A2"], 0);
        inventory.hold("e", "other", &seats_of(&["B1"]), 0);
        let given_back = release(&inventory, "r", named, 1, "k").await.unwrap();
        assert_eq!(given_back.status, ReleaseStatus::Success as i32, "{named:?}");
        assert_eq!((inventory.seat_state("r"), inventory.seat_state("other")), (SeatState::Free, SeatState::Held));
    }
}

/// A call that lingers would else hold seats after their release, and nobody would give them back.
#[tokio::test]
async fn a_release_that_finds_nothing_leaves_a_mark_also_where_another_has_the_seats() {
    let inventory = held(&["A1"], 0);
    let late = release(&inventory, "late", &["A1"], 1, "k").await.unwrap();
    assert_eq!(late.status, ReleaseStatus::NotFound as i32);
    release(&inventory, "r", &["A1"], 1, "k2").await.unwrap();
    check_error(reserve(&inventory, "late", &["A1"], 1).await.error, ErrorCode::InventoryConflict);
}

#[tokio::test]
async fn a_hold_is_given_back_once() {
    let inventory = held(&["A1"], 0);
    let mut statuses = Vec::new();
    for key in ["k1", "k2"] {
        statuses.push(release(&inventory, "r", &["A1"], 1, key).await.unwrap().status);
    }
    assert_eq!(statuses, [ReleaseStatus::Success as i32, ReleaseStatus::AlreadyReleased as i32]);
    assert_eq!(inventory.seat_state("r"), SeatState::Free);
}

#[tokio::test]
async fn a_late_release_leaves_the_next_holder_alone() {
    let inventory = Inventory::default();
    inventory.release("e", "r", &seats_of(&["A1"]), 0);
    assert_eq!(reserve(&inventory, "next", &["A1"], 0).await.status, HoldStatus::Active as i32);
    let late = release(&inventory, "r", &["A1"], 0, "k").await.unwrap();
    assert_eq!(late.status, ReleaseStatus::AlreadyReleased as i32);
    assert_eq!(inventory.seat_state("next"), SeatState::Held);
    let late = commit(&inventory, "r", &["A1"], 0, "c").await.unwrap();
    assert_eq!(late.status, CommitStatus::FailedConflict as i32);
    assert!(inventory.oversold().is_empty());
}

#[tokio::test]
async fn a_hold_given_back_cannot_be_sold() {
    let inventory = Inventory::default();
    inventory.release("e", "r", &[], 2);
    let sale = commit(&inventory, "r", &[], 2, "k").await.unwrap();
    assert_eq!(sale.status, CommitStatus::FailedExpired as i32);
}

#[tokio::test]
async fn an_unknown_reservation_is_not_found() {
    let inventory = Inventory::default();
    assert_eq!(release(&inventory, "r", &["A1"], 0, "k1").await.unwrap().status, ReleaseStatus::NotFound as i32);
    check_error(commit(&inventory, "r", &["A1"], 0, "k2").await.unwrap().error, ErrorCode::NotFound);
    assert_eq!(inventory.seat_state("r"), SeatState::Unknown);
}

#[tokio::test]
async fn quantity_is_taken_at_the_hold_and_given_back_once() {
    let inventory = held(&[], 3);
    assert_eq!(remaining(&inventory).await, 10);
    assert_eq!(reserve(&inventory, "more", &[], 4).await.status, HoldStatus::Active as i32);
    assert_eq!(remaining(&inventory).await, 6);
    check_error(reserve(&inventory, "most", &[], 7).await.error, ErrorCode::InsufficientInventory);
    commit(&inventory, "more", &[], 4, "c").await.unwrap();
    assert_eq!(remaining(&inventory).await, 6);
    for key in ["k1", "k1", "k2"] {
        release(&inventory, "r", &[], 3, key).await.unwrap();
    }
    assert_eq!(remaining(&inventory).await, 9);
    assert!(inventory.oversold().is_empty());
}

#[tokio::test]
async fn another_quantity_than_the_held_one_is_refused() {
    let inventory = held(&[], 3);
    assert_eq!(commit(&inventory, "r", &[], 2, "c").await.unwrap().status, CommitStatus::FailedConflict as i32);
    assert_eq!(inventory.seat_state("r"), SeatState::Held);
}

#[tokio::test]
async fn a_request_without_its_ids_is_an_invalid_argument() {
    let inventory = held(&["A1"], 0);
    let whole = commit_request("r", &["A1"], 0, "k");
    let cases = [
        CommitReservationRequest { reservation_id: String::new(), ..whole.clone() },
        CommitReservationRequest { event_id: String::new(), ..whole.clone() },
        CommitReservationRequest { payment_intent_id: String::new(), ..whole.clone() },
        CommitReservationRequest { seat_ids: Vec::new(), ..whole },
    ];
    for case in cases {
        let refusal = inventory.commit_reservation(over_a_connection(case)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_repeat_under_the_same_key_gets_the_first_answer() {
    let inventory = held(&["A1"], 0);
    let first = release(&inventory, "r", &["A1"], 0, "k").await.unwrap();
    let repeat = release(&inventory, "r", &["A1"], 0, "k").await.unwrap();
    assert_eq!(first, repeat);
    assert_eq!(repeat.status, ReleaseStatus::Success as i32);
    assert!(!inventory.calls()[1].had_effect);
}

#[tokio::test]
async fn a_key_serves_one_request_only_and_must_be_there() {
    let inventory = held(&["A1"], 0);
    check_error(commit(&inventory, "r", &["A1"], 0, "").await.unwrap().error, ErrorCode::IdempotencyRequired);
    release(&inventory, "unknown", &["C1"], 0, "k").await.unwrap();
    check_error(release(&inventory, "r", &["A1"], 0, "k").await.unwrap().error, ErrorCode::IdempotencyConflict);
    check_error(commit(&inventory, "unknown", &["C1"], 0, "k").await.unwrap().error, ErrorCode::IdempotencyConflict);
    assert_eq!(inventory.seat_state("r"), SeatState::Held);
}

#[tokio::test]
async fn a_refusal_is_judged_anew_under_the_same_key() {
    let inventory = Inventory::default();
    check_error(commit(&inventory, "r", &["A1"], 0, "k").await.unwrap().error, ErrorCode::NotFound);
    inventory.hold("e", "r", &seats_of(&["A1"]), 0);
    assert_eq!(commit(&inventory, "r", &["A1"], 0, "k").await.unwrap().status, CommitStatus::Success as i32);
}

#[tokio::test]
async fn prepared_answers_are_used_up_in_order_and_leave_the_books_alone() {
    let inventory = held(&["A1"], 0);
    inventory.answer_next("r", Scripted::Status(Code::Unavailable, "away".into()));
    inventory.answer_next("r", Scripted::Both { code: 16, message: "internal".into(), status: 1 });
    inventory.answer_next("r", Scripted::Commit(CommitStatus::FailedPayment));
    assert_eq!(commit(&inventory, "r", &["A1"], 0, "k").await.unwrap_err().code(), Code::Unavailable);
    let both = commit(&inventory, "r", &["A1"], 0, "k").await.unwrap();
    assert_eq!(both.status, CommitStatus::Success as i32);
    check_error(both.error, ErrorCode::Internal);
    let third = commit(&inventory, "r", &["A1"], 0, "k").await.unwrap();
    assert_eq!(third.status, CommitStatus::FailedPayment as i32);
    assert_eq!(inventory.seat_state("r"), SeatState::Held);
    assert_eq!(commit(&inventory, "r", &["A1"], 0, "k").await.unwrap().status, CommitStatus::Success as i32);
}

#[tokio::test]
async fn a_hang_after_the_effect_leaves_the_effect() {
    let inventory = held(&["A1"], 0);
    inventory.answer_next("r", Scripted::Hang);
    inventory.answer_next("r", Scripted::HangAfterEffect);
    for seat_state in [SeatState::Held, SeatState::Sold] {
        let wait = Duration::from_millis(20);
        tokio::time::timeout(wait, commit(&inventory, "r", &["A1"], 0, "k")).await.unwrap_err();
        assert_eq!(inventory.seat_state("r"), seat_state);
    }
    assert_eq!(commit(&inventory, "r", &["A1"], 0, "k").await.unwrap().status, CommitStatus::Success as i32);
}

#[test]
fn the_audit_tells_of_a_seat_with_two_owners() {
    let inventory = held(&["A1"], 0);
    inventory.sell("e", "other", &seats_of(&["A1"]), 0);
    assert_eq!(inventory.oversold(), ["e seat A1: Hold by other, but r has it"]);
}

#[test]
fn the_audit_tells_of_stock_out_of_bounds_and_of_a_sale_undone() {
    let inventory = Inventory::default();
    inventory.sell("e", "r", &[], 2);
    inventory.lock().apply("r", Act::Free);
    inventory.lock().place("e", "greedy", &[], 13);
    let expected = ["r: freed after it was sold", "e: -1 left of 12 after Hold by greedy"];
    assert_eq!(inventory.oversold(), expected);
}

#[tokio::test]
async fn the_status_of_an_event_counts_seats_and_quantity() {
    let inventory = held(&["A1", "A2"], 0);
    inventory.sell("e", "s", &seats_of(&["B1"]), 0);
    inventory.sell("e", "q", &[], 3);
    inventory.release("e", "f", &seats_of(&["C1"]), 0);
    let request = GetInventoryStatusRequest { event_id: "e".into(), ..Default::default() };
    let stats = inventory.get_inventory_status(over_a_connection(request)).await.unwrap().into_inner().stats.unwrap();
    let counts = (stats.total_seats, stats.available_seats, stats.reserved_seats, stats.sold_seats);
    assert_eq!(counts, (17, 11, 2, 4));
}

#[tokio::test]
async fn it_answers_over_the_network_and_notes_the_trace() {
    let inventory = held(&["A1"], 0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(inventory.clone().serve(listener));
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(commit_request("r", &["A1"], 0, "k"));
    request.metadata_mut().insert("traceparent", "00-trace".parse().unwrap());
    let path =
        tonic::codegen::http::uri::PathAndQuery::from_static("/reservation.v1.InventoryService/CommitReservation");
    let codec = tonic_prost::ProstCodec::<CommitReservationRequest, CommitReservationResponse>::default();
    let answer = client.unary(request, path, codec).await.unwrap().into_inner();
    assert_eq!(answer.order_id, "ord_e_r");
    assert_eq!(inventory.calls()[0].traceparent.as_deref(), Some("00-trace"));
}
