//! The rules, by what they are about. Each is a check and the edits that must turn it red.

pub(crate) mod alarms;
pub(crate) mod api;
pub(crate) mod bookings;
pub(crate) mod dashboard;
pub(crate) mod environment;
pub(crate) mod events;
pub(crate) mod functions;
pub(crate) mod mappings;
pub(crate) mod names;
pub(crate) mod pages;
pub(crate) mod partitions;
pub(crate) mod push;
pub(crate) mod queues;
pub(crate) mod references;
pub(crate) mod retries;
pub(crate) mod roles;
pub(crate) mod stages;
pub(crate) mod systems;
pub(crate) mod table;
pub(crate) mod waiting_room;

use crate::{
    evaluate::Stack,
    project::{Edit, Project},
};

/// Values of parameters.
type Given = [(&'static str, &'static str)];

/// Something that must hold.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The rule as a sentence.
    pub(crate) name: &'static str,
    pub(crate) check: fn(&Project, &mut Faults),
    /// Each of these alone breaks the rule.
    pub(crate) breaks: &'static [Edit],
}

/// What is wrong: each names its place and says what to do.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<String>);

impl Faults {
    /// Notes a fault.
    pub(crate) fn add(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    /// Notes a fault unless `kept`.
    pub(crate) fn unless(&mut self, kept: bool, fault: impl Into<String>) {
        if !kept {
            self.add(fault);
        }
    }

    /// Notes what the template's own rules do not refuse, or refuse, as they must: parameters in addition to `base`.
    fn unless_judged(&mut self, project: &Project, base: &Given, (refused, taken): (&[&Given], &[&Given])) {
        let judge = |given: &Given| Stack::new(&project.template, &[base, given].concat()).is_accepted();
        for given in refused {
            self.unless(judge(given).is_err(), format!("Rules: refuse {given:?}"));
        }
        for given in taken {
            if let Err(refusal) = judge(given) {
                self.add(format!("Rules: {given:?} must be taken, and is refused: {refusal}"));
            }
        }
    }
}

/// Every rule about the files that are deployed.
pub(crate) fn all() -> impl Iterator<Item = &'static Rule> {
    let rules: [&'static [Rule]; 19] = [
        systems::RULES,
        queues::RULES,
        mappings::RULES,
        bookings::RULES,
        waiting_room::RULES,
        push::RULES,
        events::RULES,
        functions::RULES,
        api::RULES,
        roles::RULES,
        table::RULES,
        environment::RULES,
        retries::RULES,
        alarms::RULES,
        dashboard::RULES,
        stages::RULES,
        references::RULES,
        names::RULES,
        partitions::RULES,
    ];
    rules.into_iter().flatten()
}
