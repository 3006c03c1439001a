//! Time in words. The code compares moments with its clock, and a search has no clock: it has three phases of a hold, and
//! a lease that is over or not. So every moment that is stored goes by a name, and whoever reads it is told a moment that
//! lies as far from his clock as the name and the phase say.

use std::time::Duration;

use serde_json::Value;

/// How far the hold is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    /// Before its deadline.
    Early,
    /// After its first deadline, and before the one that an extension gives.
    Late,
    /// Minutes after any deadline.
    Overdue,
}

impl Phase {
    pub(crate) fn next(self) -> Option<Self> {
        match self {
            Self::Early => Some(Self::Late),
            Self::Late => Some(Self::Overdue),
            Self::Overdue => None,
        }
    }
}

/// By how much a play may take longer than no time at all: no two moments are nearer to each other.
pub(crate) const SLACK: Duration = Duration::from_secs(4);

/// The lease of an invocation that is at work.
pub(crate) const LEASE: &str = "lease";
/// A lease that is over.
pub(crate) const LEASE_OVER: &str = "lease over";
/// The deadline that a creation gives.
pub(crate) const DEADLINE: &str = "deadline";
/// The deadline that an extension gives.
pub(crate) const EXTENDED: &str = "extended";
/// How much longer an extension lets a hold last.
pub(crate) const LONGER: Duration = Duration::from_secs(30);
/// The end of a record's life, which is in seconds and years away.
const KEPT: &str = "kept";

struct Moment {
    name: &'static str,
    /// How far from the clock the code itself puts it, in milliseconds.
    own: Option<i64>,
    /// How far from the clock it is told, by phase.
    told: [i64; 3],
}

const MOMENTS: [Moment; 6] = [
    // When something was done.
    Moment { name: "done", own: Some(0), told: [-20_000, -90_000, -300_000] },
    Moment { name: LEASE, own: Some(10_000), told: [25_000; 3] },
    Moment { name: LEASE_OVER, own: None, told: [-38_000; 3] },
    Moment { name: DEADLINE, own: Some(60_000), told: [45_000, -55_000, -200_000] },
    Moment { name: EXTENDED, own: None, told: [75_000, 75_000, -170_000] },
    // What a sweep takes for overdue.
    Moment { name: "overdue", own: Some(-120_000), told: [-120_000; 3] },
];

/// Puts names in the place of moments.
pub(crate) fn named(value: &mut Value, now: u64) {
    each(value, &mut |text| {
        let Ok(number) = text.parse::<u64>() else { return };
        if number < 1_000_000_000 {
            return;
        }
        if number < 1_000_000_000_000 {
            KEPT.clone_into(text);
            return;
        }
        let offset = i64::try_from(number).expect("a moment") - i64::try_from(now).expect("a moment");
        let slack = i64::try_from(SLACK.as_millis()).expect("seconds");
        let known = MOMENTS
            .iter()
            .find(|moment| moment.own.iter().chain(&moment.told).any(|known| (offset - known).abs() <= slack));
        let known = known.unwrap_or_else(|| panic!("{offset} ms from now is a moment that the model does not know"));
        known.name.clone_into(text);
    });
}

/// Puts moments in the place of names, as they are in this phase.
pub(crate) fn moments(value: &mut Value, phase: Phase, now: u64) {
    each(value, &mut |text| {
        if text == KEPT {
            *text = (now / 1000 + 400 * 24 * 60 * 60).to_string();
        }
        if let Some(moment) = MOMENTS.iter().find(|moment| moment.name == text) {
            *text = now.saturating_add_signed(moment.told[phase as usize]).to_string();
        }
    });
}

/// Every number, as DynamoDB writes one.
fn each(value: &mut Value, change: &mut dyn FnMut(&mut String)) {
    match value {
        Value::Object(fields) => match (fields.len(), fields.get_mut("N")) {
            (1, Some(Value::String(text))) => change(text),
            _ => fields.values_mut().for_each(|value| each(value, change)),
        },
        Value::Array(values) => values.iter_mut().for_each(|value| each(value, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
