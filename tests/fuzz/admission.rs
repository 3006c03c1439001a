//! What must hold of any text that comes as an admission token, and of any admission that one is made of.

use std::{collections::BTreeMap, sync::LazyLock};

use shared::{
    admission::{Admission, Denied, token::Keys},
    config::{Reader, secret::SecretFields},
    field,
};

/// What a customer's or a show's id is cut to: neither is longer.
const LONGEST_ID: usize = 256;

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let environment = BTreeMap::new();
    let secret = r#"{"admission_key": "a key of the fuzzer, which guards nothing at all"}"#;
    let mut reader = Reader::with_secret(&environment, Some(SecretFields::parse(secret)), None);
    let keys = Keys::configured(&mut reader);
    reader.finish(keys).unwrap_or_else(|error| panic!("{error}"))
});

/// Reads an input as a token, makes a token of what it says line by line, and changes that token where it says.
///
/// # Panics
/// When something does not hold.
pub(crate) fn judge(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(admission) = KEYS.verify(&text) {
        assert_eq!(KEYS.mint(&admission).as_deref(), Ok(&*text), "only what these keys have signed is believed");
    }
    let mut lines = text.split('\n');
    let mut id = || {
        let line = lines.next().unwrap_or_default();
        line.chars().filter(char::is_ascii_graphic).take(LONGEST_ID).collect::<String>()
    };
    let number = |at: usize| u64::from(input.get(at).copied().unwrap_or_default());
    let admission = Admission {
        queue_item_id: id(),
        user_id: id(),
        show_id: id(),
        position: number(0) * number(1) * number(2),
        call: u32::try_from(number(3)).unwrap_or_default(),
        most_tickets: u32::try_from(number(4)).unwrap_or_default(),
        issued_at: number(5) * 1_000,
        expires_at: number(6) * 1_000,
    };
    let token_id = admission.token_id();
    match KEYS.mint(&admission) {
        Ok(token) => {
            assert_eq!(KEYS.verify(&token).as_ref(), Ok(&admission), "{token}");
            assert_eq!(field::own_id(&admission.reservation_id()), Some(admission.reservation_id().as_str()));
            check_changed(&token, input.len());
        }
        Err(fault) => {
            let is_none = token_id.len() > 128 || field::own_id(&token_id).is_none();
            assert!(is_none, "{token_id:?}: {fault}");
        }
    }
}

/// A token is not believed any more, whichever of its letters is another.
fn check_changed(token: &str, at: usize) {
    let at = at % token.len();
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
    assert_eq!(KEYS.verify(&changed), Err(Denied::NotOurs), "{changed}");
}
