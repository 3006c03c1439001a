use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::crypto::sign;
use serde_json::{Value, json};

use super::*;
use crate::config::secret::SecretFields;

const KEY: &str = "a key of the tests, and of nobody else: 1";
const FORMER: &str = "a key of the tests, and of nobody else: 2";

pub(crate) fn admission() -> Admission {
    Admission {
        user_id: "usr_1".to_owned(),
        show_id: "evt_1".to_owned(),
        queue_item_id: "q1abc".to_owned(),
        position: 17,
        call: 2,
        most_tickets: 4,
        issued_at: 1_800_000_000_000,
        expires_at: 1_800_000_300_000,
    }
}

fn read(secret: &Value) -> Result<Keys, Vec<String>> {
    let environment = BTreeMap::new();
    let mut reader = Reader::with_secret(&environment, Some(SecretFields::parse(&secret.to_string())), None);
    let keys = Keys::configured(&mut reader);
    reader.finish(keys).map_err(|error| error.0)
}

fn keys() -> Keys {
    read(&json!({"admission_key": KEY, "admission_key_former": FORMER})).unwrap()
}

/// A token of this header and these claims, signed by `key` as HS256 has it, whatever the header says.
fn forged(header: &Value, claims: &Value, key: &str) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = sign(signed.as_bytes(), &EncodingKey::from_secret(key.as_bytes()), Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn header() -> Value {
    json!({"typ": "JWT", "alg": "HS256", "kid": keys().signing.name})
}

fn claims() -> Value {
    json!({
        "aud": AUDIENCE, "sub": "usr_1", "evt": "evt_1", "qid": "q1abc", "pos": 17, "max": 4,
        "iat": 1_800_000_000, "exp": 1_800_000_300, "jti": "q1abc_17_2",
    })
}

fn with(mut value: Value, field: &str, other: Value) -> Value {
    value[field] = other;
    value
}

#[test]
fn a_token_states_what_it_was_made_of_and_is_the_same_each_time() {
    let token = keys().mint(&admission()).unwrap();
    assert_eq!(keys().verify(&token), Ok(admission()));
    assert_eq!(keys().mint(&admission()).unwrap(), token);
    assert_eq!(keys().verify(&forged(&header(), &claims(), KEY)), Ok(admission()), "any library can make one");
    assert!(token.len() < 600, "{}", token.len());
}

#[test]
fn a_token_never_lasts_longer_than_its_admission() {
    let admission = Admission { expires_at: 1_800_000_300_999, ..admission() };
    let found = keys().verify(&keys().mint(&admission).unwrap()).unwrap();
    assert_eq!(found.expires_at, 1_800_000_300_000);
}

#[test]
fn tokens_of_both_keys_are_believed_and_only_the_first_signs() {
    let before = read(&json!({"admission_key": FORMER})).unwrap();
    let old = before.mint(&admission()).unwrap();
    assert_eq!(keys().verify(&old), Ok(admission()), "given before the keys were changed");
    assert_eq!(before.verify(&keys().mint(&admission()).unwrap()), Err(Denied::NotOurs), "signed by the new key");
    let after = read(&json!({"admission_key": KEY})).unwrap();
    assert_eq!(after.verify(&old), Err(Denied::NotOurs), "the old key is not believed any more");
}

#[test]
fn an_algorithm_that_a_token_chooses_is_not_followed() {
    let unsigned = forged(&with(header(), "alg", json!("none")), &claims(), KEY);
    let unsigned = &unsigned[..=unsigned.rfind('.').unwrap()];
    assert_eq!(keys().verify(unsigned), Err(Denied::NotOurs));
    for algorithm in ["none", "None", "RS256", "HS384", "HS512", "ES256", "PS256", "EdDSA", "hs256", ""] {
        let token = forged(&with(header(), "alg", json!(algorithm)), &claims(), KEY);
        assert_eq!(keys().verify(&token), Err(Denied::NotOurs), "{algorithm}");
    }
}

#[test]
fn what_is_not_signed_by_the_key_that_it_names_is_not_believed() {
    assert_eq!(keys().verify(&forged(&header(), &claims(), FORMER)), Err(Denied::NotOurs), "by the other key");
    assert_eq!(keys().verify(&forged(&header(), &claims(), "")), Err(Denied::NotOurs));
    for name in [Value::Null, json!(""), json!("../../key"), json!(7)] {
        assert_eq!(keys().verify(&forged(&with(header(), "kid", name), &claims(), KEY)), Err(Denied::NotOurs));
    }
    let token = keys().mint(&admission()).unwrap();
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(keys().verify(&String::from_utf8(other).unwrap()), Err(Denied::NotOurs), "byte {at}");
    }
    for text in ["", ".", "..", "...", "t", &token[..token.len() - 1], &format!("{token}.{token}"), &"a".repeat(3_000)]
    {
        assert_eq!(keys().verify(text), Err(Denied::NotOurs), "{text:.20}");
    }
}

#[test]
fn a_signed_token_with_other_claims_than_ours_is_none() {
    for (claim, value) in [
        ("aud", json!("another-service")),
        ("aud", Value::Null),
        ("sub", Value::Null),
        ("evt", Value::Null),
        ("pos", json!(-1)),
        ("pos", json!("17")),
        ("max", json!(4.5)),
        ("exp", Value::Null),
        ("exp", json!("never")),
        ("jti", json!("")),
        ("jti", json!("q1abc_17_02")),
        ("jti", json!("q1abc_17_+2")),
        ("jti", json!("q1abc_17_2_3")),
        ("jti", json!("q1abc_18_2")),
        ("jti", json!("another_17_2")),
        ("qid", json!("q1")),
    ] {
        let token = forged(&header(), &with(claims(), claim, value.clone()), KEY);
        assert_eq!(keys().verify(&token), Err(Denied::NotOurs), "{claim}: {value}");
    }
    for item in ["Q1", "q#1", "q 1", "é", &"q".repeat(200)] {
        let claims = with(with(claims(), "qid", json!(item)), "jti", json!(format!("{item}_17_2")));
        assert_eq!(keys().verify(&forged(&header(), &claims, KEY)), Err(Denied::NotOurs), "{item:.20}");
    }
}

#[test]
fn no_token_is_made_that_names_no_reservation() {
    for item in ["Q1", "q#1", "é", &"q".repeat(200)] {
        let error = keys().mint(&Admission { queue_item_id: item.to_owned(), ..admission() }).unwrap_err();
        assert!(error.to_string().contains("must be 1 to 128 of a-z 0-9 _"), "{error}");
    }
}

#[test]
fn a_wrong_key_is_named_and_never_shown() {
    let missing = read(&json!({})).unwrap_err();
    assert_eq!(missing, ["SECRET_NAME must hold admission_key"]);
    let short = read(&json!({"admission_key": "hunter2", "admission_key_former": "k".repeat(31)})).unwrap_err();
    let rule = |field: &str| format!("SECRET_NAME holds {field}, which must have at least 32 bytes");
    assert_eq!(short, [rule("admission_key"), rule("admission_key_former")]);
    let number = read(&json!({"admission_key": 7})).unwrap_err();
    assert_eq!(number, ["SECRET_NAME holds admission_key, which must be a string"]);
    let only_former = read(&json!({"admission_key_former": FORMER})).unwrap_err();
    assert_eq!(only_former, missing);
    let shown = format!("{:?}", keys());
    assert!(!shown.contains(KEY) && !shown.contains(FORMER) && shown.contains(&keys().signing.name), "{shown}");
}

#[test]
fn an_unreadable_secret_is_one_fault() {
    let environment = BTreeMap::new();
    let mut reader = Reader::with_secret(&environment, Some(Err("could not be read: no access".to_owned())), None);
    assert!(Keys::configured(&mut reader).is_none());
    assert_eq!(reader.finish(None::<()>).unwrap_err().0, ["SECRET_NAME could not be read: no access"]);
}
