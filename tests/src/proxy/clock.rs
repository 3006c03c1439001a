//! A worker whose clock is off. Nothing but a claim compares times of two workers: it writes the present and the end of its
//! lease, and reads the end of another's. To move these on the way is therefore the same as to move the worker's clock.
//! The record's expiry is left alone, which is counted in days.

use axum::body::Bytes;
use serde_json::{Value, json};

/// A request as a worker sends it whose clock is ahead by so much.
pub(super) fn to_world(body: Bytes, ahead_ms: i64) -> Bytes {
    moved(body, ahead_ms, &["/ExpressionAttributeValues/:now_ms/N", "/ExpressionAttributeValues/:lease_end/N"])
}

/// An answer as such a worker takes it.
pub(super) fn to_worker(body: Bytes, ahead_ms: i64) -> Bytes {
    moved(body, -ahead_ms, &["/Item/in_progress_expiration/N"])
}

/// Moves the times at these places. Zero is no time but a lease that was given up.
fn moved(body: Bytes, by_ms: i64, places: &[&str]) -> Bytes {
    if by_ms == 0 {
        return body;
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { return body };
    let mut changed = false;
    for place in places {
        let Some(number) = value.pointer_mut(place) else { continue };
        let Some(time) = number.as_str().and_then(|text| text.parse::<i64>().ok()).filter(|time| *time != 0) else {
            continue;
        };
        *number = json!((time + by_ms).to_string());
        changed = true;
    }
    if changed { value.to_string().into() } else { body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_moved_there_and_back() {
        let claim = |now: &str, end: &str| {
            json!({"TableName": "t", "ExpressionAttributeValues": {
                ":now_ms": {"N": now}, ":lease_end": {"N": end}, ":expiration": {"N": "9"}}})
        };
        let sent = Bytes::from(claim("1000", "31000").to_string());
        let arrived: Value = serde_json::from_slice(&to_world(sent.clone(), -500)).unwrap();
        assert_eq!(arrived, claim("500", "30500"));
        assert_eq!(to_world(sent.clone(), 0), sent);

        let refusal = |end: &str| json!({"__type": "x", "Item": {"in_progress_expiration": {"N": end}}});
        for (stored, read) in [("30500", "31000"), ("0", "0")] {
            let read_back = to_worker(refusal(stored).to_string().into(), -500);
            assert_eq!(serde_json::from_slice::<Value>(&read_back).unwrap(), refusal(read));
        }
    }

    #[test]
    fn what_is_no_claim_passes_byte_for_byte() {
        for body in ["", "{ \"a\" : 1 }", "no json", r#"{"ExpressionAttributeValues":{":over":{"N":"0"}}}"#] {
            assert_eq!(to_world(Bytes::from(body), 500), body);
        }
    }
}
