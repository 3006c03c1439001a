//! What contradicts itself in a file, each as a sentence that says how to mend it.

use std::collections::BTreeSet;

use super::{Given, Promise, Record, error_codes, form::Draft};
use crate::catalogue::QUEUED;
use crate::stack::MOVED_AFTER;

/// Adds all contradictions of a file, for the function where it is known by now.
pub(super) fn all(function: Option<&str>, draft: &Draft, faults: &mut Vec<String>) {
    let mut ids = BTreeSet::new();
    for (index, record) in draft.records.iter().enumerate() {
        let Some(record) = record else { continue };
        for mend in in_record(function, record) {
            faults.push(format!("record {}: {mend}", index + 1));
        }
        if !ids.insert(&record.message_id) {
            faults.push(format!("record {}: its id {:?} comes twice; give it another", index + 1, record.message_id));
        }
    }
    let Some(then) = &draft.then else { return };
    let (promised, sent) = (then.len(), draft.records.len());
    if promised != sent {
        faults.push(format!("{sent} records but {promised} promises; give \"scenario.then\" one entry per record"));
    }
    let given = draft.given.as_deref().unwrap_or_default();
    for (index, (record, promise)) in draft.records.iter().zip(then).enumerate() {
        let Some(promise) = promise else { continue };
        for mend in in_promise(record.as_ref(), promise, given) {
            faults.push(format!("scenario.then[{index}]: {mend}"));
        }
    }
}

fn in_record(function: Option<&str>, record: &Record) -> Vec<String> {
    let mut mends = Vec::new();
    if record.message_id.trim().is_empty() {
        mends.push("its id is empty; give it a UUID".to_owned());
    }
    if record.body.is_empty() {
        mends.push("its body is empty, and no queue can hold that".to_owned());
    }
    if !(1..=MOVED_AFTER).contains(&record.receive_count) {
        let count = record.receive_count;
        mends.push(format!(
            "\"ApproximateReceiveCount\" is {count}; a queue hands a message out once to {MOVED_AFTER} times"
        ));
    }
    let queue = record.source_arn.as_deref().and_then(|arn| arn.rsplit(':').next());
    let other = queue.filter(|queue| QUEUED.contains(queue) && function.is_some_and(|function| function != *queue));
    if let (Some(queue), Some(function)) = (other, function) {
        mends.push(format!(
            "\"eventSourceARN\" names the queue {queue:?}, and the file is for {function:?}; change one of them"
        ));
    }
    mends
}

fn in_promise(record: Option<&Record>, promise: &Promise, given: &[Option<Given>]) -> Vec<String> {
    let mut mends = Vec::new();
    if let Some(due) = record.map(|record| &record.message_id).filter(|due| **due != promise.message_id) {
        let said = &promise.message_id;
        mends.push(format!("is about {said:?}, but this place belongs to {due:?}; keep the order of \"Records\""));
    }
    match &promise.error_code {
        Some(code) if !promise.outcome.is_dead_lettered() => {
            mends.push(format!("{} carries no error code; remove {code:?}", promise.outcome));
        }
        Some(code) if !error_codes().any(|known| known == code) => {
            mends.push(format!("{code:?} is no error code; use one of {:?}", error_codes().collect::<Vec<_>>()));
        }
        None if promise.outcome.is_dead_lettered() => {
            mends.push(format!("{} needs an \"error_code\"", promise.outcome));
        }
        Some(_) | None => {}
    }
    if promise.reservation.is_some() != promise.seats.is_some() {
        mends.push("give both \"reservation\" and \"seats\", or neither".to_owned());
    }
    let is_given = given.iter().any(|one| match one {
        Some(one) => Some(&one.reservation_id) == promise.reservation_id.as_ref(),
        None => true, // It may be the one that could not be read.
    });
    if promise.reservation.is_some() && !is_given {
        mends.push("promises the end of a reservation that is not in \"scenario.given\"; add it there".to_owned());
    }
    mends
}
