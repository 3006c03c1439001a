//! Which letters a person means.

use crate::Letter;

/// What to do in place of a redrive, for the codes of messages that come back the same as long as only they are sent back.
pub fn why_not_back(code: &str) -> Option<&'static str> {
    match code {
        "malformed_body" | "invalid_field" => Some("repair the producer, and have it send the event anew"),
        "unknown_type" => Some("repair the rule that routes it to this function, and have the event sent anew"),
        "payload_changed" => {
            Some("find out which of the two events is right; the record of the other one stands in its way")
        }
        "not_owner" => Some("only its guest can give a booking up; if it is right, he sends it himself"),
        "ambiguous_user" => Some("have the event sent anew with an identifier that only this user has"),
        "inventory_conflict" => Some("look at the reservation and its seats; refund or reseat"),
        _ => None,
    }
}

/// Values of one kind are alternatives; different kinds must all hold. Without any value it takes every letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Reason codes.
    pub codes: Vec<String>,
    /// Message ids, in the dead-letter queue or in the queue before it.
    pub messages: Vec<String>,
    /// Ids of reservations, bookings or places.
    pub about: Vec<String>,
}

impl Choice {
    /// Whether nothing was chosen, so that every letter is taken.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.messages.is_empty() && self.about.is_empty()
    }

    /// Whether the letter is meant.
    pub fn takes(&self, letter: &Letter) -> bool {
        self.kinds().iter().all(|(_, values, fits)| values.is_empty() || values.iter().any(|value| fits(letter, value)))
    }

    /// The options whose value took no letter, such as `--message ID`: most likely a slip of the hand.
    pub fn unanswered(&self, letters: &[Letter]) -> Vec<String> {
        let taken: Vec<&Letter> = letters.iter().filter(|letter| self.takes(letter)).collect();
        let mut options = Vec::new();
        for (option, values, fits) in self.kinds() {
            let lonely = values.iter().filter(|value| !taken.iter().any(|letter| fits(letter, value)));
            options.extend(lonely.map(|value| format!("{option} {value}")));
        }
        options
    }

    fn kinds(&self) -> [Kind<'_>; 3] {
        [
            ("--code", &self.codes, |letter, code| letter.code == code),
            ("--message", &self.messages, Letter::is_called),
            ("--about", &self.about, |letter, id| letter.about.as_deref() == Some(id)),
        ]
    }
}

/// An option, its values, and whether a letter fits one of them.
type Kind<'a> = (&'static str, &'a [String], fn(&Letter, &str) -> bool);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::tests::{dead_lettered, text};

    fn letters() -> [Letter; 3] {
        let letter = |id: &str, code: &str, reservation: &str| {
            let body = serde_json::json!({"detail": {"reservation_id": reservation}}).to_string();
            let attributes = dead_lettered(code, &format!("{id}-before"));
            Letter::read(text(id, &body, &attributes, &[])).unwrap()
        };
        [letter("m-1", "x", "rsv_1"), letter("m-2", "x", "rsv_2"), letter("m-3", "y", "rsv_1")]
    }

    #[track_caller]
    fn check(codes: &[&str], messages: &[&str], about: &[&str], taken: &[&str], unanswered: &[&str]) {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let choice = Choice { codes: owned(codes), messages: owned(messages), about: owned(about) };
        let letters = letters();
        let ids: Vec<&str> =
            letters.iter().filter(|letter| choice.takes(letter)).map(|letter| letter.id.as_str()).collect();
        assert_eq!(ids, taken);
        assert_eq!(choice.unanswered(&letters), unanswered);
    }

    #[test]
    fn values_of_one_kind_are_alternatives_and_different_kinds_must_all_hold() {
        check(&[], &[], &[], &["m-1", "m-2", "m-3"], &[]);
        check(&["x"], &[], &[], &["m-1", "m-2"], &[]);
        check(&["x", "y"], &[], &["rsv_1"], &["m-1", "m-3"], &[]);
        check(&["x"], &["m-1", "m-3"], &[], &["m-1"], &["--message m-3"]);
    }

    #[test]
    fn a_message_is_known_by_its_id_here_and_by_the_one_it_had_before() {
        check(&[], &["m-2", "m-3-before"], &[], &["m-2", "m-3"], &[]);
    }

    #[test]
    fn a_value_that_no_letter_answers_to_is_named() {
        let unanswered = ["--code z", "--message m-9", "--about rsv_9"];
        check(&["z"], &["m-9"], &["rsv_9"], &[], &unanswered);
    }
}
