//! What a reservation looks like to those who call.

use shared::{
    reservation::{
        Status, lifecycle,
        service::{Created, Page},
    },
    trigger::http::rpc::timestamp,
};

use crate::proto::{
    common::v1::{Money, PageInfo, Seat, SeatStatus},
    reservation::v1::{
        CancelReservationResponse, ConfirmReservationResponse, CreateReservationResponse, ExtendHoldResponse,
        ListReservationsResponse, Reservation, ReservationStatus,
    },
};

/// The answer to a creation, the same for each repeat: it says what was so when the seats were held.
pub(crate) fn created(created: &Created) -> CreateReservationResponse {
    let Created { reservation, .. } = created;
    CreateReservationResponse {
        reservation_id: reservation.id.clone(),
        status: ReservationStatus::RESERVATION_STATUS_HOLD.into(),
        hold_expires_at: timestamp(reservation.first_hold_expires_at.unwrap_or(reservation.hold_expires_at)).into(),
        reserved_seats: seats(reservation, SeatStatus::SEAT_STATUS_RESERVED),
        ..Default::default()
    }
}

/// A reservation as its customer sees it.
pub(crate) fn shown(reservation: &lifecycle::Reservation) -> Reservation {
    let money = reservation.amount.map(|amount| Money {
        amount,
        currency: reservation.currency.clone().unwrap_or_default(),
        ..Default::default()
    });
    Reservation {
        reservation_id: reservation.id.clone(),
        event_id: reservation.show_id.clone(),
        user_id: reservation.user_id.clone(),
        status: status(&reservation.status).into(),
        seats: seats(reservation, held_as(&reservation.status)),
        quantity: i32::try_from(reservation.quantity).unwrap_or(i32::MAX),
        total_amount: money.into(),
        created_at: timestamp(reservation.created_at).into(),
        updated_at: timestamp(reservation.updated_at).into(),
        hold_expires_at: timestamp(reservation.hold_expires_at).into(),
        payment_intent_id: reservation.payment_intent_id.clone().unwrap_or_default(),
        order_id: reservation.order_id.clone().unwrap_or_default(),
        queue_item_id: reservation.queue_item_id.clone().unwrap_or_default(),
        ..Default::default()
    }
}

/// Some of a customer's reservations. How many there are is not counted.
pub(crate) fn page(page: &Page, has_previous: bool) -> ListReservationsResponse {
    let next = page.next.as_ref().map(ToString::to_string).unwrap_or_default();
    let info = PageInfo {
        has_next_page: !next.is_empty(),
        has_previous_page: has_previous,
        next_cursor: next,
        ..Default::default()
    };
    ListReservationsResponse {
        reservations: page.reservations.iter().map(shown).collect(),
        page_info: info.into(),
        ..Default::default()
    }
}

/// What became of a confirm.
pub(crate) fn confirmed(reservation: &lifecycle::Reservation) -> ConfirmReservationResponse {
    ConfirmReservationResponse {
        order_id: reservation.order_id.clone().unwrap_or_default(),
        status: status(&reservation.status).into(),
        confirmed_at: reservation.confirmed_at.map(timestamp).into(),
        confirmed_seats: seats(reservation, SeatStatus::SEAT_STATUS_SOLD),
        ..Default::default()
    }
}

/// What became of a cancellation.
pub(crate) fn cancelled(reservation: &lifecycle::Reservation) -> CancelReservationResponse {
    CancelReservationResponse {
        status: status(&reservation.status).into(),
        cancelled_at: timestamp(reservation.updated_at).into(),
        released_seats: seats(reservation, SeatStatus::SEAT_STATUS_AVAILABLE),
        ..Default::default()
    }
}

/// What became of an extension.
pub(crate) fn extended(reservation: &lifecycle::Reservation) -> ExtendHoldResponse {
    let first = reservation.first_hold_expires_at.unwrap_or(reservation.hold_expires_at);
    let longer = reservation.hold_expires_at.saturating_sub(first) / 1_000;
    ExtendHoldResponse {
        new_expires_at: timestamp(reservation.hold_expires_at).into(),
        extended_seconds: i32::try_from(longer).unwrap_or(i32::MAX),
        extension_allowed: true,
        ..Default::default()
    }
}

fn seats(reservation: &lifecycle::Reservation, status: SeatStatus) -> Vec<Seat> {
    let seat = |id: &String| Seat { id: id.clone(), status: status.into(), ..Default::default() };
    reservation.seat_ids.iter().map(seat).collect()
}

/// What the seats of a reservation are while it is that.
fn held_as(status: &Status) -> SeatStatus {
    match status {
        Status::Confirmed => SeatStatus::SEAT_STATUS_SOLD,
        Status::Hold => SeatStatus::SEAT_STATUS_RESERVED,
        Status::Pending
        | Status::Cancelled
        | Status::Expired
        | Status::Failed
        | Status::Refunded
        | Status::Other(_) => SeatStatus::SEAT_STATUS_UNSPECIFIED,
    }
}

fn status(status: &Status) -> ReservationStatus {
    match status {
        Status::Pending => ReservationStatus::RESERVATION_STATUS_PENDING,
        Status::Hold => ReservationStatus::RESERVATION_STATUS_HOLD,
        Status::Confirmed => ReservationStatus::RESERVATION_STATUS_CONFIRMED,
        Status::Cancelled => ReservationStatus::RESERVATION_STATUS_CANCELLED,
        Status::Expired => ReservationStatus::RESERVATION_STATUS_EXPIRED,
        Status::Failed => ReservationStatus::RESERVATION_STATUS_FAILED,
        Status::Refunded => ReservationStatus::RESERVATION_STATUS_REFUNDED,
        Status::Other(_) => ReservationStatus::RESERVATION_STATUS_UNSPECIFIED,
    }
}
