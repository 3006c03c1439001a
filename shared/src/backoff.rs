//! How long a message waits in its queue before it is delivered again.
//!
//! The wait is a message's visibility, never a sleep: a sleeping invocation is paid for and blocks its environment.

use std::time::Duration;

use crate::failure::Wait;

/// No message waits longer: SQS refuses a visibility that ends more than 12 hours after the first receive.
pub const LONGEST_WAIT: Duration = Duration::from_secs(11 * 60 * 60);

/// Exponential back-off with jitter, by receive count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

/// A back-off that would never wait, or whose cap is below its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the back-off's base must be at least 1 ms and at most its cap")]
pub struct InvalidBackoff;

impl Backoff {
    /// The first wait, by default: a second.
    pub const DEFAULT_BASE: Duration = Duration::from_secs(1);
    /// The longest wait, by default: a quarter of an hour.
    pub const DEFAULT_CAP: Duration = Duration::from_secs(900);
    /// From the one to the other.
    pub const DEFAULT: Self = Self { base: Self::DEFAULT_BASE, cap: Self::DEFAULT_CAP };

    /// A back-off from `base` (the first wait) to `cap` (no wait is longer).
    ///
    /// # Errors
    /// When `base` is zero or longer than `cap`.
    pub fn try_new(base: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() || base > cap { Err(InvalidBackoff) } else { Ok(Self { base, cap }) }
    }

    /// The wait before the next delivery after a failure: `min(cap, base * 2^(receive_count - 1))` times a random factor
    /// between 0.5 and 1, or what `wait` says when that is longer; what is due at a time waits just until then. It is rounded
    /// up to a second, because SQS counts in seconds.
    pub fn wait(&self, receive_count: u32, wait: Wait) -> Duration {
        self.wait_with_jitter(receive_count, wait, 0.5 + fastrand::f64() / 2.0)
    }

    /// The shortest and the longest that [`Backoff::wait`] can be after this receive when nothing asks for a longer one.
    pub fn bounds(&self, receive_count: u32) -> (Duration, Duration) {
        (
            self.wait_with_jitter(receive_count, Wait::BackOff, 0.5),
            self.wait_with_jitter(receive_count, Wait::BackOff, 1.0),
        )
    }

    fn wait_with_jitter(&self, receive_count: u32, wait: Wait, jitter: f64) -> Duration {
        let doublings = receive_count.saturating_sub(1).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        let at_least = match wait {
            Wait::BackOff => Duration::ZERO,
            Wait::Asked(asked) => asked.min(self.cap),
            Wait::Claimed(rest) => rest,
            // Nothing has failed, so that it waits no longer.
            Wait::Due(rest) => return in_seconds(rest),
        };
        in_seconds(full.mul_f64(jitter).max(at_least))
    }
}

/// A wait as SQS takes one: in whole seconds, rounded up, and no longer than [`LONGEST_WAIT`].
pub fn in_seconds(wait: Duration) -> Duration {
    Duration::from_secs(whole_seconds(wait.min(LONGEST_WAIT)))
}

/// A wait in seconds for whoever counts in no less: rounded up, so that nobody comes too early.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check(receive_count: u32, jitter: f64, seconds: u64) {
        assert_eq!(
            Backoff::DEFAULT.wait_with_jitter(receive_count, Wait::BackOff, jitter),
            Duration::from_secs(seconds),
            "receive {receive_count} with jitter {jitter}"
        );
    }

    #[test]
    fn the_wait_doubles_with_each_receive_up_to_the_cap() {
        check(1, 1.0, 1);
        check(2, 1.0, 2);
        check(3, 1.0, 4);
        check(5, 1.0, 16);
        check(10, 1.0, 512);
        check(11, 1.0, 900);
        check(u32::MAX, 1.0, 900);
    }

    #[test]
    fn the_jitter_takes_off_at_most_half_and_the_rest_is_rounded_up() {
        check(1, 0.5, 1);
        check(3, 0.5, 2);
        check(3, 0.6, 3);
    }

    #[test]
    fn a_wait_lies_between_its_bounds() {
        assert_eq!(Backoff::DEFAULT.bounds(1), (SECOND, SECOND), "half a second is rounded up");
        assert_eq!(Backoff::DEFAULT.bounds(11), (SECOND * 450, SECOND * 900));
    }

    #[test]
    fn a_receive_count_of_zero_waits_as_the_first_one() {
        check(0, 1.0, 1);
    }

    #[test]
    fn a_wait_in_whole_seconds_never_ends_too_early() {
        let seconds = |nanos| whole_seconds(Duration::from_nanos(nanos));
        assert_eq!((seconds(0), seconds(1), seconds(1_000_000_000), seconds(1_000_000_001)), (0, 1, 1, 2));
    }

    #[test]
    fn a_longer_hint_takes_the_place_of_the_back_off_and_a_shorter_one_does_not() {
        for hint in [Wait::Asked, Wait::Claimed] {
            let wait = |ms| Backoff::DEFAULT.wait_with_jitter(3, hint(Duration::from_millis(ms)), 1.0);
            assert_eq!(wait(30_500), Duration::from_secs(31));
            assert_eq!(wait(100), Duration::from_secs(4));
        }
    }

    #[test]
    fn what_a_service_asks_for_delays_by_no_more_than_the_cap() {
        let wait = |asked| Backoff::DEFAULT.wait(1, Wait::Asked(Duration::from_secs(asked)));
        assert_eq!([899, 900, 86_400, u64::MAX].map(wait), [899, 900, 900, 900].map(Duration::from_secs));
    }

    #[test]
    fn nothing_waits_longer_than_eleven_hours() {
        let longest = Wait::Claimed(Duration::from_secs(u64::MAX));
        assert_eq!(Backoff::DEFAULT.wait(1, longest), Duration::from_secs(39_600));
        assert_eq!(in_seconds(Duration::MAX), Duration::from_secs(39_600));
        assert_eq!(in_seconds(Duration::from_millis(39_599_001)), Duration::from_secs(39_600));
    }

    #[test]
    fn a_base_may_be_its_cap() {
        let constant = Backoff::try_new(SECOND * 2, SECOND * 2).unwrap();
        assert_eq!([1, 9].map(|receives| constant.wait_with_jitter(receives, Wait::BackOff, 1.0)), [SECOND * 2; 2]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Backoff::try_new(Duration::ZERO, SECOND), Err(InvalidBackoff));
        assert_eq!(Backoff::try_new(SECOND * 2, SECOND), Err(InvalidBackoff));
    }
}
