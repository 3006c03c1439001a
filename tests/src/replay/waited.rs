//! What a function of the waiting room makes of the lines of a file.

use std::time::SystemTime;

use shared::{
    deadline::epoch_ms,
    waiting_room::{
        id::PlaceKeys,
        line::{Line, Scope, Settings},
        place::{Entry, State, Turn},
        plan::{Move, Plan},
        sequence::sequence,
        table::{Join, Table},
    },
};

use super::{FileReport, RecordReport, Replay, attribute, shown};
use crate::{
    reservations::Reservation,
    scenario::{EventFile, GivenLine, Turned, Waited},
    stack::{Stack, WAITING_ROOM, WAITING_ROOM_KEYS},
};

/// The queue of the ticks.
const TICKS: &str = "waiting-room-ticked";

/// From now to what is not over yet, and back to when people came.
const MINUTE: u64 = 60_000;

/// The table of the waiting room, as its functions have it.
pub fn table(stack: &Stack) -> Table {
    Table::new(stack.aws.tables(), WAITING_ROOM)
}

/// Puts in place what the file takes for given, delivers it once, and judges.
pub(super) async fn run(replay: &Replay, file: &EventFile, waited: &Waited) -> FileReport {
    let run = async {
        let table = table(&replay.stack);
        for line in &waited.given {
            put_line(&replay.stack, &table, line).await?;
        }
        let ticks = replay.stack.queue(TICKS);
        let before =
            Before { published: replay.stack.aws.bus_entries().len(), heard: replay.stack.realtime.heard().len() };
        let mut records = Vec::new();
        if let Some(event) = &waited.event {
            let invocation = replay.function(&file.function)?.invoke(event.to_string()).await;
            invocation.result.as_ref().map_err(ToString::to_string)?;
            for (index, _) in waited.then.iter().flatten().enumerate() {
                let report = RecordReport::of(&index.to_string(), "wound");
                records.push(RecordReport { latency: Some(invocation.duration), ..report });
            }
        } else {
            let delivered = replay.deliver(file).await?;
            for record in &file.records {
                let end = delivered.end(&record.message_id);
                let mut report =
                    RecordReport::of(&record.message_id, end.line.map_or("no outcome logged", |line| &line.outcome));
                report.error = end.line.and_then(super::LogLine::reason);
                report.latency = end.line.map(super::LogLine::latency);
                report.error_code =
                    end.dead_lettered.and_then(|message| attribute(message, "error_code")).map(str::to_owned);
                if end.kept != (report.outcome == "retried") {
                    report.faults.push("it is in its queue, and must not be, or the other way round".to_owned());
                }
                if end.dead_lettered.is_some_and(|message| message.body != record.body) {
                    report.faults.push("the body in the dead-letter queue is not the one that was sent".to_owned());
                }
                records.push(report);
            }
        }
        for (report, promise) in records.iter_mut().zip(waited.then.iter().flatten()) {
            let found = look(replay, &table, promise, before, &ticks).await?;
            report.faults.extend(faults(promise, report, &found));
        }
        Ok::<_, String>(records)
    };
    match run.await {
        Ok(records) => {
            FileReport { records, invocation_fault: None, is_judged: waited.then.is_some(), notes: file.notes.clone() }
        }
        Err(fault) => FileReport::failed(fault),
    }
}

/// How much there was before the delivery.
#[derive(Clone, Copy)]
struct Before {
    published: usize,
    heard: usize,
}

/// How a line stands.
#[derive(Default)]
struct Found {
    places: String,
    pending: usize,
    told: Vec<String>,
    heard: Vec<String>,
    ticks: usize,
}

async fn look(
    replay: &Replay,
    table: &Table,
    promise: &Turned,
    before: Before,
    ticks: &crate::queue::Queue,
) -> Result<Found, String> {
    let Some(show_id) = &promise.event_id else { return Ok(Found::default()) };
    let mut found = Found { places: places(table, show_id).await?, ..Found::default() };
    if let Some(line) = table.line(show_id).await.map_err(|error| error.to_string())? {
        let blocks = table.blocks(&line).await.map_err(|error| error.to_string())?;
        found.pending = blocks.iter().map(|block| block.people.len()).sum();
    }
    let entries = replay.stack.aws.bus_entries().into_iter().skip(before.published);
    found.told = entries.filter(|entry| entry.detail["event_id"] == **show_id).map(|entry| entry.detail_type).collect();
    let heard = replay.stack.realtime.heard().into_iter().skip(before.heard);
    found.heard = heard.filter(|push| push.event_id() == show_id).map(|push| push.to_string()).collect();
    found.ticks = ticks.messages().iter().filter(|message| message.body.contains(show_id.as_str())).count();
    Ok(found)
}

/// Letter and seats of the places of a line whose turn has come, in order.
pub(super) async fn places(table: &Table, show_id: &str) -> Result<String, String> {
    let line = table.line(show_id).await.map_err(|error| error.to_string())?;
    let Some(line) = line else { return Ok(String::new()) };
    let pages = table.pages(&line, 0).await.map_err(|error| error.to_string())?;
    let places = pages.entries.values().map(ToString::to_string);
    let places: Vec<String> = places.filter_map(|text| Some(text.split(':').next()?.to_owned())).collect();
    Ok(places.join(" "))
}

/// What is not as promised, a sentence each.
fn faults(promise: &Turned, report: &RecordReport, found: &Found) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |what: &str, found: String, promised: Option<String>| {
        if promised.as_ref().is_some_and(|promised| *promised != found) {
            faults.push(format!("{what} {found:?}; promised: {:?}", promised.unwrap_or_default()));
        }
    };
    expect("the outcome is", report.outcome.clone(), Some(promise.outcome.clone()));
    let promised = shown(promise.error_code.as_ref());
    expect("the reason in the dead-letter queue is", shown(report.error_code.as_ref()), Some(promised));
    expect("the places are", found.places.clone(), promise.places.clone());
    expect(
        "people without a position are",
        found.pending.to_string(),
        promise.pending.map(|pending| pending.to_string()),
    );
    expect("what went out about the line is", found.told.join(", "), promise.told.as_ref().map(|told| told.join(", ")));
    let promised = promise.heard.as_ref().map(|heard| heard.join(", "));
    expect("what people heard about the line is", found.heard.join(", "), promised);
    expect("its ticks are", found.ticks.to_string(), promise.ticks.map(|ticks| ticks.to_string()));
    faults
}

/// Puts a line in place as the functions would have left it.
///
/// # Errors
/// When no line can be so, or the table does not take it.
pub async fn put_line(stack: &Stack, table: &Table, given: &GivenLine) -> Result<(), String> {
    let now = epoch_ms(SystemTime::now());
    let scope = Scope { show_id: given.event_id.clone(), generation: 1, key_version: 1 };
    let settings = Settings {
        tickets: given.tickets,
        seats_max: 4,
        max_inside: None,
        opens_at: now - 10 * MINUTE,
        closes_at: if given.closed { now - 1 } else { now + 60 * MINUTE },
        paused: given.paused,
        draws: false,
    };
    let mut line = Line::open(scope.clone(), settings).map_err(|error| error.to_string())?;
    table.open(&line).await.map_err(|error| error.to_string())?;
    let keys = PlaceKeys::read(WAITING_ROOM_KEYS).map_err(|error| error.to_string())?;
    let id = |user_id: &str| keys.id(&scope, user_id).ok_or_else(|| "the stack has no such key".to_owned());
    for person in given.people.iter().filter(|person| person.connected) {
        stack.realtime.connect(&person.user_id, &given.event_id);
    }
    let mut joins = Vec::new();
    for (at, person) in (0..).zip(&given.people) {
        let (id, arrival) = (id(&person.user_id)?, now - MINUTE + at);
        joins.push(Join { id, user_id: person.user_id.clone(), seats: person.seats, arrival, request: None });
    }
    if joins.is_empty() {
        return Ok(());
    }
    table.join(&line, &joins, now).await.map_err(|error| error.to_string())?;
    for (join, _) in joins.iter().zip(&given.people).filter(|(_, person)| person.left) {
        table.end(join.id, join.arrival, now).await.map_err(|error| error.to_string())?;
    }
    let Some(first) = given.people.first().filter(|person| person.place.is_some()) else { return Ok(()) };
    let blocks = table.blocks(&line).await.map_err(|error| error.to_string())?;
    let (after, run) = sequence(&line, blocks, now + 1_000).ok_or_else(|| format!("{first:?} has no position"))?;
    table.append(&after, &run).await.map_err(|error| error.to_string())?;
    table.clear(&after, &run.taken).await.map_err(|error| error.to_string())?;
    line = after;
    let mut moves = Vec::new();
    for (position, person) in (1..).zip(&given.people) {
        let Some(letter) = person.place else { break };
        let state =
            State::ALL.into_iter().find(|(_, own)| *own == letter).ok_or_else(|| format!("no place is {letter}"))?.0;
        let deadline = if person.overdue { now - 1 } else { now + MINUTE };
        let passed = u8::from(state == State::Passed);
        let to = Entry { state, passed, ..Entry::called(person.seats, deadline) };
        moves.push(Move { position, from: None, to });
        if let Some(status) = person.reservation {
            let turn = Turn { id: id(&person.user_id)?, position, call: 1 };
            stack.reservations.put(Reservation {
                reservation_id: turn.reservation_id(),
                event_id: given.event_id.clone(),
                user_id: person.user_id.clone(),
                status,
                seat_ids: Vec::new(),
                quantity: person.seats.into(),
                payment_intent_id: None,
            });
        }
    }
    let serving = moves.len() as u64;
    let seats = |counts: &dyn Fn(&Entry) -> bool| {
        moves.iter().map(|made| made.to).filter(counts).map(|entry| u32::from(entry.seats)).sum::<u32>()
    };
    let (sold, taken) = (seats(&|entry| entry.state == State::Sold), seats(&|entry| entry.counts(now)));
    let sold_out_at = (sold >= given.tickets).then_some(now);
    let inside = moves.iter().map(|made| u32::from(made.to.state.is_inside())).sum();
    let version = line.version + 1;
    let plan = Plan {
        line: Line { serving, sold, taken, inside, sold_out_at, version, last_tick: now, ..line.clone() },
        moves,
        overdue: Vec::new(),
        answered: Vec::new(),
        sold_out: false,
        is_over: false,
    };
    table.carry_out(&line, &plan).await.map_err(|error| error.to_string())?;
    Ok(())
}
