use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::waiting_room::line::Settings;

const NOW: Moment = 10_000_000;

fn line(tickets: u32, joined: u64) -> Line {
    let line = Line::example();
    Line { joined, settings: Settings { tickets, closes_at: 100_000_000, ..line.settings.clone() }, ..line }
}

fn person(position: u64, seats: u8) -> Person {
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&position.to_be_bytes());
    Person { id: PlaceId::of(1, hash), seats, seen: NOW, is_gone: false }
}

/// People at the next positions, who want so many tickets each.
fn people(line: &Line, seats: &[u8]) -> BTreeMap<u64, Person> {
    let numbered = (line.serving + 1..).zip(seats);
    numbered.map(|(position, seats)| (position, person(position, *seats))).collect()
}

/// Pages of these entries from position 1 on.
fn pages(entries: &[&str]) -> Pages {
    let entries = (1..).zip(entries).map(|(position, entry)| (position, entry.parse().unwrap())).collect();
    Pages { first: 0, entries }
}

fn tick(line: &Line, pages: &Pages, back: &[u64], people: &BTreeMap<u64, Person>) -> Plan {
    plan(line, pages, &BTreeSet::from_iter(back.iter().copied()), people, NOW, &Terms::DEFAULT)
}

/// The moves as text: position, letter and seats.
fn moves(plan: &Plan) -> String {
    let text = |made: &Move| {
        let entry = made.to.to_string();
        format!("{}{}", made.position, entry.split(':').next().unwrap_or_default())
    };
    plan.moves.iter().map(text).collect::<Vec<_>>().join(" ")
}

const SOON: &str = "10000001";

#[test]
fn so_many_are_called_as_there_are_tickets_in_order() {
    let line = line(3, 5);
    let plan = tick(&line, &Pages::default(), &[], &people(&line, &[1; 5]));
    assert_eq!(moves(&plan), "1C1 2C1 3C1");
    assert_eq!((plan.line.serving, plan.line.taken, plan.line.inside, plan.line.version), (3, 3, 3, 2));
    assert_eq!(plan.moves[0].to.deadline, NOW + 60_000);
    assert_eq!(plan.line.free(), 0);
}

#[test]
fn what_counts_leaves_the_rest_and_a_fresh_end_counts() {
    let line = Line { serving: 8, ..line(10, 20) };
    let entries = ["C1:20000000:1:0", "A1:20000000:1:0", "H1:20000000:1:0", "L1:20000000:1:0", "S1:0:1:0"];
    let fresh = format!("F1:{SOON}:1:0");
    let pages = pages(&[&entries[..], &[fresh.as_str(), "F1:10000000:1:0", "P1:0:1:1"]].concat());
    let plan = tick(&line, &pages, &[], &people(&line, &[1; 12]));
    assert_eq!(moves(&plan), "9C1 10C1 11C1 12C1", "six of ten count");
}

#[test]
fn a_call_that_ran_out_passes_and_its_ticket_goes_on_in_the_same_tick() {
    let line = Line { serving: 1, ..line(1, 2) };
    let plan = tick(&line, &pages(&["C1:10000000:1:0"]), &[], &people(&line, &[1]));
    assert_eq!(moves(&plan), "1P1 2C1");
    let paused = Line { settings: Settings { paused: true, ..line.settings.clone() }, ..line.clone() };
    assert_eq!(moves(&tick(&paused, &pages(&["C1:10000000:1:0"]), &[], &people(&line, &[1]))), "");
    let closed = Line { settings: Settings { closes_at: NOW, ..paused.settings.clone() }, ..paused };
    let last = tick(&closed, &pages(&["C1:10000000:1:0"]), &[], &people(&line, &[1]));
    assert_eq!((moves(&last).as_str(), last.is_over), ("1P1", true), "nobody gets his window again");
    let resumed = Line { resumed_at: NOW - 1, ..line.clone() };
    assert_eq!(moves(&tick(&resumed, &pages(&["C1:10000000:1:0"]), &[], &people(&line, &[1]))), "", "a whole window");
}

#[test]
fn a_group_at_the_head_waits_while_seats_may_come_back_and_nobody_overtakes_it() {
    let line = Line { serving: 2, ..line(4, 4) };
    let waits = pages(&["S1:0:1:0", "H1:20000000:1:0"]);
    assert_eq!(moves(&tick(&line, &waits, &[], &people(&line, &[4, 1]))), "");
    let fresh = format!("F1:{SOON}:1:0");
    assert_eq!(moves(&tick(&line, &pages(&["S1:0:1:0", &fresh]), &[], &people(&line, &[4, 1]))), "");
    let sold = pages(&["S1:0:1:0", "S1:0:1:0"]);
    let plan = tick(&line, &sold, &[], &people(&line, &[4, 1]));
    assert_eq!(moves(&plan), "3C2", "it is offered what there is");
    assert_eq!(moves(&tick(&line, &sold, &[], &people(&line, &[9, 1]))), "3C2");
}

#[test]
fn who_is_gone_or_silent_takes_no_ticket_and_holds_nobody_up() {
    let line = line(1, 4);
    let mut people = people(&line, &[1; 4]);
    people.get_mut(&1).unwrap().is_gone = true;
    people.get_mut(&2).unwrap().seen = NOW - 900_001;
    people.get_mut(&3).unwrap().seen = NOW - 900_000;
    let plan = tick(&line, &Pages::default(), &[], &people);
    assert_eq!(moves(&plan), "1X0 2X0 3C1");
}

#[test]
fn who_came_back_is_called_before_all_others_as_often_as_he_may() {
    let line = Line { serving: 3, ..line(2, 9) };
    let pages = pages(&["P1:0:1:1", "P1:0:3:3", "S1:0:1:0"]);
    let mut people = people(&line, &[1; 6]);
    people.extend([(1, person(1, 1)), (2, person(2, 1))]);
    let plan = tick(&line, &pages, &[1, 2, 3], &people);
    assert_eq!(moves(&plan), "1C1", "one ticket is left");
    assert_eq!(plan.moves[0].to.to_string(), "C1:10060000:2:1", "its next call");
    assert_eq!(plan.answered, [1, 3]);
    people.get_mut(&1).unwrap().is_gone = true;
    assert_eq!(moves(&tick(&line, &pages, &[1], &people)), "1X1 4C1");
}

#[test]
fn so_many_are_inside_at_a_time_as_the_operator_says() {
    let line = Line { serving: 2, ..line(10, 9) };
    let line = Line { settings: Settings { max_inside: Some(3), ..line.settings.clone() }, ..line };
    let pages = pages(&["A1:20000000:1:0", "S1:0:1:0"]);
    assert_eq!(moves(&tick(&line, &pages, &[], &people(&line, &[1; 7]))), "3C1 4C1");
}

#[test]
fn nobody_is_called_before_the_opening_in_a_pause_too_late_or_above_lowered_tickets() {
    let open = line(5, 5);
    let called = |settings: Settings| {
        let line = Line { settings, ..open.clone() };
        moves(&tick(&line, &Pages::default(), &[], &people(&line, &[1; 5])))
    };
    assert_eq!(called(Settings { opens_at: NOW + 1, ..open.settings.clone() }), "");
    assert_eq!(called(Settings { paused: true, ..open.settings.clone() }), "");
    assert_eq!(called(Settings { closes_at: NOW + 359_999, ..open.settings.clone() }), "");
    assert_eq!(called(Settings { closes_at: NOW + 360_000, ..open.settings.clone() }).len(), 19);
    let lowered = Line { serving: 2, settings: Settings { tickets: 1, ..open.settings.clone() }, ..open.clone() };
    let pages = pages(&["H1:20000000:1:0", "H1:20000000:1:0"]);
    assert_eq!(moves(&tick(&lowered, &pages, &[], &people(&lowered, &[1; 3]))), "");
}

#[test]
fn sold_out_is_told_once_and_more_tickets_open_the_line_again() {
    let line = Line { serving: 2, ..line(2, 3) };
    let pages = pages(&["S1:0:1:0", "S1:0:1:0"]);
    let first = tick(&line, &pages, &[], &people(&line, &[1]));
    assert_eq!((first.sold_out, first.line.sold, first.line.sold_out_at), (true, 2, Some(NOW)));
    let second = tick(&first.line, &pages, &[], &people(&line, &[1]));
    assert_eq!((second.sold_out, second.line.sold_out_at), (false, Some(NOW)));
    let raised = Settings { tickets: 3, ..second.line.settings.clone() };
    let raised = Line { settings: raised, ..second.line };
    let third = tick(&raised, &pages, &[], &people(&line, &[1]));
    assert_eq!((moves(&third).as_str(), third.line.sold_out_at), ("3C1", None));
}

#[test]
fn overdue_places_are_asked_for_the_longest_first_and_not_all_at_once() {
    let line = Line { serving: 3, ..line(9, 3) };
    let three = pages(&["A1:9000002:1:0", "H1:9000001:1:0", "L1:20000000:1:0"]);
    let overdue = tick(&line, &three, &[], &BTreeMap::new()).overdue;
    assert_eq!(overdue.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [2, 1]);
    let many = pages(&["A1:9000002:1:0"; 60]);
    assert_eq!(tick(&Line { serving: 60, ..line }, &many, &[], &BTreeMap::new()).overdue.len(), 50);
}

#[test]
fn settled_pages_are_folded_and_their_sales_kept() {
    let line = Line { serving: 120, ..line(200, 120) };
    let mut entries = vec!["S2:0:1:0"; 50];
    entries.extend(["P1:0:1:1"; 50]);
    entries.extend(["S1:0:1:0"; 20]);
    let folded = tick(&line, &pages(&entries), &[], &BTreeMap::new()).line;
    assert_eq!((folded.folded, folded.folded_sold, folded.sold, folded.taken), (2, 100, 120, 120));

    // Somebody on the second page came back: it is read again, and not folded while his turn goes on.
    let back = BTreeSet::from([60]);
    assert_eq!(first_page(&folded, &back), 1);
    assert_eq!(first_page(&folded, &BTreeSet::new()), 2);
    let rest = pages(&entries).entries.split_off(&51);
    let again = Pages { first: 1, entries: rest };
    let plan = tick(&folded, &again, &[60], &BTreeMap::from([(60, person(60, 1))]));
    assert_eq!((moves(&plan).as_str(), plan.line.folded, plan.line.folded_sold), ("60C1", 1, 100));
    assert_eq!((plan.line.sold, plan.line.taken), (120, 121));

    let mut unfolded = pages(&entries).entries;
    unfolded.insert(1, "F2:20000000:1:0".parse().unwrap());
    let plan = tick(&line, &Pages { first: 0, entries: unfolded }, &[], &BTreeMap::new());
    assert_eq!(plan.line.folded, 0, "a fresh end is not settled");
}

#[test]
fn a_page_that_sold_nothing_new_counts_once_when_it_is_read_again() {
    let mut entries = vec!["S2:0:1:0"; 49];
    entries.push("P1:0:1:1");
    let line = Line { serving: 50, folded: 1, folded_sold: 98, ..line(200, 50) };
    let plan = tick(&line, &pages(&entries), &[50], &BTreeMap::from([(50, person(50, 1))]));
    assert_eq!((plan.line.sold, plan.line.taken), (98, 99));
}

#[test]
fn a_tick_calls_no_more_than_it_may_and_knows_whom_it_needs_for_that() {
    let line = line(1_000, 600);
    let (back, next) = candidates(&line, &Pages::default(), &BTreeSet::new(), NOW, &Terms::DEFAULT);
    assert_eq!((back, next), (vec![], 1..251));
    let plan = tick(&line, &Pages::default(), &[], &people(&line, &[1; 600]));
    assert_eq!((plan.moves.len(), plan.line.serving), (250, 250));
    let known = tick(&line, &Pages::default(), &[], &people(&line, &[1; 7]));
    assert_eq!(known.line.serving, 7, "nobody is called behind who is not known");
    let full = Line { settings: Settings { tickets: 0, ..line.settings.clone() }, ..line };
    assert!(candidates(&full, &Pages::default(), &BTreeSet::new(), NOW, &Terms::DEFAULT).1.is_empty());
    let taken = Line { serving: 1, ..self::line(1, 2) };
    let next = |entry: &str| candidates(&taken, &pages(&[entry]), &BTreeSet::new(), NOW, &Terms::DEFAULT).1;
    assert!(next("C1:10000001:1:0").is_empty());
    assert_eq!(next("C1:10000000:1:0"), 2..3, "the call runs out, and its ticket goes on in the same tick");
}

#[test]
fn a_tick_writes_no_more_pages_than_a_transaction_takes() {
    let entries: Vec<&str> = (0..5_000).map(|n| if n % 50 == 0 { "C1:1:1:0" } else { "S1:0:1:0" }).collect();
    let line = Line { serving: 5_000, ..line(10_000, 5_200) };
    let plan = tick(&line, &pages(&entries), &[], &people(&line, &[1; 200]));
    let written: BTreeSet<u64> = plan.moves.iter().map(|made| page_of(made.position)).collect();
    assert_eq!((written.len(), plan.line.serving), (90, 5_000), "the others are for the next tick");
}

#[test]
fn a_line_is_over_when_it_is_closed_and_nothing_is_open() {
    let line = Line { serving: 1, ..line(1, 1) };
    let closed = Line { settings: Settings { closes_at: NOW, ..line.settings.clone() }, ..line };
    let is_over = |entry: &str| tick(&closed, &pages(&[entry]), &[], &BTreeMap::new()).is_over;
    assert!(is_over("S1:0:1:0") && is_over("P1:0:1:1"));
    assert!(!is_over("H1:20000000:1:0") && !is_over(&format!("F1:{SOON}:1:0")));
}
