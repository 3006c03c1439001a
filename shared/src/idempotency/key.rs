//! The business identity of an event: what stays the same when a producer, a bus or a queue repeats it.

use std::fmt;

/// Parts joined by `#`. A `#` or `%` inside a part is percent-encoded, so that two identities never share a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// The key of these parts, in this order.
    pub fn of(parts: &[&str]) -> Self {
        let encoded: Vec<String> = parts.iter().map(|part| part.replace('%', "%25").replace('#', "%23")).collect();
        Self(encoded.join("#"))
    }

    /// The key of one step of the work, for a remote call: the same for every repeat of the step.
    pub fn step(&self, step: &str) -> String {
        format!("{}#{step}", self.0)
    }

    /// The key as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_by_a_hash() {
        assert_eq!(Key::of(&["reservation.expired", "rsv_1"]).as_str(), "reservation.expired#rsv_1");
        let key = Key::of(&["payment.failed", "rsv_1", "pi_2"]);
        assert_eq!(key.step("guard"), "payment.failed#rsv_1#pi_2#guard");
        assert_eq!(key.to_string(), key.as_str());
    }

    #[test]
    fn a_hash_inside_a_part_never_makes_two_identities_one() {
        assert_ne!(Key::of(&["t", "a#b", "c"]), Key::of(&["t", "a", "b#c"]));
        assert_ne!(Key::of(&["t", "a#b"]), Key::of(&["t", "a%23b"]));
    }
}
