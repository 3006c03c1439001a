//! A line: one sale that people wait for, what its operator says of it, and how far it is.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Moment, draw::Draw, ms, sequence::RunName};

/// How long a line's records are kept after it closes.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long the placement's worst lag is remembered.
const LAG_SPAN: Duration = Duration::from_secs(10);

/// The least time between somebody's arrival and his place, and the longest that others wait for him.
const HELD_BACK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

/// How often a sample is taken of how far the line is, and how many are kept.
const SAMPLE: (Duration, usize) = (Duration::from_secs(10), 7);

/// How long each part of a turn may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// From the call to the claim.
    pub call_window: Duration,
    /// From the claim to the reservation.
    pub booking_window: Duration,
    /// From a reservation's end until its seats are surely given back.
    pub release_grace: Duration,
    /// Somebody who was not heard of for this long is not called.
    pub silence: Duration,
}

impl Terms {
    /// A minute, five minutes, five seconds, a quarter of an hour.
    pub const DEFAULT: Self = Self {
        call_window: Duration::from_secs(60),
        booking_window: Duration::from_secs(300),
        release_grace: Duration::from_secs(5),
        silence: Duration::from_secs(900),
    };

    /// The times to claim that there can be. Who is next asks each 2 s; a ticket that nobody claims for an hour is no sale.
    pub const CALL_WINDOWS: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(3_600);

    /// The times to reserve that there can be: the creation of a reservation takes up to 10 s, and its token is good for so
    /// long.
    pub const BOOKING_WINDOWS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3_600);

    /// The graces that there can be. An event that frees seats waits for a quarter of an hour between two tries at most.
    pub const RELEASE_GRACES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(900);

    /// The silences that there can be. A page asks each 156 s at least, and what it asked is noted a third of this time later
    /// at most, so that somebody who waits would else be taken for one who left. After a day nobody waits any more.
    pub const SILENCES: RangeInclusive<Duration> = Duration::from_secs(240)..=Duration::from_secs(86_400);
}

/// Which line is meant: a show has one line, and a new one after it is another generation with places of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The show that the tickets are for: `event_id` on the wire.
    #[serde(rename = "event_id")]
    pub show_id: String,
    /// Which of the show's lines.
    pub generation: u32,
    /// The key that the names of its places are made with.
    pub key_version: u8,
}

/// What an operator says of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The tickets that it gives out; they can't be had without it.
    pub tickets: u32,
    /// The tickets that one place may take.
    pub seats_max: u8,
    /// The most places that have their turn at a time; where it is absent, only the tickets are a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_inside: Option<u32>,
    /// When the first is called.
    pub opens_at: Moment,
    /// When the sale ends: nobody joins any more, and nobody is called who could not finish.
    pub closes_at: Moment,
    /// Whether it stands still: nobody is called, and no call runs out.
    #[serde(default)]
    pub paused: bool,
    /// Whether those who came before the opening stand in an order that is drawn then, and not in that of their arrival.
    #[serde(default)]
    pub draws: bool,
}

/// Settings that a line can't have. The text fits after a field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// One ticket for each place at least.
    #[error("must be at least 1")]
    NoSeats,
    /// It closes before it opens.
    #[error("must be later than opens_at")]
    ClosesBeforeItOpens,
    /// So many tickets are taken or sold.
    #[error("must be at least {0}, because so many are sold or in customers' hands")]
    Taken(u32),
    /// Places are told, or drawn, and would change.
    #[error("can't be changed once the line has opened, because places would change")]
    Drawn,
}

impl SettingsError {
    /// The setting that is at fault.
    pub fn field(self) -> &'static str {
        match self {
            Self::NoSeats => "seats_max",
            Self::ClosesBeforeItOpens => "closes_at",
            Self::Taken(_) => "tickets",
            Self::Drawn => "draw",
        }
    }
}

/// How far the line was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The moment.
    pub at: Moment,
    /// The number of places whose turn had come.
    pub serving: u64,
}

/// How long after their arrival people came to their line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// When it was seen.
    pub at: Moment,
    /// The worst, in milliseconds.
    pub worst: u64,
}

/// A line. Whoever writes it raises its version, on the condition that it is the one that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which one.
    #[serde(flatten)]
    pub scope: Scope,
    /// What its operator says.
    #[serde(flatten)]
    pub settings: Settings,
    /// One more with each write.
    pub version: u64,
    /// The number of places: they are 1 to this.
    pub joined: u64,
    /// The number of places whose turn has come: 1 to this. It never falls.
    pub serving: u64,
    /// Somebody who arrived before this and has no place yet is late.
    pub cut: Moment,
    /// The last run, whose blocks may still lie there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunName>,
    /// The pages before this one are settled and are not read any more.
    pub folded: u64,
    /// The tickets sold in those pages.
    pub folded_sold: u32,
    /// The tickets sold, as of the last tick.
    pub sold: u32,
    /// The tickets sold or in customers' hands, as of the last tick.
    pub taken: u32,
    /// The places whose turn is going on, as of the last tick.
    pub inside: u32,
    /// The line's speed.
    #[serde(default)]
    pub samples: Vec<Sample>,
    /// The placement's lag in the last seconds.
    #[serde(default)]
    pub lags: Vec<Lag>,
    /// When a tick last worked it.
    pub last_tick: Moment,
    /// When it last went on after a pause: calls made before count from then.
    pub resumed_at: Moment,
    /// When its last ticket was sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sold_out_at: Option<Moment>,
    /// The draw; nothing, where none is or none was made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<Draw>,
}

impl Line {
    /// A new line that nobody stands in.
    ///
    /// # Errors
    /// What a line can't be set to.
    pub fn open(scope: Scope, settings: Settings) -> Result<Self, SettingsError> {
        settings.judge(0)?;
        Ok(Self {
            scope,
            settings,
            version: 1,
            joined: 0,
            serving: 0,
            cut: 0,
            last_run: None,
            folded: 0,
            folded_sold: 0,
            sold: 0,
            taken: 0,
            inside: 0,
            samples: Vec::new(),
            lags: Vec::new(),
            last_tick: 0,
            resumed_at: 0,
            sold_out_at: None,
            draw: None,
        })
    }

    /// The line with other settings, of the next version.
    ///
    /// # Errors
    /// What it can't be set to: no fewer tickets than are taken.
    pub fn set(&self, settings: Settings, now: Moment) -> Result<Self, SettingsError> {
        settings.judge(self.taken)?;
        if settings.draws != self.settings.draws && self.settings.opens_at <= now {
            return Err(SettingsError::Drawn);
        }
        let resumed_at = if self.settings.paused && !settings.paused { now } else { self.resumed_at };
        Ok(Self { settings, resumed_at, version: self.version + 1, ..self.clone() })
    }

    /// Whether people may join.
    pub fn is_open_for_joining(&self, now: Moment) -> bool {
        now < self.settings.closes_at
    }

    /// Whether somebody who is called now could still finish.
    pub fn may_call(&self, now: Moment, terms: &Terms) -> bool {
        let Settings { opens_at, closes_at, paused, .. } = self.settings;
        let end = now + ms(terms.call_window) + ms(terms.booking_window);
        !paused && opens_at <= now && end <= closes_at && self.has_order()
    }

    /// By when a call must be claimed: a pause gives everybody the whole window again.
    pub fn call_ends(&self, deadline: Moment, terms: &Terms) -> Moment {
        match self.resumed_at {
            0 => deadline,
            resumed_at => deadline.max(resumed_at + ms(terms.call_window)),
        }
    }

    /// The tickets that nobody has or may take, as of the last tick.
    pub fn free(&self) -> u32 {
        self.settings.tickets.saturating_sub(self.taken)
    }

    /// Whether it is settled where everybody stands: before its draw a line has places, and no order of turns.
    pub fn has_order(&self) -> bool {
        !self.settings.draws || self.draw.is_some()
    }

    /// The position of a place, which is its place in the order of turns; nothing, before the draw.
    pub fn position_of(&self, place: u64) -> Option<u64> {
        let drawn = || self.draw.as_ref().map(|draw| draw.turn_of(place));
        if self.settings.draws { drawn() } else { Some(place) }
    }

    /// The place of a position.
    pub fn place_at(&self, position: u64) -> u64 {
        self.draw.as_ref().map_or(position, |draw| draw.place_of(position))
    }

    /// The people with a position whose turn has not come.
    pub fn waiting(&self) -> u64 {
        self.joined.saturating_sub(self.serving)
    }

    /// How long people are held back before they get their places, so that who arrived before them can come: twice the worst
    /// lag of the last seconds, within bounds.
    pub fn held_back(&self, now: Moment) -> Duration {
        let recent = self.lags.iter().filter(|lag| now.saturating_sub(lag.at) < ms(LAG_SPAN));
        let worst = recent.map(|lag| lag.worst).max().unwrap_or_default();
        Duration::from_millis(worst.saturating_mul(2)).clamp(HELD_BACK.0, HELD_BACK.1)
    }

    /// Notes the worst lag of those who came to the line since the last tick.
    pub fn note_lag(&mut self, worst: Option<u64>, now: Moment) {
        self.lags.retain(|lag| now.saturating_sub(lag.at) < ms(LAG_SPAN));
        self.lags.extend(worst.map(|worst| Lag { at: now, worst }));
    }

    /// Notes how far the line is, if the last note is old enough.
    pub fn note_speed(&mut self, now: Moment) {
        let (interval, most) = SAMPLE;
        let due = self.samples.last().is_none_or(|last| now.saturating_sub(last.at) >= ms(interval));
        if due {
            self.samples.push(Sample { at: now, serving: self.serving });
            let surplus = self.samples.len().saturating_sub(most);
            self.samples.drain(..surplus);
        }
    }

    /// The places whose turn comes in a second, over the last minute. Nothing, where it is not known yet or nothing moves.
    pub fn rate(&self) -> Option<f64> {
        let (first, last) = (self.samples.first()?, self.samples.last()?);
        let seconds = Duration::from_millis(last.at.saturating_sub(first.at)).as_secs_f64();
        let places = u32::try_from(last.serving.saturating_sub(first.serving)).unwrap_or(u32::MAX);
        (seconds > 0.0 && places > 0).then(|| f64::from(places) / seconds)
    }

    /// When its records may be deleted, in seconds since the epoch.
    pub fn kept_until(&self) -> u64 {
        (self.settings.closes_at + ms(KEPT)) / 1_000
    }
}

impl Settings {
    fn judge(&self, taken: u32) -> Result<(), SettingsError> {
        if self.seats_max == 0 {
            return Err(SettingsError::NoSeats);
        }
        if self.closes_at <= self.opens_at {
            return Err(SettingsError::ClosesBeforeItOpens);
        }
        if self.tickets < taken { Err(SettingsError::Taken(taken)) } else { Ok(()) }
    }
}

#[cfg(test)]
impl Line {
    /// A line of ten tickets that is open since the beginning of time, for tests.
    pub(super) fn example() -> Self {
        let scope = Scope { show_id: "evt_1".to_owned(), generation: 1, key_version: 1 };
        let settings = Settings {
            tickets: 10,
            seats_max: 4,
            max_inside: None,
            opens_at: 0,
            closes_at: 1_000_000,
            paused: false,
            draws: false,
        };
        Self::open(scope, settings).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Line::example().settings
    }

    fn line() -> Line {
        Line::example()
    }

    #[test]
    fn a_line_can_be_set_to_nothing_that_takes_a_right_away() {
        let line = Line { taken: 4, ..line() };
        let set = |settings| line.set(settings, 5).map(|line| line.version);
        assert_eq!(set(settings()), Ok(2));
        assert_eq!(set(Settings { tickets: 4, ..settings() }), Ok(2));
        assert_eq!(set(Settings { tickets: 3, ..settings() }), Err(SettingsError::Taken(4)));
        assert_eq!(set(Settings { seats_max: 0, ..settings() }), Err(SettingsError::NoSeats));
        assert_eq!(set(Settings { closes_at: 0, ..settings() }), Err(SettingsError::ClosesBeforeItOpens));
        assert_eq!(set(Settings { draws: true, ..settings() }), Err(SettingsError::Drawn));
    }

    #[test]
    fn a_line_with_a_draw_has_no_order_before_it() {
        let drawn = Line { settings: Settings { draws: true, ..settings() }, ..line() };
        assert_eq!((drawn.has_order(), drawn.position_of(1), drawn.may_call(0, &Terms::DEFAULT)), (false, None, false));
        let draw = Draw { seed: "00".repeat(32), size: 10 };
        let made = Line { draw: Some(draw), ..drawn };
        assert_eq!((made.position_of(1), made.place_at(3), made.position_of(11)), (Some(3), 1, Some(11)));
        assert!(made.may_call(0, &Terms::DEFAULT));
        assert_eq!((line().position_of(4), line().place_at(4)), (Some(4), 4), "without a draw they are the same");
    }

    #[test]
    fn a_pause_gives_who_was_called_the_whole_window_again() {
        let paused = line().set(Settings { paused: true, ..settings() }, 100).unwrap();
        assert_eq!((paused.resumed_at, paused.call_ends(70, &Terms::DEFAULT)), (0, 70));
        assert!(!paused.may_call(100, &Terms::DEFAULT));
        let resumed = paused.set(settings(), 200).unwrap();
        assert_eq!(resumed.call_ends(70, &Terms::DEFAULT), 60_200);
        assert_eq!(resumed.call_ends(70_000, &Terms::DEFAULT), 70_000);
    }

    #[test]
    fn nobody_is_called_before_the_opening_or_too_late_to_finish() {
        let line = Line { settings: Settings { opens_at: 50, closes_at: 400_000, ..settings() }, ..line() };
        let may = |now| line.may_call(now, &Terms::DEFAULT);
        assert_eq!([may(49), may(50), may(40_000), may(40_001)], [false, true, true, false]);
    }

    #[test]
    fn people_are_held_back_for_twice_the_worst_lag_of_the_last_ten_seconds_within_bounds() {
        let mut line = line();
        assert_eq!(line.held_back(0), Duration::from_secs(2));
        line.note_lag(Some(3_000), 1_000);
        line.note_lag(Some(1_500), 2_000);
        assert_eq!(line.held_back(2_000), Duration::from_secs(6));
        assert_eq!(line.held_back(11_000), Duration::from_secs(3), "the worst is forgotten");
        line.note_lag(Some(60_000), 12_500);
        assert_eq!((line.held_back(12_500), line.lags.len()), (Duration::from_secs(15), 1));
    }

    #[test]
    fn the_speed_is_that_of_the_last_minute() {
        let mut line = line();
        for second in 0..100 {
            line.serving = second * 3;
            line.note_speed(second * 1_000);
        }
        assert_eq!((line.samples.len(), line.rate()), (7, Some(3.0)));
    }
}
