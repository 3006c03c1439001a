//! The ticket by which a page hears at once what becomes of a place. A WebSocket has no header that a page could set, so that
//! it stands in the address; it names a place and nobody, is good for two minutes, and lets its bearer hear and nothing else.
//!
//! It is signed by the keys of the admission tokens, for an audience of its own, so that neither is taken for the other.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::{Moment, id::PlaceId, ms};
use crate::admission::token::Keys;

/// So long a connection may be opened by it: a page opens it at once, and once more where the network was away.
pub const GOOD_FOR: Duration = Duration::from_secs(120);

/// For whom tickets are.
const AUDIENCE: &str = "holdfast-pushes";

/// The ticket's name in the address.
const PARAMETER: &str = "ticket";

/// Why a ticket opens no connection. What is wrong with one that is none of ours helps nobody but a forger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none, or it is none that the waiting room has given out.
    #[error("no ticket that the waiting room has given out")]
    NotOurs,
    /// Its time is over.
    #[error("a ticket whose time is over")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    /// The place.
    sub: PlaceId,
    exp: u64,
}

/// The ticket of a place.
///
/// # Errors
/// When it can't be signed.
pub fn issue(keys: &Keys, id: PlaceId, now: Moment) -> Result<String, String> {
    let claims = Claims { aud: AUDIENCE.to_owned(), sub: id, exp: (now + ms(GOOD_FOR)) / 1_000 };
    keys.signed(&claims).map_err(|error| error.to_string())
}

/// The place that the ticket in a query is for.
///
/// # Errors
/// Why it opens nothing.
pub fn shown(keys: &Keys, query: &str, now: Moment) -> Result<PlaceId, Refused> {
    let mut found = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == PARAMETER);
    let (Some((_, ticket)), None) = (found.next(), found.next()) else { return Err(Refused::NotOurs) };
    let Claims { sub, exp, .. } = keys.claims(&ticket, AUDIENCE).ok_or(Refused::NotOurs)?;
    if now >= exp.saturating_mul(1_000) { Err(Refused::Expired) } else { Ok(sub) }
}

/// Where a WebSocket is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushUrl(Url);

impl PushUrl {
    /// The address at a WebSocket API whose base this is: encrypted, unless it is on this machine. Nothing: it is none.
    pub fn of(base: &str) -> Option<Self> {
        let mut url = Url::parse(base).ok()?;
        let is_near = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let scheme = match url.scheme() {
            "https" => "wss",
            "http" if is_near => "ws",
            _ => return None,
        };
        url.set_scheme(scheme).ok()?;
        (url.query().is_none() && url.fragment().is_none()).then_some(Self(url))
    }

    /// The origin, as a page's policy names it.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The address with a ticket.
    pub fn with(&self, ticket: &str) -> String {
        let mut url = self.0.clone();
        url.query_pairs_mut().append_pair(PARAMETER, ticket);
        url.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        admission::token::tests::admission,
        config::{Reader, secret::SecretFields},
    };

    const NOW: Moment = 1_800_000_000_000;

    fn keys(secret: &Value) -> Keys {
        let environment = BTreeMap::new();
        let secret = SecretFields::parse(&secret.to_string());
        let mut reader = Reader::with_secret(&environment, Some(secret), None);
        let keys = Keys::configured(&mut reader);
        reader.finish(keys).unwrap()
    }

    fn key(number: u8) -> String {
        format!("a key of the tests, and of nobody else: {number}")
    }

    fn one() -> Keys {
        keys(&json!({"admission_key": key(1)}))
    }

    fn place() -> PlaceId {
        PlaceId::of(1, [7; 16])
    }

    fn query(ticket: &str) -> String {
        format!("{PARAMETER}={ticket}")
    }

    #[test]
    fn a_ticket_is_good_for_its_place_and_two_minutes() {
        let ticket = issue(&one(), place(), NOW).unwrap();
        let at = |now| shown(&one(), &query(&ticket), now);
        assert_eq!((at(NOW), at(NOW + 119_999)), (Ok(place()), Ok(place())));
        assert_eq!(at(NOW + 120_000), Err(Refused::Expired));
        let other = issue(&one(), PlaceId::of(1, [8; 16]), NOW).unwrap();
        assert_eq!(shown(&one(), &query(&other), NOW), Ok(PlaceId::of(1, [8; 16])), "each is for its own place alone");
    }

    #[test]
    fn neither_a_ticket_nor_an_admission_is_taken_for_the_other() {
        let admission = one().mint(&admission()).unwrap();
        assert_eq!(shown(&one(), &query(&admission), NOW), Err(Refused::NotOurs));
        assert!(one().verify(&issue(&one(), place(), NOW).unwrap()).is_err());
    }

    #[test]
    fn a_ticket_of_the_former_key_is_good_until_that_key_goes() {
        let ticket = query(&issue(&one(), place(), NOW).unwrap());
        let exchanged = keys(&json!({"admission_key": key(2), "admission_key_former": key(1)}));
        assert_eq!(shown(&exchanged, &ticket, NOW), Ok(place()));
        assert_eq!(shown(&keys(&json!({"admission_key": key(2)})), &ticket, NOW), Err(Refused::NotOurs));
    }

    #[test]
    fn what_is_no_ticket_opens_nothing() {
        let ticket = issue(&one(), place(), NOW).unwrap();
        let twice = format!("{}&{}", query(&ticket), query(&ticket));
        let cut = query(&ticket[..ticket.len() - 1]);
        let elsewhere = format!("token={ticket}");
        for none in ["", "ticket", "ticket=", "ticket=a.b.c", &twice, &cut, &elsewhere] {
            assert_eq!(shown(&one(), none, NOW), Err(Refused::NotOurs), "{none}");
        }
        let claims = json!({"aud": AUDIENCE, "sub": "usr_1", "exp": NOW / 1_000 + 60});
        let of_nobody = one().signed(&claims).unwrap();
        assert_eq!(shown(&one(), &query(&of_nobody), NOW), Err(Refused::NotOurs), "its subject is no place");
    }

    #[test]
    fn an_address_is_encrypted_or_near() {
        for (text, origin) in [
            ("https://abc.execute-api.eu-west-1.amazonaws.com/live", "wss://abc.execute-api.eu-west-1.amazonaws.com"),
            ("http://127.0.0.1:8025/live", "ws://127.0.0.1:8025"),
            ("http://localhost:8025", "ws://localhost:8025"),
        ] {
            assert_eq!(PushUrl::of(text).map(|url| url.origin()).as_deref(), Some(origin));
        }
        for none in ["", "abc", "wss://abc.example/live", "http://abc.example/live", "https://abc.example/live?a=b"] {
            assert_eq!(PushUrl::of(none), None, "{none}");
        }
        let url = PushUrl::of("https://abc.example/live").unwrap();
        assert_eq!(url.with("a.b-c_d"), "wss://abc.example/live?ticket=a.b-c_d");
    }
}
