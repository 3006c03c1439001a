//! What a request says: who calls, under which key, and the fields of its body. Every fault is found and named at once, and
//! nothing is done before all of it is right.

use std::{borrow::Cow, fmt, time::Duration};

use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::{Map, Value};
use shared::{
    field::{self, MOST_WISHED, USUAL_PAGE},
    json::{NotAnObject, Object},
    reservation::{
        Status,
        lifecycle::{Payment, Wish},
        service::{Error, Listing, Settlement},
        table::Cursor,
    },
    trigger::http::Caller,
};

use crate::refusal::Refusal;

/// A longer body is not read.
pub const LONGEST_BODY: usize = 64 * 1024;

/// The customer that the front door has found to be calling. Without one nothing is done, whatever the route says.
///
/// # Errors
/// When it named nobody, or somebody else than a customer.
pub fn customer(caller: Option<&Caller>) -> Result<String, Refusal> {
    caller.and_then(Caller::customer).map(str::to_owned).ok_or(Refusal::Unauthenticated)
}

/// Whether a function of ours is calling.
///
/// # Errors
/// When it is not one.
pub fn principal(caller: Option<&Caller>) -> Result<(), Refusal> {
    if caller.is_some_and(Caller::is_principal) { Ok(()) } else { Err(Refusal::Unauthenticated) }
}

/// The id of a path, where a reservation of ours may have it. No other is asked for: the table takes no key of any length.
///
/// # Errors
/// When no reservation of ours has it, which is not told from one that is not there.
pub fn possible(id: &str) -> Result<&str, Refusal> {
    field::own_id(id).ok_or_else(|| Error::Unknown.into())
}

/// The key that tells a repeat from another request. One pair of quotes around it is taken off, as the IETF's draft has them.
///
/// # Errors
/// When it is not a key, or is there more than once. `Ok` without a key: the request has none.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    const NAME: &str = "Idempotency-Key";

    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let invalid = |rule: &str| Refusal::invalid([(NAME, rule.to_owned())]);
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(text);
    let key = field::idempotency_key(key).map_err(invalid)?;
    if values.next().is_some() { Err(invalid("stands there more than once")) } else { Ok(Some(key.to_owned())) }
}

/// Which reservations a list asks for.
///
/// # Errors
/// The rule of each parameter that breaks one.
pub fn listing(query: &[(String, String)]) -> Result<Listing, Refusal> {
    const STATUSES: &str = "must be PENDING, HOLD, CONFIRMED, CANCELLED, EXPIRED or FAILED";
    const SHOW: &str = "must be the id of an event";

    let mut listing = Listing { limit: USUAL_PAGE, ..Listing::default() };
    let mut faults = Map::new();
    let mut fault = |name: &str, rule: &str| drop(faults.insert(name.to_owned(), Value::from(rule)));
    for (name, value) in query {
        match name.as_str() {
            "status" => match Status::named(value) {
                Status::Other(_) | Status::Refunded => fault(name, STATUSES),
                status @ (Status::Pending
                | Status::Hold
                | Status::Confirmed
                | Status::Cancelled
                | Status::Expired
                | Status::Failed) => listing.status = Some(status),
            },
            "eventId" | "event_id" => match field::id(&Value::from(value.as_str())) {
                Ok(show_id) => listing.show_id = Some(show_id),
                Err(_) => fault(name, SHOW),
            },
            // What is no number is no size of a page either.
            "limit" => match field::page_size(value.parse().unwrap_or(0_u64)) {
                Ok(limit) => listing.limit = limit,
                Err(rule) => fault(name, rule),
            },
            "cursor" => match Cursor::read(value) {
                Some(cursor) => listing.after = Some(cursor),
                None => fault(name, "must be the nextCursor of an earlier answer"),
            },
            _ => {}
        }
    }
    if faults.is_empty() { Ok(listing) } else { Err(Refusal::Invalid(faults)) }
}

/// Whether the body says of itself that it is JSON.
///
/// # Errors
/// When it does not.
pub fn says_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let says = |value: &HeaderValue| {
        let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    };
    if headers.get(CONTENT_TYPE).is_some_and(says) { Ok(()) } else { Err(Refusal::NotJson) }
}

/// The fields of a body, and what is wrong with them.
pub struct Fields<'a> {
    object: Object<'a>,
    faults: Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let wrong = |rule: String| Refusal::invalid([("body", rule)]);
        let text = str::from_utf8(body).map_err(|_| wrong("is not UTF-8".to_owned()))?;
        let object = Object::read(text).map_err(|fault| match fault {
            NotAnObject::Empty | NotAnObject::OtherJson | NotAnObject::NotJson(_) => wrong(fault.to_string()),
        })?;
        Ok(Self { object, faults: Map::new() })
    }

    /// The wish of a create, and the admission token that came with it: an empty one is none.
    ///
    /// # Errors
    /// The rule of each field that breaks one.
    pub fn wish(mut self, user_id: String, key: String, trace_id: &str) -> Result<(Wish, Option<String>), Refusal> {
        let show_id = self.required("eventId", "event_id", field::id);
        let seat_ids = self.optional("seatIds", "seat_ids", field::distinct_seats).unwrap_or_default();
        let quantity = self.quantity(&seat_ids);
        let token = self.optional("reservationToken", "reservation_token", |token| {
            token.as_str().map(str::to_owned).ok_or("must be a string")
        });
        let token = token.filter(|token| !token.is_empty());
        let (show_id, quantity) = (show_id.unwrap_or_default(), quantity.unwrap_or_default());
        let wish = Wish { user_id, show_id, seat_ids, quantity, key, trace_id: Some(trace_id.to_owned()) };
        self.finish((wish, token))
    }

    /// The reservation that a confirm or a cancel is about, where its path does not say so.
    pub fn reservation_id(&mut self) -> String {
        self.required("reservationId", "reservation_id", field::id).unwrap_or_default()
    }

    /// The payment of a confirm.
    pub fn payment_intent_id(&mut self) -> String {
        self.payment("paymentIntentId", "payment_intent_id")
    }

    /// How much longer a hold shall last.
    pub fn extension(&mut self) -> Duration {
        let longer = self.required("extensionSeconds", "extension_seconds", |value| {
            // What is no whole number is no length either.
            field::extension(whole(value).as_u64().unwrap_or(0))
        });
        longer.unwrap_or_default()
    }

    /// What a function asks for.
    ///
    /// # Errors
    /// The rule of each field that breaks one.
    pub fn settlement(mut self) -> Result<Settlement, Refusal> {
        let status = self.required("status", "status", |value| match value.as_str() {
            Some(status @ ("CONFIRMED" | "CANCELLED" | "EXPIRED")) => Ok(status.to_owned()),
            Some(_) | None => Err("must be CONFIRMED, CANCELLED or EXPIRED"),
        });
        let wanted = match status.as_deref() {
            Some("CONFIRMED") => {
                // Functions speak snake_case, and a fault is named as they wrote it.
                let intent_id = self.payment("payment_intent_id", "paymentIntentId");
                // Both are stored and nothing is decided by them.
                let amount = self.optional("amount", "amount", |value| Ok::<_, &str>(value.as_i64())).flatten();
                let currency = self.optional("currency", "currency", |value| {
                    Ok::<_, &str>(value.as_str().and_then(|text| field::carried(text.to_owned())))
                });
                Settlement::Confirmed(Payment { intent_id, amount, currency: currency.flatten() })
            }
            Some("CANCELLED") => Settlement::Cancelled,
            Some(_) | None => Settlement::Expired,
        };
        self.finish(wanted)
    }

    /// What was made of the fields, if nothing was wrong with them.
    ///
    /// # Errors
    /// The rule of each field that breaks one.
    pub fn finish<T>(self, made: T) -> Result<T, Refusal> {
        if self.faults.is_empty() { Ok(made) } else { Err(Refusal::Invalid(self.faults)) }
    }

    fn payment(&mut self, name: &str, other_name: &str) -> String {
        self.required(name, other_name, field::id).unwrap_or_default()
    }

    fn quantity(&mut self, seat_ids: &[String]) -> Option<u32> {
        let seats = seat_ids.len();
        let quantity = self.optional("quantity", "quantity", |value| field::quantity(&whole(value), seats));
        let quantity = match (quantity, u32::try_from(seats)) {
            (Some(quantity), _) => quantity,
            (None, Ok(seats)) if seats > 0 => seats,
            (None, _) => {
                self.faults.entry("quantity").or_insert_with(|| Value::from("is required where no seats are named"));
                return None;
            }
        };
        if quantity > MOST_WISHED {
            self.fault("quantity", format!("must be at most {MOST_WISHED}"));
        }
        Some(quantity)
    }

    fn required<T, E: fmt::Display>(
        &mut self,
        name: &str,
        other_name: &str,
        rule: impl FnOnce(&Value) -> Result<T, E>,
    ) -> Option<T> {
        let found = self.optional(name, other_name, rule);
        if found.is_none() && !self.faults.contains_key(name) {
            self.fault(name, "is required");
        }
        found
    }

    /// The value under either name, by its rule. Under both it is ambiguous.
    fn optional<T, E: fmt::Display>(
        &mut self,
        name: &str,
        other_name: &str,
        rule: impl FnOnce(&Value) -> Result<T, E>,
    ) -> Option<T> {
        let value = match (self.object.get(name), self.object.get(other_name)) {
            (Ok(Some(_)), Ok(Some(_))) if name != other_name => {
                self.fault(name, format!("stands there as {other_name} too"));
                return None;
            }
            (Ok(Some(value)), _) | (Ok(None), Ok(Some(value))) => value,
            (Ok(None), Ok(None)) => return None,
            (Err(fault), _) | (_, Err(fault)) => {
                self.fault(name, fault);
                return None;
            }
        };
        match rule(&value) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(name, fault);
                None
            }
        }
    }

    fn fault(&mut self, name: &str, rule: impl fmt::Display) {
        self.faults.insert(name.to_owned(), Value::from(rule.to_string()));
    }
}

/// A whole number, however it is written: to JSON, 60.0 is one.
fn whole(value: &Value) -> Cow<'_, Value> {
    const MOST: f64 = 9_007_199_254_740_992.0; // Beyond it a float names no single number.

    match value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0 && (0.0..=MOST).contains(number)) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in the range")]
        Some(number) => Cow::Owned(Value::from(number as u64)),
        None => Cow::Borrowed(value),
    }
}
