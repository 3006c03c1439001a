//! The days of a stay. Their dates are those that were written, in their own offsets: a guest who arrives on the 12th by his
//! hotel's clock arrives on the 12th, whatever day it is in UTC.

use std::fmt;

use serde_json::Value;
use time::{Date, Month, OffsetDateTime, format_description::well_known::Rfc3339};

/// A day as it was written, and the moment, where the time of day was written too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The day, in its own offset.
    pub date: Date,
    /// The moment.
    pub at: Option<OffsetDateTime>,
}

/// A stay of at least one night, or of a part of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// Its first day.
    pub start_date: Date,
    /// The day on which the room is free again. A stay that ends on its first day takes all of that day, because nobody else
    /// can have a part of it.
    pub end_date: Date,
    /// When it begins, where that was written.
    pub starts_at: Option<OffsetDateTime>,
    /// When it ends, where that was written.
    pub ends_at: Option<OffsetDateTime>,
}

/// A stay that can't be. The text fits after the name of its last day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoStay;

impl fmt::Display for NoStay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be after the start, and before the end of the year 9999")
    }
}

/// Reads a day: `YYYY-MM-DD`, or a moment in RFC 3339.
///
/// # Errors
/// The rule that the value breaks.
pub fn written(value: &Value) -> Result<Written, &'static str> {
    let day = value.as_str().and_then(|text| {
        let moment = || OffsetDateTime::parse(text, &Rfc3339).ok();
        let day = date(text).map(|date| Written { date, at: None });
        day.or_else(|| moment().map(|at| Written { date: at.date(), at: Some(at) }))
    });
    let day = day.filter(|day| (1..=9999).contains(&day.date.year()));
    day.ok_or("must be a date as YYYY-MM-DD, or a time with its zone in RFC 3339, of the years 1 to 9999")
}

fn date(text: &str) -> Option<Date> {
    let number = |part: &str, digits| {
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse::<u16>().ok()).flatten()
    };
    let mut parts = text.splitn(3, '-');
    let year = number(parts.next()?, 4)?;
    let month = Month::try_from(u8::try_from(number(parts.next()?, 2)?).ok()?).ok()?;
    let day = u8::try_from(number(parts.next()?, 2)?).ok()?;
    Date::from_calendar_date(year.into(), month, day).ok()
}

impl Stay {
    /// The stay from one written day to another.
    ///
    /// # Errors
    /// When it would end before it begins, or take no time.
    pub fn new(start: Written, end: Written) -> Result<Self, NoStay> {
        let ends_first = matches!((start.at, end.at), (Some(start), Some(end)) if end <= start);
        let takes_a_part_of_a_day = match (start.at, end.at) {
            (Some(start), Some(end)) => end > start,
            // A day without a time of it begins with the day.
            (None, Some(end)) => end.time() > time::Time::MIDNIGHT,
            (Some(_) | None, None) => false,
        };
        let end_date = match end.date.cmp(&start.date) {
            std::cmp::Ordering::Greater if !ends_first => end.date,
            std::cmp::Ordering::Equal if takes_a_part_of_a_day => end.date.next_day().ok_or(NoStay)?,
            std::cmp::Ordering::Greater | std::cmp::Ordering::Equal | std::cmp::Ordering::Less => return Err(NoStay),
        };
        Ok(Self { start_date: start.date, end_date, starts_at: start.at, ends_at: end.at })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(start: &str, end: &str, expected: Option<(&str, &str)>) {
        let day = |text: &str| written(&json!(text)).unwrap();
        let stay = Stay::new(day(start), day(end)).ok();
        let dates = stay.map(|stay| (stay.start_date.to_string(), stay.end_date.to_string()));
        let expected = expected.map(|(start, end)| (start.to_owned(), end.to_owned()));
        assert_eq!(dates, expected, "{start} to {end}");
    }

    #[test]
    fn the_dates_are_those_that_were_written() {
        check("2026-06-10", "2026-06-12", Some(("2026-06-10", "2026-06-12")));
        check("2026-06-10T23:30:00-10:00", "2026-06-12T00:30:00+14:00", Some(("2026-06-10", "2026-06-12")));
        check("2026-06-10T15:00:00Z", "2026-06-12", Some(("2026-06-10", "2026-06-12")));
        check("0001-01-01", "9999-12-31", Some(("0001-01-01", "9999-12-31")));
    }

    #[test]
    fn a_stay_within_a_day_takes_that_day() {
        check("2026-06-10T09:00:00Z", "2026-06-10T17:00:00Z", Some(("2026-06-10", "2026-06-11")));
        check("2026-06-10", "2026-06-10T17:00:00+02:00", Some(("2026-06-10", "2026-06-11")));
        check("2026-12-31T09:00:00Z", "2026-12-31T17:00:00Z", Some(("2026-12-31", "2027-01-01")));
        check("9999-12-31T09:00:00Z", "9999-12-31T17:00:00Z", None);
    }

    #[test]
    fn a_stay_without_time_or_against_it_is_none() {
        check("2026-06-10", "2026-06-10", None);
        check("2026-06-10", "2026-06-09", None);
        check("2026-06-10T09:00:00Z", "2026-06-10T09:00:00Z", None);
        check("2026-06-10T09:00:00Z", "2026-06-10T08:00:00Z", None);
        check("2026-06-10T09:00:00Z", "2026-06-10", None);
        check("2026-06-10", "2026-06-10T00:00:00Z", None);
        check("2026-06-10T23:00:00-11:00", "2026-06-11T00:30:00+14:00", None);
    }

    #[test]
    fn what_is_no_day_of_the_calendar_is_refused() {
        for text in [
            "2026-06-10T10:00:00",
            "2026-02-30",
            "24 February 30",
            "0000-01-01",
            "10000-01-01",
            "2026-6-1",
            "2026-13-01",
            "",
            "2026-06-10 ",
            "20260610",
            "+026-06-10",
            "2026-06-1٣",
            "2026-06-10T25:00:00Z",
            "-001-01-01",
        ] {
            assert!(written(&json!(text)).is_err(), "{text}");
        }
        for value in [json!(20_260_610), json!(null), json!(["2026-06-10"])] {
            assert!(written(&value).is_err(), "{value}");
        }
        assert!(written(&json!("2024-02-29")).is_ok(), "a leap day");
    }
}
