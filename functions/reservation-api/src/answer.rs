//! What a reservation looks like to those who ask: to customers in camelCase, to the functions that settle in snake_case.

use serde_json::{Map, Value, json};
use shared::{
    deadline::moment,
    reservation::{
        lifecycle::Reservation,
        service::{Created, Page},
    },
};

/// The answer to a create, the same for each repeat: it says what was so when the seats were held.
pub(crate) fn created(created: &Created) -> Value {
    let Created { reservation, .. } = created;
    json!({
        "reservationId": reservation.id,
        "status": "HOLD",
        "holdExpiresAt": moment(reservation.first_hold_expires_at.unwrap_or(reservation.hold_expires_at)),
        "message": "The seats are held until holdExpiresAt. Pay before then.",
    })
}

/// A reservation as its customer sees it.
pub(crate) fn shown(reservation: &Reservation) -> Value {
    let Reservation { payment_intent_id, order_id, amount, currency, confirmed_at, .. } = reservation;
    with_what_is_known(
        json!({
            "reservationId": reservation.id,
            "eventId": reservation.show_id,
            "quantity": reservation.quantity,
            "seatIds": reservation.seat_ids,
            "status": reservation.status.name(),
            "holdExpiresAt": moment(reservation.hold_expires_at),
            "createdAt": moment(reservation.created_at),
            "updatedAt": moment(reservation.updated_at),
        }),
        [
            ("paymentIntentId", payment_intent_id.clone().map(Value::from)),
            ("orderId", order_id.clone().map(Value::from)),
            ("amount", amount.map(Value::from)),
            ("currency", currency.clone().map(Value::from)),
            ("confirmedAt", confirmed_at.map(moment).map(Value::from)),
        ],
    )
}

/// Some of a customer's reservations.
pub(crate) fn page(page: &Page) -> Value {
    let items: Vec<Value> = page.reservations.iter().map(shown).collect();
    json!({"items": items, "nextCursor": page.next.as_ref().map(ToString::to_string)})
}

/// What became of a confirm, a cancel or an extension.
pub(crate) fn changed(reservation: &Reservation, message: &str) -> Value {
    with_what_is_known(
        json!({
            "reservationId": reservation.id,
            "status": reservation.status.name(),
            "holdExpiresAt": moment(reservation.hold_expires_at),
            "message": message,
        }),
        [("orderId", reservation.order_id.clone().map(Value::from))],
    )
}

/// A reservation as the functions that settle see it.
pub(crate) fn shown_to_functions(reservation: &Reservation) -> Value {
    let Reservation { payment_intent_id, order_id, amount, currency, .. } = reservation;
    with_what_is_known(
        json!({
            "reservation_id": reservation.id,
            "event_id": reservation.show_id,
            "user_id": reservation.user_id,
            "seat_ids": reservation.seat_ids,
            "quantity": reservation.quantity,
            "status": reservation.status.name(),
            "hold_expires_at": moment(reservation.hold_expires_at),
            "created_at": moment(reservation.created_at),
            "updated_at": moment(reservation.updated_at),
        }),
        [
            ("payment_intent_id", payment_intent_id.clone().map(Value::from)),
            ("order_id", order_id.clone().map(Value::from)),
            ("amount", amount.map(Value::from)),
            ("currency", currency.clone().map(Value::from)),
        ],
    )
}

fn with_what_is_known<const N: usize>(mut object: Value, more: [(&str, Option<Value>); N]) -> Value {
    let known: Map<String, Value> =
        more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if let Some(fields) = object.as_object_mut() {
        fields.extend(known);
    }
    object
}
