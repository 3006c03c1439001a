//! Why a record could not be finished, and what its queue has to do about it.
//!
//! Every error of this crate that can end a record turns into a [`Failure`] by an exhaustive match. What nobody
//! classified is transient: a needless retry costs a call, a needless rejection costs a customer.

use std::{borrow::Cow, fmt, time::Duration};

/// The code of a request that a downstream will never accept, whichever downstream it is.
pub const DOWNSTREAM_REJECTED: &str = "downstream_rejected";

/// A record's failure, with what the queue has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The same delivery may succeed later: the message goes back to its queue.
    Transient {
        /// What happened, for people.
        message: String,
        /// How long the next delivery is to wait.
        wait: Wait,
    },
    /// Nothing failed: the event came before its time. Its message waits, however often it was received.
    Early {
        /// What is not due yet, for people.
        message: String,
        /// The time until it is due.
        rest: Duration,
    },
    /// No repeat can succeed: the message goes to the dead-letter queue.
    Permanent {
        /// A stable name, the `error_code` of the dead-lettered message.
        code: &'static str,
        /// What happened and what to do, for people.
        message: String,
    },
}

/// What a transient failure says about the time of the next delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: the queue's own back-off.
    BackOff,
    /// A service asks for at least this much. It is a stranger's word, so it delays by no more than the back-off's cap.
    Asked(Duration),
    /// Another worker has claimed the event, and its lease has this much left. Until then a delivery is for nothing, and
    /// afterwards it tells what that worker did.
    Claimed(Duration),
}

impl Failure {
    /// A transient failure that waits as the queue's own back-off has it.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::Transient { message: message.into(), wait: Wait::BackOff }
    }

    /// A failure that no repeat can mend.
    pub fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self::Permanent { code, message: message.into() }
    }

    /// The same failure, with what led to it in front of its message.
    pub fn after(mut self, what: &str) -> Self {
        match &mut self {
            Self::Transient { message, .. } | Self::Early { message, .. } | Self::Permanent { message, .. } => {
                *message = format!("{what}; {message}");
            }
        }
        self
    }

    /// What happened, for people.
    pub fn message(&self) -> &str {
        match self {
            Self::Transient { message, .. } | Self::Early { message, .. } | Self::Permanent { message, .. } => message,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// The first 200 characters of a downstream's text, on one line: enough to recognise it, too little to flood a log.
pub fn quoted(text: &str) -> Cow<'_, str> {
    const LIMIT: usize = 200;
    if text.len() <= LIMIT && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut short: String =
        text.chars().take(LIMIT).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    Cow::Owned(short)
}

/// An error and its causes, joined by colons: one line tells the whole chain.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some crates repeat their source in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_one_line_of_at_most_200_characters() {
        assert_eq!(quoted("short"), "short");
        assert_eq!(quoted("two\nlines"), "two\u{fffd}lines");
        assert_eq!(quoted(&"é".repeat(300)), "é".repeat(200) + "…");
        assert_eq!(quoted(&"é".repeat(200)), "é".repeat(200));
    }

    #[test]
    fn a_failure_reads_as_its_message() {
        assert_eq!(Failure::transient("the service is down").to_string(), "the service is down");
        assert_eq!(Failure::permanent("code", "it is wrong").to_string(), "it is wrong");
        assert_eq!(
            Failure::transient("it is down").after("nobody answered").to_string(),
            "nobody answered; it is down"
        );
    }
}
