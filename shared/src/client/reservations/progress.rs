//! How far a reservation is that somebody was admitted to make, and its end before it was made.
//!
//! `GET {base}/internal/reservations/{id}` tells the one. `PUT` on the same path with `If-None-Match: *` brings the other:
//! it makes a reservation of this id that has ended, a tombstone, unless there is one already. After that nobody can make one.
//!
//! Only our own API can do this. Whatever does not say by its own word what became of the reservation says nothing.

use http::{Method, StatusCode, header::IF_NONE_MATCH};
use hyper::body::Bytes;

use super::{Error, ReservationClient, Snapshot};
use crate::{deadline::moment_of, json::Object, reservation::Status, telemetry::trace::TraceContext};

/// How far a reservation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nobody has made it.
    Absent,
    /// It is being made.
    Pending {
        /// When it ends, in milliseconds since the epoch.
        until: u64,
    },
    /// Its seats are held.
    Held {
        /// When it ends, in milliseconds since the epoch.
        until: u64,
        /// The seats.
        quantity: u32,
    },
    /// It is paid.
    Sold {
        /// The seats.
        quantity: u32,
    },
    /// It ended without a payment, or was paid back.
    Ended {
        /// Whether its seats had been held.
        was_held: bool,
    },
    /// It was ended before it was made.
    Entombed,
}

impl ReservationClient {
    /// How far a reservation is.
    ///
    /// # Errors
    /// Nothing is known about it.
    pub async fn progress(&self, reservation_id: &str, trace: &TraceContext) -> Result<Progress, Error> {
        let request = self.request(Method::GET, reservation_id, trace);
        let (status, wait, text) = self.send(request, Bytes::new()).await?;
        match status {
            StatusCode::OK => self.read_progress(status, &text, reservation_id),
            StatusCode::NOT_FOUND if says_unknown(&text) => Ok(Progress::Absent),
            _ => Err(self.unexpected(status, wait, &text).await),
        }
    }

    /// Ends a reservation before it is made. `Ok` is what it is now: [`Progress::Entombed`], or what was made before. A repeat
    /// is told the same.
    ///
    /// # Errors
    /// It is not known whether it was ended.
    pub async fn entomb(&self, reservation_id: &str, trace: &TraceContext) -> Result<Progress, Error> {
        let request = self.request(Method::PUT, reservation_id, trace).header(IF_NONE_MATCH, "*");
        let (status, wait, text) = self.send(request, Bytes::new()).await?;
        match status {
            StatusCode::OK | StatusCode::CREATED => {
                let named = Object::read(&text).ok().and_then(|body| body.text("reservation_id"));
                let ended = self.read(status, &text, reservation_id)?.status == Ok(Status::Expired);
                if ended && named.as_deref() == Some(reservation_id) {
                    Ok(Progress::Entombed)
                } else {
                    Err(self.unexpected(status, wait, &text).await)
                }
            }
            StatusCode::PRECONDITION_FAILED => self.read_progress(status, &text, reservation_id),
            _ => Err(self.unexpected(status, wait, &text).await),
        }
    }

    /// Reads a reservation that says all of what decides here.
    fn read_progress(&self, status: StatusCode, text: &str, reservation_id: &str) -> Result<Progress, Error> {
        let snapshot = self.read(status, text, reservation_id)?;
        let silent = || Error::Unexpected { status, text: self.quoted(text), retry_after: None };
        let body = Object::read(text).map_err(|_| silent())?;
        if body.text("reservation_id").as_deref() != Some(reservation_id) {
            return Err(silent());
        }
        stated(&snapshot, &body).ok_or_else(silent)
    }
}

/// What a reservation says of how far it is. Nothing: it does not say it.
fn stated(snapshot: &Snapshot, body: &Object<'_>) -> Option<Progress> {
    let until = || moment_of(&body.text("hold_expires_at")?);
    let quantity = || snapshot.holding.as_ref().ok()?.quantity;
    Some(match snapshot.status.as_ref().ok()? {
        Status::Pending => Progress::Pending { until: until()? },
        Status::Hold => Progress::Held { until: until()?, quantity: quantity()? },
        Status::Confirmed => Progress::Sold { quantity: quantity()? },
        // A tombstone is of no event, because nobody has wished for anything.
        Status::Expired if body.text("event_id").is_some_and(|show_id| show_id.is_empty()) => Progress::Entombed,
        Status::Cancelled | Status::Expired | Status::Failed | Status::Refunded => {
            Progress::Ended { was_held: body.get("was_held").ok()??.as_bool()? }
        }
        Status::Other(_) => return None,
    })
}

/// Whether it is the API that knows no such reservation, and not somebody before it that knows no such path.
fn says_unknown(text: &str) -> bool {
    let code = Object::read(text).ok().and_then(|body| body.object("error").ok()??.text("code"));
    code.as_deref() == Some("RESERVATION_NOT_FOUND")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &Value) -> Option<Progress> {
        let text = body.to_string();
        let snapshot = Snapshot::of_reservation(&text, "rsv_1").ok()?;
        stated(&snapshot, &Object::read(&text).unwrap())
    }

    fn body(status: &str) -> Value {
        json!({
            "reservation_id": "rsv_1", "event_id": "evt_1", "status": status, "quantity": 2, "seat_ids": [],
            "hold_expires_at": "2026-11-20T09:14:51.123Z", "was_held": true,
        })
    }

    #[test]
    fn a_reservation_says_how_far_it_is() {
        let until = 1_795_166_091_123;
        for (status, progress) in [
            ("PENDING", Progress::Pending { until }),
            ("HOLD", Progress::Held { until, quantity: 2 }),
            ("CONFIRMED", Progress::Sold { quantity: 2 }),
            ("CANCELLED", Progress::Ended { was_held: true }),
            ("EXPIRED", Progress::Ended { was_held: true }),
        ] {
            assert_eq!(read(&body(status)), Some(progress), "{status}");
        }
        let unheld = |status: &str| {
            let mut body = body(status);
            body["was_held"] = json!(false);
            read(&body)
        };
        assert_eq!(unheld("FAILED"), Some(Progress::Ended { was_held: false }));
        let tombstone = json!({"reservation_id": "rsv_1", "event_id": "", "status": "EXPIRED", "quantity": 0});
        assert_eq!(read(&tombstone), Some(Progress::Entombed));
    }

    #[test]
    fn what_a_reservation_does_not_say_is_not_made_up() {
        for (status, missing) in [
            ("PENDING", "hold_expires_at"),
            ("HOLD", "hold_expires_at"),
            ("HOLD", "quantity"),
            ("CONFIRMED", "quantity"),
            ("EXPIRED", "was_held"),
            ("CANCELLED", "was_held"),
            ("EXPIRED", "status"),
        ] {
            let mut body = body(status);
            body.as_object_mut().unwrap().remove(missing);
            assert_eq!(read(&body), None, "{status} without {missing}");
        }
        assert_eq!(read(&body("held")), None);
    }

    #[test]
    fn only_the_apis_own_word_says_that_nobody_made_it() {
        assert!(says_unknown(r#"{"error": {"code": "RESERVATION_NOT_FOUND", "message": "there is none"}}"#));
        for other in ["", "<html>", r#"{"message": "Not Found"}"#, r#"{"error": {"code": "NOT_FOUND"}}"#] {
            assert!(!says_unknown(other), "{other}");
        }
    }
}
