//! Why a record could not be finished, and what its queue has to do about it.
//!
//! Every error of this crate that can end a record turns into a [`Failure`] by an exhaustive match. What nobody
//! classified is transient: a needless retry costs a call, a needless rejection costs a customer.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    panic::AssertUnwindSafe,
    time::Duration,
};

use futures_util::FutureExt;

use crate::name::{Named, names};

names! {
    /// The codes that any client's error may have.
    pub enum ErrorCode {
        /// A request that a downstream will never accept, whichever downstream it is.
        DownstreamRejected = "downstream_rejected",
    }
}

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
        /// How long it waits.
        wait: Wait,
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
    /// It is due when this much time has passed, and not before.
    Due(Duration),
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
    pub fn permanent(code: impl Named, message: impl Into<String>) -> Self {
        Self::Permanent { code: code.name(), message: message.into() }
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

/// Turns a panic of `work` into a failure of its record.
///
/// It is not an `async fn`, which would hold `work` twice: as its argument and as what it waits for.
///
/// # Errors
/// The failure of `work` itself, or its panic.
pub fn isolated<T>(work: impl Future<Output = Result<T, Failure>>) -> impl Future<Output = Result<T, Failure>> {
    let caught = AssertUnwindSafe(work).catch_unwind();
    caught.map(|ended| ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))))
}

/// A panic is a fault of this code, not of the event: it is retried, and ends in the dead-letter queue if it persists.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    Failure::transient(format!("the code panicked on this record: {}", panic_text(panic)))
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
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

/// An error and its causes, joined by colons: one line tells the whole chain. Much of it may be a service's own text, so it
/// is cut after 1,000 characters, and no more of it is ever put together.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = Line { text: String::new(), left: LONGEST_CHAIN };
    // It fails only to say that enough is written.
    let _full = line.write_chain(error);
    if line.left == 0 {
        line.text.push('…');
    }
    line.text
}

/// As much as a dead letter's attribute takes. A refusal of IAM, which names a role, an action and a resource, fits.
const LONGEST_CHAIN: usize = 1_000;

/// A text of a bounded length, without line breaks and other controls.
struct Line {
    text: String,
    left: usize,
}

impl Line {
    fn write_chain(&mut self, error: &dyn std::error::Error) -> fmt::Result {
        write!(self, "{error}")?;
        let mut source = error.source();
        while let Some(cause) = source {
            let mut cause_text = Self { text: String::new(), left: LONGEST_CHAIN };
            let _full = write!(cause_text, "{cause}");
            // Some crates repeat their source in their own text.
            if !self.text.contains(&cause_text.text) {
                write!(self, ": {}", cause_text.text)?;
            }
            source = cause.source();
        }
        Ok(())
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, mem::size_of_val};

    use super::*;

    #[test]
    fn a_quoted_text_is_one_line_of_at_most_200_characters() {
        assert_eq!(quoted("short"), "short");
        assert_eq!(quoted("two\nlines"), "two\u{fffd}lines");
        assert_eq!(quoted(&"é".repeat(300)), "é".repeat(200) + "…");
        assert_eq!(quoted(&"é".repeat(200)), "é".repeat(200));
    }

    #[test]
    fn a_chain_of_causes_is_one_bounded_line_that_says_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Caused {
            text: String,
            source: Option<Box<Caused>>,
        }
        let caused = |text: String, source: Option<Caused>| Caused { text, source: source.map(Box::new) };
        let inner = caused("a\nb".into(), None);
        assert_eq!(chain(&caused("outer".into(), Some(inner))), "outer: a\u{fffd}b");
        let inner = caused("inner".into(), None);
        assert_eq!(chain(&caused("outer: inner".into(), Some(inner))), "outer: inner");
        let long = caused("outer".into(), Some(caused("é".repeat(3_000_000), None)));
        assert_eq!(chain(&long), format!("outer: {}…", "é".repeat(993)));
        assert_eq!(chain(&caused("é".repeat(1_000), None)), "é".repeat(1_000) + "…");
    }

    #[test]
    fn a_failure_reads_as_its_message() {
        assert_eq!(Failure::transient("the service is down").to_string(), "the service is down");
        assert_eq!(Failure::permanent(ErrorCode::DownstreamRejected, "it is wrong").to_string(), "it is wrong");
        assert_eq!(
            Failure::transient("it is down").after("nobody answered").to_string(),
            "nobody answered; it is down"
        );
    }

    #[test]
    fn isolated_work_is_held_once() {
        let work = || async {
            let held = [1_u8; 4_096];
            ready(()).await;
            Ok(held.len())
        };
        let (bare, isolated) = (size_of_val(&work()), size_of_val(&isolated(work())));
        assert!(bare >= 4_096 && isolated < bare + 64, "{bare} bytes of work take {isolated}");
    }
}
