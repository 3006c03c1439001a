//! What is deployed agrees with itself and with the code: `template.yaml`, `samconfig.toml` and the dashboard, offline.
//!
//! No deployment fails on a visibility timeout that is too short, or on an alarm that watches a metric which nobody
//! writes. It shows later, as a customer's trouble. So each such agreement is a [`Rule`], and each rule carries the
//! edits that break it: one that stays green when it is broken is a fault of this test.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod code;
mod documents;
mod evaluate;
mod expand;
mod layers;
mod project;
mod rules;
mod supply_chain;
mod template;
mod workspace;

use std::{collections::BTreeSet, iter, num::NonZero, sync::Mutex, thread};

use local_stack::yaml as reader;

use self::{
    project::{Edit, Project, Texts},
    rules::{Faults, Rule},
};

fn faults(rule: &Rule, project: &Project) -> Vec<String> {
    let mut faults = Faults::default();
    (rule.check)(project, &mut faults);
    faults.0
}

#[track_caller]
fn assert_kept<'r>(rules: impl IntoIterator<Item = &'r Rule>) {
    let project = Project::parse(&Texts::read()).unwrap();
    let broken: Vec<String> = rules
        .into_iter()
        .flat_map(|rule| faults(rule, &project).into_iter().map(|fault| format!("{}: {fault}", rule.name)))
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_template_keeps_every_rule() {
    assert_kept(rules::all());
}

#[test]
fn the_pages_say_what_a_deployment_asks_and_shows() {
    assert_kept(rules::pages::RULES);
}

#[test]
fn each_rule_goes_red_when_it_is_broken() {
    let texts = Texts::read();
    let project = Project::parse(&texts).unwrap();
    // No other test takes a minute, so that the rest of the machine would look on.
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    // Some rules have many edits, so whoever is done with one takes the next.
    let rules = Mutex::new(rules::all().chain(rules::pages::RULES));
    let next = || rules.lock().unwrap().next();
    let look = || iter::from_fn(next).flat_map(|rule| unseen(rule, &texts, &project)).collect::<Vec<_>>();
    let unseen: Vec<String> = thread::scope(|scope| {
        let looking: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
        looking.into_iter().flat_map(|looking| looking.join().expect("no look panics")).collect()
    });
    assert!(unseen.is_empty(), "\n{}", unseen.join("\n"));
}

/// The edits that should turn this rule red and don't, each with why.
fn unseen(rule: &Rule, texts: &Texts, project: &Project) -> Vec<String> {
    if rule.breaks.is_empty() {
        return vec![format!("{} was never seen red: add an edit that breaks it", rule.name)];
    }
    // A rule that is red already would prove nothing.
    let before: BTreeSet<String> = faults(rule, project).into_iter().collect();
    let edited = |edit: &Edit| project.edited(texts, &edit.apply(texts)?);
    let unseen = |edit: &Edit| match edited(edit) {
        Ok(edited) if faults(rule, &edited).iter().any(|fault| !before.contains(fault)) => None,
        Ok(_) => Some(format!("{} stays green after {edit:?}", rule.name)),
        Err(error) => Some(format!("{}: {error}", rule.name)),
    };
    rule.breaks.iter().filter_map(unseen).collect()
}

#[test]
fn no_two_rules_have_one_name() {
    let names: Vec<&str> = rules::all().chain(rules::pages::RULES).map(|rule| rule.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:#?}");
}
