//! When an invocation ends, and what that leaves time for.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The end of an invocation, on the clock of the world (which leases are compared on) and on our own.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    instant: Instant,
    epoch_ms: u64,
}

impl Deadline {
    /// The deadline that the Runtime API states, in milliseconds since the epoch.
    ///
    /// `cargo lambda watch` states the time left instead of a moment, 600,000 for ten minutes. No clock of today is that
    /// near to the epoch, so such a value is read as what it means.
    pub fn stated(milliseconds: u64) -> Self {
        const YEAR_2001: u64 = 1_000_000_000_000;
        let start = if milliseconds < YEAR_2001 { SystemTime::now() } else { UNIX_EPOCH };
        Self::at(start + Duration::from_millis(milliseconds))
    }

    /// The deadline at a moment.
    pub fn at(time: SystemTime) -> Self {
        let remaining = time.duration_since(SystemTime::now()).unwrap_or_default();
        Self { instant: Instant::now() + remaining, epoch_ms: epoch_ms(time) }
    }

    /// The deadline of what must end so much before this one.
    pub fn earlier_by(self, time: Duration) -> Self {
        let instant = self.instant.checked_sub(time).unwrap_or_else(Instant::now);
        Self { instant, epoch_ms: self.epoch_ms.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)) }
    }

    /// The time left.
    pub fn remaining(&self) -> Duration {
        self.instant.saturating_duration_since(Instant::now())
    }

    /// The time left for what comes after the records, so that the answer still gets to Lambda, or the call for more work that
    /// follows it.
    pub(crate) fn spare(&self) -> Duration {
        const ANSWER: Duration = Duration::from_millis(200);
        self.remaining().saturating_sub(ANSWER)
    }

    /// The deadline in milliseconds since the epoch.
    pub fn epoch_ms(&self) -> u64 {
        self.epoch_ms
    }
}

/// Milliseconds since the epoch.
pub fn epoch_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the epoch, as people and programs write a moment (RFC 3339).
pub fn moment(epoch_ms: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(epoch_ms) * 1_000_000);
    moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

/// Reads what [`moment`] writes, in any offset from UTC. Nothing: it is no moment, or one before the epoch.
pub fn moment_of(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_is_written() {
        let written = moment(1_795_166_091_123);
        assert_eq!((written.as_str(), moment_of(&written)), ("2026-11-20T09:14:51.123Z", Some(1_795_166_091_123)));
        assert_eq!(moment_of("2026-11-20T10:14:51.123+01:00"), Some(1_795_166_091_123));
        for none in ["", "2026-11-20", "2026-11-20T09:14:51", "1795166091", "1969-12-31T23:59:59Z"] {
            assert_eq!(moment_of(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_must_end_earlier_has_an_earlier_deadline_on_both_clocks() {
        let deadline = Deadline::at(SystemTime::now() + Duration::from_secs(60));
        let earlier = deadline.earlier_by(Duration::from_secs(10));
        assert_eq!(deadline.epoch_ms() - earlier.epoch_ms(), 10_000);
        assert!((48..=50).contains(&earlier.remaining().as_secs()), "{:?}", earlier.remaining());
        assert_eq!(deadline.earlier_by(Duration::from_secs(61)).remaining(), Duration::ZERO);
    }

    #[test]
    fn a_deadline_that_is_no_moment_of_today_is_the_time_left() {
        let in_a_minute = epoch_ms(SystemTime::now() + Duration::from_secs(60));
        for (stated, seconds) in [(in_a_minute, 60), (600_000, 600)] {
            let remaining = Deadline::stated(stated).remaining().as_secs();
            assert!((seconds - 2..=seconds).contains(&remaining), "{stated}: {remaining} s");
        }
        assert_eq!(Deadline::at(SystemTime::now() - Duration::from_secs(1)).remaining(), Duration::ZERO);
        let year_2001 = 1_000_000_000_000;
        assert_eq!(Deadline::stated(year_2001).remaining(), Duration::ZERO, "a moment, which has passed");
    }
}
