//! What somebody in a line has before him: how many people, for how long, and when it makes sense to ask again.
//!
//! A wait is told in steps, rounded up, and only where something is known. Otherwise it is told why not.

use std::time::Duration;

use super::{Moment, line::Line, ms, plan::MOST_CALLS};
use crate::name::names;

/// The waits that are told, in minutes. A longer one is a number of hours.
const STEPS: [u64; 7] = [1, 2, 5, 10, 15, 30, 60];

/// Nobody is to ask again sooner or later than this.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(120));

/// Nobody is to ask later than this where he may be called at any moment.
const SOON: Duration = Duration::from_secs(30);

/// After a draw so many people ask for their positions in a second,
const ASKED_EACH_SECOND: u64 = 5_000;

/// but nobody waits longer than this for his.
const LONGEST_RUSH: Duration = Duration::from_secs(60);

/// When somebody whose turn it is asks again.
pub const IN_TURN: Duration = Duration::from_secs(5);

names! {
    /// What a line is, as everybody may know it.
    pub enum Stage {
        /// People join, and nobody is called yet.
        Announced = "announced",
        /// People are called.
        Open = "open",
        /// Nobody is called, because all tickets are sold or in others' hands.
        AllTaken = "all_taken",
        /// It stands still.
        Paused = "paused",
        /// All tickets are sold.
        SoldOut = "sold_out",
        /// Nobody joins any more, and nobody is called.
        Closed = "closed",
    }
}

impl Stage {
    /// What a line is at a moment.
    pub fn of(line: &Line, now: Moment) -> Self {
        match line {
            _ if !line.is_open_for_joining(now) => Self::Closed,
            _ if line.sold_out_at.is_some() => Self::SoldOut,
            _ if line.settings.paused => Self::Paused,
            _ if now < line.settings.opens_at => Self::Announced,
            _ if line.free() == 0 => Self::AllTaken,
            _ => Self::Open,
        }
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Announced => "the sale has not begun yet",
            Self::Open => "the sale is on",
            Self::AllTaken => "all tickets are sold or in others' hands, and some may come back",
            Self::Paused => "the line stands still, and every place is kept",
            Self::SoldOut => "all tickets are sold; if some come back, the line goes on",
            Self::Closed => "the sale is over",
        }
    }
}

/// What somebody who waits has before him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// What his line is.
    pub stage: Stage,
    /// The people before him whose turn has not come.
    pub ahead: u64,
    /// How long it takes, in steps; nothing, where that is not known.
    pub wait: Option<Duration>,
    /// Whether there are fewer tickets than people before him.
    pub is_short: bool,
    /// When to ask again; zero: nothing changes any more.
    pub ask_after: Duration,
}

impl Outlook {
    /// What somebody has before him, behind so many people.
    pub fn behind(line: &Line, ahead: u64, now: Moment) -> Self {
        let stage = Stage::of(line, now);
        let left = u64::from(line.settings.tickets.saturating_sub(line.sold));
        let wait = expected(line, stage, ahead, now);
        Self {
            stage,
            ahead,
            wait: wait.map(in_steps),
            is_short: ahead >= left,
            ask_after: ask(line, stage, ahead, wait, now),
        }
    }

    /// What somebody has before him who joins now.
    pub fn at_the_end(line: &Line, now: Moment) -> Self {
        Self::behind(line, line.waiting(), now)
    }

    /// For people: what the line is, and what may be hoped for.
    pub fn text(&self) -> String {
        let hope = match self.stage {
            Stage::Announced | Stage::Open | Stage::AllTaken | Stage::Paused if self.is_short => {
                "; there are fewer tickets than people before you"
            }
            Stage::Open if self.wait.is_none() => "; how long it takes is not known yet",
            Stage::Announced if self.wait.is_none() => "; how long it takes then is not known yet",
            Stage::Announced | Stage::Open | Stage::AllTaken | Stage::Paused | Stage::SoldOut | Stage::Closed => "",
        };
        format!("{}{hope}", self.stage.text())
    }
}

/// When somebody asks again who has joined and has no position yet.
pub fn until_placed(line: &Line, now: Moment) -> Duration {
    line.held_back(now) + Duration::from_secs(1)
}

/// When somebody asks again who waits for a draw: soon after it, but not all at the same moment. `share` says when of that time
/// he does, from 0 to 1.
pub fn until_drawn(line: &Line, now: Moment, share: f64) -> Duration {
    let asking = Duration::from_secs(line.joined / ASKED_EACH_SECOND).min(LONGEST_RUSH);
    (until_opening(line, now) + until_placed(line, now) + asking.mul_f64(share)).min(ASK_AGAIN.1)
}

fn expected(line: &Line, stage: Stage, ahead: u64, now: Moment) -> Option<Duration> {
    match stage {
        Stage::Open | Stage::AllTaken => {
            #[expect(clippy::cast_precision_loss, reason = "a wait is rounded to minutes")]
            let seconds = ahead as f64 / line.rate()?;
            Duration::try_from_secs_f64(seconds).ok()
        }
        // Everybody before him takes as much as he may, and he is called in the first seconds all the same.
        Stage::Announced if (ahead + 1) * u64::from(line.settings.seats_max) <= u64::from(line.settings.tickets) => {
            Some(until_opening(line, now))
        }
        Stage::Announced | Stage::Paused | Stage::SoldOut | Stage::Closed => None,
    }
}

/// The wait is looked at ten times; where it is not known, as though people were called as fast as they can be.
fn ask(line: &Line, stage: Stage, ahead: u64, wait: Option<Duration>, now: Moment) -> Duration {
    let (soonest, latest) = ASK_AGAIN;
    let at_best = Duration::from_secs(ahead / MOST_CALLS);
    match stage {
        Stage::Closed => Duration::ZERO,
        // A ticket that comes back goes to the first in line, within the time of a call.
        Stage::SoldOut => at_best.clamp(SOON, latest),
        Stage::Paused => SOON,
        Stage::Announced => ((until_opening(line, now) + at_best) / 10).clamp(soonest, latest),
        Stage::Open | Stage::AllTaken => {
            let nearly_gone = line.rate().is_some_and(|rate| f64::from(line.free()) < 2.0 * 60.0 * rate);
            let latest = if nearly_gone || wait.is_none() { SOON } else { latest };
            (wait.unwrap_or(at_best) / 10).clamp(soonest, latest)
        }
    }
}

fn until_opening(line: &Line, now: Moment) -> Duration {
    Duration::from_millis(line.settings.opens_at.saturating_sub(now))
}

/// The shortest step that is not shorter.
fn in_steps(wait: Duration) -> Duration {
    let minutes = ms(wait).div_ceil(60_000);
    let step = STEPS.into_iter().find(|step| minutes <= *step);
    Duration::from_secs(60 * step.unwrap_or_else(|| minutes.div_ceil(60) * 60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        name::Named,
        waiting_room::line::{Sample, Settings},
    };

    const MINUTE: u64 = 60_000;

    /// A line of 100 tickets, which opens after 10 minutes and closes after an hour.
    fn line() -> Line {
        let line = Line::example();
        let settings =
            Settings { tickets: 100, opens_at: 10 * MINUTE, closes_at: 60 * MINUTE, ..line.settings.clone() };
        Line { settings, ..line }
    }

    /// The same in its eleventh minute, in which two places a second were called.
    fn moving() -> Line {
        let samples = vec![Sample { at: 10 * MINUTE, serving: 0 }, Sample { at: 11 * MINUTE, serving: 120 }];
        Line { joined: 100_000, serving: 120, samples, ..line() }
    }

    #[test]
    fn a_line_is_one_thing_at_a_time() {
        let paused = Settings { paused: true, ..line().settings };
        let stage = |line: &Line, minute: u64| Stage::of(line, minute * MINUTE).name();
        assert_eq!(stage(&line(), 9), "announced");
        assert_eq!(stage(&line(), 10), "open");
        assert_eq!(stage(&Line { taken: 100, sold: 99, ..line() }, 10), "all_taken");
        assert_eq!(stage(&Line { settings: paused, ..line() }, 10), "paused");
        assert_eq!(stage(&Line { sold_out_at: Some(1), ..line() }, 10), "sold_out");
        assert_eq!(stage(&Line { sold_out_at: Some(1), ..line() }, 60), "closed");
    }

    #[test]
    fn who_waits_for_a_draw_asks_when_it_is_over_and_not_all_at_once() {
        let drawn = |joined| Line { joined, settings: Settings { draws: true, ..line().settings }, ..line() };
        let ask = |joined, seconds: u64, share| until_drawn(&drawn(joined), seconds * 1_000, share).as_secs();
        assert_eq!([ask(100, 540, 0.0), ask(100, 540, 1.0)], [63, 63], "a minute, and the time of placing");
        assert_eq!([ask(100_000, 540, 0.0), ask(100_000, 540, 0.5), ask(100_000, 540, 1.0)], [63, 73, 83]);
        assert_eq!([ask(10_000_000, 600, 1.0), ask(10_000_000, 0, 1.0)], [63, 120], "within bounds");
    }

    #[test]
    fn a_wait_is_told_in_steps_that_are_never_shorter() {
        for (seconds, minutes) in
            [(0, 1), (60, 1), (61, 2), (121, 5), (600, 10), (601, 15), (1_801, 60), (3_600, 60), (3_601, 120)]
        {
            assert_eq!(in_steps(Duration::from_secs(seconds)), Duration::from_secs(minutes * 60), "{seconds} s");
        }
    }

    #[test]
    fn a_wait_follows_from_the_speed_of_the_last_minute() {
        let outlook = |ahead| Outlook::behind(&moving(), ahead, 11 * MINUTE);
        let wait = |ahead| outlook(ahead).wait.map(|wait| wait.as_secs() / 60);
        assert_eq!([wait(0), wait(240), wait(1_200), wait(12_000)], [Some(1), Some(2), Some(10), Some(120)]);
        let unknown = Outlook::behind(&Line { samples: Vec::new(), ..moving() }, 5, 11 * MINUTE);
        assert_eq!(unknown.wait, None);
        assert!(unknown.text().contains("how long it takes is not known yet"), "{}", unknown.text());
    }

    #[test]
    fn before_the_opening_only_who_surely_gets_tickets_is_told_how_long_it_takes() {
        let outlook = |ahead| Outlook::behind(&line(), ahead, 4 * MINUTE);
        assert_eq!(outlook(24).wait, Some(Duration::from_secs(600)), "six minutes, in steps");
        assert_eq!(outlook(25).wait, None);
    }

    #[test]
    fn who_has_more_people_before_him_than_there_are_tickets_is_told_so() {
        let short = |sold, ahead| {
            let outlook = Outlook::behind(&Line { sold, ..moving() }, ahead, 11 * MINUTE);
            (outlook.is_short, outlook.text().contains("fewer tickets"))
        };
        assert_eq!([short(0, 99), short(0, 100), short(40, 60)], [(false, false), (true, true), (true, true)]);
    }

    #[test]
    fn everybody_asks_ten_times_on_his_way_within_bounds() {
        let many = Line { settings: Settings { tickets: 10_000, ..line().settings }, ..moving() };
        let ask = |line: &Line, ahead| Outlook::behind(line, ahead, 11 * MINUTE).ask_after.as_secs();
        assert_eq!([ask(&many, 0), ask(&many, 240), ask(&many, 2_000), ask(&many, 90_000)], [2, 12, 100, 120]);
        assert_eq!(ask(&moving(), 90_000), 30, "the last tickets go within two minutes");
        let still = Line { samples: Vec::new(), ..many.clone() };
        assert_eq!(
            [ask(&still, 10), ask(&still, 50_000), ask(&still, 99_999)],
            [2, 20, 30],
            "they may come at any time"
        );
        let paused = Line { settings: Settings { paused: true, ..many.settings.clone() }, ..many.clone() };
        assert_eq!(ask(&paused, 10), 30);
        let sold_out = Line { sold_out_at: Some(1), ..many.clone() };
        assert_eq!([ask(&sold_out, 10), ask(&sold_out, 50_000)], [30, 120]);
        assert_eq!(Outlook::behind(&many, 10, 60 * MINUTE).ask_after, Duration::ZERO, "nothing changes any more");
        assert_eq!(Outlook::behind(&many, 10, 9 * MINUTE).ask_after.as_secs(), 6, "a minute is left until it opens");
    }
}
