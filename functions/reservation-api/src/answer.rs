//! What a reservation looks like to those who ask: to customers in camelCase, to the functions that settle in snake_case.

use serde::Serialize;
use shared::{
    deadline::moment,
    reservation::{lifecycle::Reservation, service},
};

/// The answer to a create, the same for each repeat: it says what was so when the seats were held.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Created))]
pub(crate) struct CreatedAnswer {
    /// By this id the reservation is shown, confirmed, cancelled and extended.
    reservation_id: String,
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::held))]
    status: &'static str,
    /// Until then the seats are held. Whoever pays later may get his money back and no seats.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    hold_expires_at: String,
    /// For people.
    message: &'static str,
}

/// A reservation as its customer sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Reservation))]
pub(crate) struct Shown {
    reservation_id: String,
    /// What the tickets are for.
    event_id: String,
    /// How many tickets.
    quantity: u32,
    /// The seats: those that were named, else those that the inventory chose, and none while it has not.
    seat_ids: Vec<String>,
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::status))]
    status: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    hold_expires_at: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    created_at: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    updated_at: String,
    /// The payment that has confirmed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    payment_intent_id: Option<String>,
    /// The order, once it is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    order_id: Option<String>,
    /// What was paid, in the currency's smallest unit, where the payment said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    amount: Option<i64>,
    /// The currency of the amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    currency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, format = DateTime))]
    confirmed_at: Option<String>,
    /// The customer's item in the waiting room, where the reservation was made by an admission token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    queue_item_id: Option<String>,
}

/// Some of a customer's reservations, the newest first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Page))]
pub(crate) struct PageAnswer {
    /// Those that fit, of as many as `limit` says; so a page may hold few, or none, and not be the last.
    items: Vec<Shown>,
    /// The `cursor` of the next page; null on the last.
    #[cfg_attr(feature = "openapi", schema(required))]
    next_cursor: Option<String>,
}

/// What became of a confirm, a cancel or an extension.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Changed))]
pub(crate) struct ChangedAnswer {
    reservation_id: String,
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::status))]
    status: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    hold_expires_at: String,
    /// For people.
    message: &'static str,
    /// The order, once it is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    order_id: Option<String>,
}

/// A reservation as the functions that settle see it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = SettledReservation))]
pub(crate) struct ShownToFunctions {
    reservation_id: String,
    event_id: String,
    user_id: String,
    seat_ids: Vec<String>,
    quantity: u32,
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::status))]
    status: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    hold_expires_at: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    created_at: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    updated_at: String,
    /// Whether its seats were ever held. One that has ended without that took nothing from anybody.
    was_held: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    payment_intent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    amount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    currency: Option<String>,
    /// The customer's item in the waiting room, where the reservation was made by an admission token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    queue_item_id: Option<String>,
}

/// A reservation that was ended before it was created.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Ended))]
pub(crate) struct EndedAnswer {
    reservation_id: String,
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::expired))]
    status: &'static str,
}

/// That the function answers.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Health {
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::up))]
    pub(crate) status: &'static str,
}

/// Which function answers.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Info {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// What it was built from, where its build was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub(crate) commit: Option<&'static str>,
}

/// What a create has come to.
pub(crate) fn created(created: &service::Created) -> CreatedAnswer {
    let service::Created { reservation, .. } = created;
    CreatedAnswer {
        reservation_id: reservation.id.clone(),
        status: "HOLD",
        hold_expires_at: moment(reservation.first_hold_expires_at.unwrap_or(reservation.hold_expires_at)),
        message: "The seats are held until holdExpiresAt. Pay before then.",
    }
}

/// A reservation for its customer.
pub(crate) fn shown(reservation: &Reservation) -> Shown {
    Shown {
        reservation_id: reservation.id.clone(),
        event_id: reservation.show_id.clone(),
        quantity: reservation.quantity,
        seat_ids: reservation.seat_ids.clone(),
        status: reservation.status.name().to_owned(),
        hold_expires_at: moment(reservation.hold_expires_at),
        created_at: moment(reservation.created_at),
        updated_at: moment(reservation.updated_at),
        payment_intent_id: reservation.payment_intent_id.clone(),
        order_id: reservation.order_id.clone(),
        amount: reservation.amount,
        currency: reservation.currency.clone(),
        confirmed_at: reservation.confirmed_at.map(moment),
        queue_item_id: reservation.queue_item_id.clone(),
    }
}

/// Some of a customer's reservations.
pub(crate) fn page(page: &service::Page) -> PageAnswer {
    PageAnswer {
        items: page.reservations.iter().map(shown).collect(),
        next_cursor: page.next.as_ref().map(ToString::to_string),
    }
}

/// What became of a confirm, a cancel or an extension.
pub(crate) fn changed(reservation: &Reservation, message: &'static str) -> ChangedAnswer {
    ChangedAnswer {
        reservation_id: reservation.id.clone(),
        status: reservation.status.name().to_owned(),
        hold_expires_at: moment(reservation.hold_expires_at),
        message,
        order_id: reservation.order_id.clone(),
    }
}

/// A reservation for the functions that settle.
pub(crate) fn shown_to_functions(reservation: &Reservation) -> ShownToFunctions {
    ShownToFunctions {
        reservation_id: reservation.id.clone(),
        event_id: reservation.show_id.clone(),
        user_id: reservation.user_id.clone(),
        seat_ids: reservation.seat_ids.clone(),
        quantity: reservation.quantity,
        status: reservation.status.name().to_owned(),
        hold_expires_at: moment(reservation.hold_expires_at),
        created_at: moment(reservation.created_at),
        updated_at: moment(reservation.updated_at),
        was_held: reservation.held_at.is_some(),
        payment_intent_id: reservation.payment_intent_id.clone(),
        order_id: reservation.order_id.clone(),
        amount: reservation.amount,
        currency: reservation.currency.clone(),
        queue_item_id: reservation.queue_item_id.clone(),
    }
}

/// A reservation that nobody can create any more.
pub(crate) fn ended(id: String) -> EndedAnswer {
    EndedAnswer { reservation_id: id, status: "EXPIRED" }
}
