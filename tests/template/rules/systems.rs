//! Systems: what belongs to each.

use std::collections::BTreeSet;

use local_stack::catalogue;
use serde_json::Value;

use super::{Faults, Rule};
use crate::{
    project::{Project, edit},
    template::{Template, fields, items},
};

pub(crate) const RULES: &[Rule] = &[Rule {
    name: "each event type is listed once, for its system, and is one of the code",
    check: event_types_are_listed,
    breaks: &[
        edit("PaymentFailed, ReservationCancelled]}", "PaymentFailed]}"),
        edit("  Systems:\n", "  Systems:\n    Bookings: {EventTypes: [PaymentFailed]}\n"),
        edit("  EventTypes:\n", "  EventTypes:\n    PaymentLost: {Name: payment.lost, Function: payment-lost}\n"),
    ],
}];

/// The systems of a template, each with its event types.
fn systems(template: &Template) -> Vec<(&str, Vec<&str>)> {
    let systems = fields(&template.section("Mappings")["Systems"])
        .into_iter()
        .map(|(name, system)| (name, items(&system["EventTypes"]).into_iter().filter_map(Value::as_str).collect()));
    systems.collect()
}

/// The loops make the resources of what is listed. What is only in `EventTypes` would have none.
fn event_types_are_listed(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let listed: Vec<&str> = systems(template).into_iter().flat_map(|(_, event_types)| event_types).collect();
    let distinct: BTreeSet<&str> = listed.iter().copied().collect();
    faults.unless(distinct.len() == listed.len(), format!("Systems: list each event type once: {listed:?}"));
    let entries = fields(&template.section("Mappings")["EventTypes"]);
    let mapped: BTreeSet<&str> = entries.iter().map(|(id, _)| *id).collect();
    faults.unless(distinct == mapped, format!("Systems list {distinct:?}, and EventTypes has {mapped:?}"));
    for (id, entry) in entries {
        let function = entry["Function"].as_str().and_then(catalogue::named);
        let same = function.is_some_and(|function| entry["Name"] == function.workflow.name());
        faults.unless(same, format!("EventTypes: {id} is not what a function of the catalogue settles: {entry}"));
    }
}
