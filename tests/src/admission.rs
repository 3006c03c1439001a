//! What the waiting room gives to others, where a test needs it without its functions: lines in its table, and tokens.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use shared::{
    admission::{
        Admission,
        token::{KEY_FIELD, Keys, OTHER_KEY_FIELD},
    },
    config::{Reader, secret::SecretFields},
    deadline::epoch_ms,
    waiting_room::{
        Moment,
        id::PlaceId,
        line::{Line, Scope, Settings},
        table::{Table, Written},
        ticket,
    },
};

use crate::{
    aws::AwsEndpoint,
    stack::{Stack, WAITING_ROOM},
};

/// The name of the waiting room's table.
pub const LINES: &str = WAITING_ROOM;
/// The name of the secret with the keys.
pub const SECRET: &str = "holdfast/admission";
/// The key that signs. It guards nothing but reservations of the local stack, and signed the tokens of `events/`.
pub const KEY: &str = "a key of the local stack that guards nothing at all";
/// The key that is believed beside it.
pub const FORMER_KEY: &str = "a former key of the local stack, which guards nothing";

/// The variables of a function that asks for admissions.
pub const VARIABLES: [(&str, &str); 3] =
    [("WAITING_ROOM_TABLE", LINES), ("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)];

/// How long the token of [`turn`] lasts.
const WINDOW: Duration = Duration::from_secs(300);

/// Puts the keys in place. What asks for admissions then needs [`VARIABLES`].
pub fn prepare(aws: &AwsEndpoint) {
    aws.put_secret(SECRET, &secret(KEY, Some(FORMER_KEY)));
}

/// The stack whose functions ask for admissions.
#[must_use]
pub fn asking(stack: Stack) -> Stack {
    prepare(&stack.aws);
    VARIABLES.iter().fold(stack, |stack, (name, value)| stack.with_variable(name, value))
}

/// A secret with these keys.
pub fn secret(key: &str, other: Option<&str>) -> String {
    let mut fields = json!({KEY_FIELD: key});
    if let Some(other) = other {
        fields[OTHER_KEY_FIELD] = json!(other);
    }
    fields.to_string()
}

/// Opens a line for a show with so many tickets, as the waiting room does. It closes after a day.
///
/// # Errors
/// When it is not open afterwards.
pub async fn open_line(aws: &AwsEndpoint, show_id: &str, tickets: u32) -> Result<(), String> {
    let now = epoch_ms(SystemTime::now());
    let scope = Scope { show_id: show_id.to_owned(), generation: 1, key_version: 1 };
    let (opens_at, closes_at) = (now, now + 24 * 3_600_000);
    let settings =
        Settings { tickets, seats_max: 4, max_inside: None, opens_at, closes_at, paused: false, draws: false };
    let line = Line::open(scope, settings).map_err(|error| error.to_string())?;
    match Table::new(aws.tables(), LINES).open(&line).await {
        Ok(Written::Made) => Ok(()),
        Ok(Written::Overtaken) => Err(format!("{show_id} has a line already")),
        Err(error) => Err(error.to_string()),
    }
}

/// A turn of this customer, which begins now.
pub fn turn(user_id: &str, show_id: &str) -> Admission {
    let now = SystemTime::now();
    Admission {
        user_id: user_id.to_owned(),
        show_id: show_id.to_owned(),
        queue_item_id: format!("q1{}", user_id.replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), "")),
        position: 1,
        call: 1,
        most_tickets: 4,
        issued_at: epoch_ms(now),
        expires_at: epoch_ms(now + WINDOW),
    }
}

/// Its token, by the key that signs.
///
/// # Errors
/// When no token can state it.
pub fn token(admission: &Admission) -> Result<String, String> {
    token_by(KEY, admission)
}

/// Its token, by a key of the caller's choice.
///
/// # Errors
/// When no token can state it, or the key is none.
pub fn token_by(key: &str, admission: &Admission) -> Result<String, String> {
    keys(key)?.mint(admission).map_err(|error| error.to_string())
}

/// The ticket by which a page of a place hears at once, given at this moment by a key of the caller's choice.
///
/// # Errors
/// When the key is none.
pub fn ticket_by(key: &str, place: PlaceId, given_at: Moment) -> Result<String, String> {
    ticket::issue(&keys(key)?, place, given_at)
}

fn keys(key: &str) -> Result<Keys, String> {
    let environment = BTreeMap::new();
    let mut reader = Reader::with_secret(&environment, Some(SecretFields::parse(&secret(key, None))), None);
    let keys = Keys::configured(&mut reader);
    reader.finish(keys).map_err(|error| error.to_string())
}

/// A token whose header and claims somebody has changed, signed again by a key as HS256 has it, or not signed at all.
pub fn forged(token: &str, key: Option<&str>, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let mut parts = token.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap_or_default());
    let mut read = || serde_json::from_slice::<Value>(&parts.next().unwrap_or_default()).unwrap_or_default();
    let (mut header, mut claims) = (read(), read());
    change(&mut header, &mut claims);
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = key.map(|key| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), signed.as_bytes()));
    let signature = signature.map(|tag| BASE64_URL_SAFE_NO_PAD.encode(tag)).unwrap_or_default();
    format!("{signed}.{signature}")
}
