//! What of a producer's baggage goes into a log: the members that the configuration names. Their values are a stranger's, and
//! any other may name a person.
//! <https://www.w3.org/TR/baggage/>

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::trace::foreign_id;
use crate::config::Reader;

/// As many members as the W3C asks everybody to carry.
const MOST_MEMBERS: usize = 64;

/// The longest value that is logged, in characters.
const LONGEST_VALUE: usize = 128;

/// The member that carries a trace, for producers that know no `traceparent`.
const TRACE: &str = "trace-id";

/// The members that are logged, by default.
const KEYS: &str = "trace-id,span-id";

/// Which members are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedKeys(Vec<String>);

impl LoggedKeys {
    /// The keys that `BAGGAGE_LOG_KEYS` names, separated by commas.
    pub fn configured(reader: &mut Reader<'_>) -> Self {
        let keys = reader.optional("BAGGAGE_LOG_KEYS").unwrap_or_else(|| KEYS.to_owned());
        Self(keys.split(',').map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).collect())
    }

    /// The members that are logged, as `key=value` with commas between them; nothing where there are none.
    pub fn of(&self, baggage: &str) -> Option<String> {
        let kept = members(baggage).filter(|(key, _)| self.0.iter().any(|wanted| wanted == key));
        let kept: Vec<String> = kept.map(|(key, value)| format!("{key}={value}")).collect();
        (!kept.is_empty()).then(|| kept.join(","))
    }

    /// The trace that the baggage names, if that member is logged.
    pub fn trace_id(&self, baggage: &str) -> Option<String> {
        let is_logged = self.0.iter().any(|key| key == TRACE);
        let mut members = members(baggage);
        is_logged
            .then(|| members.find(|(key, _)| *key == TRACE))
            .flatten()
            .and_then(|(_, value)| foreign_id(value.into_owned()))
    }
}

/// The members of a baggage. One that breaks the grammar is left out alone.
fn members(baggage: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    baggage.split(',').take(MOST_MEMBERS).filter_map(member)
}

fn member(text: &str) -> Option<(&str, Cow<'_, str>)> {
    const NOT_IN_A_KEY: &[u8] = b"\"(),/:;<=>?@[\\]{}";
    let (key, rest) = text.split_once('=')?;
    // What follows a semicolon are properties of the member.
    let (key, value) = (key.trim(), rest.split(';').next()?.trim());
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic() && !NOT_IN_A_KEY.contains(&byte));
    let value = percent_decode_str(value).decode_utf8().ok()?;
    let is_value = value.chars().nth(LONGEST_VALUE).is_none() && !value.contains(char::is_control);
    (is_key && is_value).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> LoggedKeys {
        LoggedKeys(text.split(',').map(str::to_owned).collect())
    }

    #[test]
    fn only_what_is_named_is_logged() {
        let baggage = "trace-id=abc123,user=jane%40example.com , span-id = def456;ttl=1";
        assert_eq!(keys(KEYS).of(baggage).as_deref(), Some("trace-id=abc123,span-id=def456"));
        assert_eq!(keys("user").of(baggage).as_deref(), Some("user=jane@example.com"));
        assert_eq!(keys("other").of(baggage), None);
        assert_eq!(keys(KEYS).of(""), None);
    }

    #[test]
    fn a_bad_member_is_left_out_alone() {
        let baggage = "trace-id=a%00b,no member,=x,(bad)=1,trace-id=good,span-id=%ff";
        assert_eq!(keys(KEYS).of(baggage).as_deref(), Some("trace-id=good"));
        let long = format!("trace-id={},span-id=s", "x".repeat(129));
        assert_eq!(keys(KEYS).of(&long).as_deref(), Some("span-id=s"));
        let many = format!("{}trace-id=late", "x=1,".repeat(64));
        assert_eq!(keys(KEYS).of(&many), None);
    }

    #[test]
    fn a_trace_is_found_where_its_member_is_logged_and_it_is_no_number_of_a_card() {
        assert_eq!(keys(KEYS).trace_id("span-id=x,trace-id=abc123").as_deref(), Some("abc123"));
        assert_eq!(keys("span-id").trace_id("trace-id=abc123"), None);
        assert_eq!(keys(KEYS).trace_id("trace-id=4111111111111111"), None);
        assert_eq!(keys(KEYS).trace_id("trace-id=a b"), None);
    }
}
