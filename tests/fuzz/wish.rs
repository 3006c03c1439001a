//! What must hold of any request body of the reservation API, and of its key and query, whoever made them up.

use axum::http::{HeaderMap, HeaderValue};
use reservation_api::{
    refusal::Refusal,
    request::{Fields, idempotency_key, listing},
};
use serde_json::Value;
use shared::reservation::{lifecycle::Wish, service::Settlement};

/// Ten names that are quoted, of 64 characters that are escaped as `\u{10ffff}`, and what is said of each field.
const LONGEST_MESSAGE: usize = 10_000;

/// Reads an input as the body of every request, its first line as a key, and its lines as a query.
///
/// # Panics
/// When something does not hold.
pub(crate) fn judge(input: &[u8]) {
    let json: Option<Value> = serde_json::from_slice(input).ok();
    let fields = || Fields::read(input);
    if json.as_ref().is_some_and(|json| !json.is_object()) {
        check_refusal(&fields().err());
    }
    match fields().and_then(|fields| fields.wish("usr_1".to_owned(), "key-1".to_owned(), "trace-1")) {
        Ok((wish, token)) => {
            check_wish(&wish, json.as_ref());
            assert_ne!(token.as_deref(), Some(""), "an empty token is none");
        }
        Err(refusal) => check_refusal(&Some(refusal)),
    }
    match fields().and_then(Fields::settlement) {
        Ok(Settlement::Confirmed(payment)) => {
            check_id(&payment.intent_id);
            let currency = payment.currency.unwrap_or_else(|| "EUR".to_owned());
            assert!(!currency.trim().is_empty() && currency.chars().count() <= 256, "{currency:?}");
        }
        Ok(Settlement::Cancelled | Settlement::Expired) => {}
        Err(refusal) => check_refusal(&Some(refusal)),
    }
    let longer = fields().and_then(|mut fields| {
        let longer = fields.extension();
        fields.finish(longer)
    });
    match longer {
        Ok(longer) => assert!((1..=86_400).contains(&longer.as_secs()), "{longer:?}"),
        Err(refusal) => check_refusal(&Some(refusal)),
    }
    let named = fields().and_then(|mut fields| {
        let named = (fields.reservation_id(), fields.payment_intent_id());
        fields.finish(named)
    });
    match named {
        Ok((id, payment)) => {
            check_id(&id);
            check_id(&payment);
        }
        Err(refusal) => check_refusal(&Some(refusal)),
    }
    check_key(input.split(|byte| *byte == b'\n').next().unwrap_or_default());
    check_query(&String::from_utf8_lossy(input));
}

/// Every accepted wish can be held.
fn check_wish(wish: &Wish, json: Option<&Value>) {
    check_id(&wish.show_id);
    assert!((1..=10).contains(&wish.quantity), "{wish:?}");
    assert!(wish.seat_ids.is_empty() || wish.seat_ids.len() == wish.quantity as usize, "{wish:?}");
    let mut seats = wish.seat_ids.clone();
    seats.sort_unstable();
    seats.dedup();
    assert_eq!(seats.len(), wish.seat_ids.len(), "each seat once: {wish:?}");
    assert!(seats.iter().all(|seat| !seat.trim().is_empty() && seat.chars().count() <= 64), "{wish:?}");
    // The other reader knows the same names, and each stands there once.
    let Some(json) = json else { return };
    let one_of = |names: [&str; 2]| names.into_iter().map(|name| &json[name]).find(|value| !value.is_null());
    assert_eq!(one_of(["eventId", "event_id"]).and_then(Value::as_str), Some(wish.show_id.as_str()), "{json}");
    let named = one_of(["seatIds", "seat_ids"]).and_then(Value::as_array).map_or(0, Vec::len);
    assert_eq!(named, wish.seat_ids.len(), "{json}");
}

fn check_id(id: &str) {
    assert!((1..=256).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
}

/// A refusal names each wrong field with its rule, in a text for the log and for people.
fn check_refusal(refusal: &Option<Refusal>) {
    let Some(refusal) = refusal else { panic!("what is not an object was read") };
    let answer = refusal.answer();
    assert_eq!((answer.status().as_u16(), answer.code()), (400, "INVALID_REQUEST"), "{refusal:?}");
    let body = answer.body("trace-1");
    let rules: Vec<&Value> = body["error"]["details"].as_object().into_iter().flatten().map(|(_, rule)| rule).collect();
    assert!(!rules.is_empty() && rules.iter().all(|rule| rule.as_str().is_some_and(|rule| rule.len() > 3)), "{body}");
    assert!(answer.message().len() < LONGEST_MESSAGE, "{refusal:?}");
    assert!(!answer.message().contains(char::is_control), "{refusal:?}");
}

/// A key is one plain text, whatever stood around it.
fn check_key(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("idempotency-key", value);
    match idempotency_key(&headers) {
        Ok(Some(key)) => {
            assert!((1..=255).contains(&key.len()), "{key:?}");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:+/=-".contains(&byte);
            assert!(key.bytes().all(plain), "{key:?}");
        }
        Ok(None) => panic!("the key that is there was not seen"),
        Err(refusal) => check_refusal(&Some(refusal)),
    }
}

fn check_query(text: &str) {
    let pairs: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match listing(&pairs) {
        Ok(listing) => {
            assert!((1..=100).contains(&listing.limit), "{listing:?}");
            if let Some(show_id) = &listing.show_id {
                check_id(show_id);
            }
        }
        Err(refusal) => check_refusal(&Some(refusal)),
    }
}
