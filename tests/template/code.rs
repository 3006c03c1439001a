//! What the code says of itself, where a rule compares the template with it.

use std::{collections::BTreeSet, sync::OnceLock};

use local_stack::scenario::{ERROR_CODES, Outcome};
use shared::{
    event::{Event, EventType},
    workflow::{Workflow, guard::LostRace},
};

/// Each function with what its code does, by the name of its folder.
pub(crate) fn functions() -> [(&'static str, Workflow); 3] {
    [
        ("reservation-expired", reservation_expired::WORKFLOW),
        ("payment-approved", payment_approved::WORKFLOW),
        ("payment-failed", payment_failed::WORKFLOW),
    ]
}

/// The metrics that the code writes, each with its dimensions in their order.
pub(crate) const METRICS: [(&str, &[&str]); 5] = [
    ("worker_events_total", &["type", "outcome"]),
    ("worker_dead_letters_total", &["type", "error_code"]),
    ("worker_latency_seconds", &["type"]),
    ("worker_cold_start", &["type"]),
    ("worker_unstarted_total", &["type"]),
];

/// The metric of events that go on failing, which a filter of the template makes of the log's lines.
pub(crate) const FAILING: &str = "worker_failing_total";

/// The outcomes that a record of this function can have.
pub(crate) fn outcomes(workflow: &Workflow) -> BTreeSet<&'static str> {
    let lost = match workflow.lost_race {
        LostRace::Superseded => Outcome::Superseded,
        LostRace::Refund => Outcome::LateApproval,
    };
    let outcomes =
        [Outcome::Success, Outcome::Duplicate, lost, Outcome::Retried, Outcome::Exhausted, Outcome::Rejected];
    outcomes.map(Outcome::as_str).into()
}

/// Whether the code writes a metric with just these dimensions, or why it does not.
pub(crate) fn metric_exists(name: &str, dimensions: &[(&str, &str)]) -> Result<(), String> {
    let written = METRICS.iter().find(|(known, _)| *known == name).map(|(_, dimensions)| *dimensions);
    let known = match written {
        None if name == FAILING => &["type"],
        written => written.ok_or(format!("the code writes no metric {name}"))?,
    };
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    if names != known {
        return Err(format!("{name} has the dimensions {known:?}, not {names:?}"));
    }
    let event_type = dimensions.first().map_or("", |(_, value)| value);
    let (_, workflow) = functions()
        .into_iter()
        .find(|(_, workflow)| workflow.event_type.name() == event_type)
        .ok_or(format!("{event_type} is no event type"))?;
    for (dimension, value) in dimensions {
        let exists = match *dimension {
            "outcome" => outcomes(&workflow).contains(value),
            "error_code" => ERROR_CODES.contains(value),
            _ => true,
        };
        if !exists {
            return Err(format!("{event_type} has no {dimension} {value}"));
        }
    }
    Ok(())
}

/// How EventBridge can announce an event: by its detail-type, and for some by the status in its detail.
pub(crate) type Announcement = (String, Option<String>);

/// Whether the function of `own` settles an event that is announced so and is otherwise complete.
pub(crate) fn settles(own: EventType, detail_type: &str, status: Option<&str>) -> bool {
    let detail = serde_json::json!({
        "reservation_id": "rsv_1", "payment_intent_id": "pi_1", "amount": 1, "status": status,
    });
    let body = serde_json::json!({"detail-type": detail_type, "detail": detail});
    Event::parse(own, &body.to_string()).is_ok()
}

/// Every announcement of an event that the function of `own` settles.
pub(crate) fn announcements(own: EventType) -> &'static BTreeSet<Announcement> {
    static FOUND: OnceLock<Vec<(EventType, BTreeSet<Announcement>)>> = OnceLock::new();
    static NONE: BTreeSet<Announcement> = BTreeSet::new();
    let find = || functions().map(|(_, Workflow { event_type, .. })| (event_type, tried(event_type))).into();
    let found = FOUND.get_or_init(find).iter().find(|(event_type, _)| *event_type == own);
    found.map_or(&NONE, |(_, announcements)| announcements)
}

/// Which words might announce an event is read from the parser's own source; what each is worth the parser decides.
fn tried(own: EventType) -> BTreeSet<Announcement> {
    let words = literals(include_str!("../../shared/src/event.rs"));
    let mut found = BTreeSet::new();
    for detail_type in &words {
        if settles(own, detail_type, None) {
            found.insert((detail_type.clone(), None));
            continue;
        }
        for status in words.iter().filter(|status| settles(own, detail_type, Some(status))) {
            found.insert((detail_type.clone(), Some(status.clone())));
        }
    }
    found
}

/// Whatever stands between two quotation marks and could be a name. More than the literals is no harm.
fn literals(source: &str) -> BTreeSet<String> {
    let name = |text: &&str| {
        (3..=40).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._- ".contains(c))
    };
    source.split('"').filter(name).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use local_stack::scenario::FUNCTIONS;

    use super::*;

    #[test]
    fn the_functions_are_those_of_the_workspace_and_are_named_after_their_events() {
        assert_eq!(functions().map(|(name, _)| name), FUNCTIONS);
        for (name, workflow) in functions() {
            assert_eq!(workflow.event_type.name().replace('.', "-"), name);
        }
    }

    #[test]
    fn the_metrics_are_those_that_the_code_writes() {
        let source = include_str!("../../shared/src/telemetry/metrics.rs");
        let (code, _) = source.split_once("#[cfg(test)]").unwrap();
        let literals = literals(code);
        let written: BTreeSet<&str> =
            literals.iter().map(String::as_str).filter(|name| name.starts_with("worker_")).collect();
        assert_eq!(written, METRICS.map(|(name, _)| name).into());
        for dimension in METRICS.iter().flat_map(|(_, dimensions)| *dimensions) {
            assert!(literals.contains(*dimension), "metrics.rs writes no dimension {dimension}");
        }
    }

    #[test]
    fn the_outcomes_are_those_that_the_code_knows() {
        let workflow = include_str!("../../shared/src/workflow.rs");
        let done = workflow.split("done(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let batch = include_str!("../../shared/src/batch.rs");
        let ended = batch.lines().filter(|line| line.starts_with("const ")).filter_map(|line| {
            let (name, value) = line.strip_prefix("const ")?.split_once(": &str = \"")?;
            let value = value.strip_suffix("\";")?;
            (name.to_lowercase() == value && name != "RETRIES_EXHAUSTED").then_some(value)
        });
        let known: BTreeSet<&str> = done.chain(ended).collect();
        let ours: BTreeSet<&str> = functions().iter().flat_map(|(_, workflow)| outcomes(workflow)).collect();
        assert_eq!(known, ours);
    }

    #[test]
    fn the_parser_is_asked_about_every_name_in_its_source() {
        let found = announcements(EventType::ReservationExpired);
        let expected = ["reservation.expired", "reservation.hold.expired"].map(|name| (name.to_owned(), None));
        assert_eq!(*found, expected.into());
        assert_eq!(announcements(EventType::PaymentFailed).len(), 3);
        assert_eq!(announcements(EventType::PaymentApproved).len(), 5);
    }
}
