use super::*;

const NOW: Moment = 1_000_000;

fn entry(state: State) -> Entry {
    Entry { state, seats: 2, deadline: NOW + 1, call: 3, passed: 1 }
}

/// Every change, with odd numbers in it.
const CHANGES: [(&str, Change); 9] = [
    ("claim", Change::Claim { until: 7 }),
    ("pass", Change::Pass { at: 7 }),
    ("recall", Change::Recall { until: 7, seats: 1 }),
    ("give up", Change::GiveUp { at: 7 }),
    ("hold", Change::Hold { until: 7, seats: 1 }),
    ("sell", Change::Sell { seats: 1, at: 7 }),
    ("retry", Change::Retry),
    ("end", Change::End { until: 7 }),
    ("entomb", Change::Entomb { at: 7 }),
];

#[test]
fn what_may_become_of_a_place_is_this_table() {
    let line = |(state, letter): (State, char)| {
        let to = |(name, change)| Some(format!("{name} {}", entry(state).after(change)?));
        let to: Vec<String> = CHANGES.into_iter().filter_map(to).collect();
        format!("{letter}: {}", to.join(", "))
    };
    let table: Vec<String> = State::ALL.into_iter().map(line).collect();
    assert_eq!(
        table,
        [
            "C: claim A2:7:3:1, pass P2:7:3:2, give up X2:7:3:1",
            "A: give up L2:7:3:1, hold H1:7:3:1, sell S1:7:3:1, retry A2:1000001:4:1, end F2:7:3:1, entomb F2:7:3:1",
            "L: hold H1:7:3:1, sell S1:7:3:1, end F2:7:3:1, entomb X2:7:3:1",
            "H: hold H1:7:3:1, sell S1:7:3:1, end F2:7:3:1, entomb F2:7:3:1",
            "S: ",
            "F: ",
            "P: recall C1:7:4:1, give up X2:7:3:1",
            "X: ",
        ]
    );
}

#[test]
fn who_did_not_answer_three_calls_is_not_called_again() {
    let recall = Change::Recall { until: 7, seats: 1 };
    let passed = |passed| Entry { passed, ..entry(State::Passed) }.after(recall).is_some();
    assert_eq!([passed(1), passed(2), passed(3)], [true, true, false]);
}

#[test]
fn what_counts_and_what_is_settled_is_this_table() {
    let line = |(state, letter): (State, char)| {
        let now = entry(state);
        let later = NOW + 1;
        let marks = [
            ("counts", now.counts(NOW)),
            ("and after its deadline", now.counts(later)),
            ("comes back", now.may_come_back(NOW)),
            ("overdue", now.is_overdue(later) && !now.is_overdue(NOW)),
            ("settled", now.is_settled(NOW)),
            ("settled later", !now.is_settled(NOW) && now.is_settled(later)),
        ];
        let marks: Vec<&str> = marks.into_iter().filter(|(_, holds)| *holds).map(|(mark, _)| mark).collect();
        format!("{letter}: {}", marks.join(", "))
    };
    let table: Vec<String> = State::ALL.into_iter().map(line).collect();
    assert_eq!(
        table,
        [
            "C: counts, and after its deadline, comes back",
            "A: counts, and after its deadline, comes back, overdue",
            "L: counts, and after its deadline, comes back, overdue",
            "H: counts, and after its deadline, comes back, overdue",
            "S: counts, and after its deadline, settled",
            "F: counts, comes back, settled later",
            "P: settled",
            "X: settled",
        ]
    );
}

/// What a reservation makes of a place, before its deadline and after it.
fn judged(state: State, found: Found) -> String {
    let text = |now| match entry(state).judged(found, now, &Terms::DEFAULT) {
        Judged::Stays => "stays".to_owned(),
        Judged::Becomes(entry) => entry.to_string(),
        Judged::Entomb => "entomb".to_owned(),
    };
    format!("{} / {}", text(NOW), text(NOW + 1))
}

#[test]
fn a_reservation_decides_what_becomes_of_its_place() {
    use State::{Admitted, Holding, Leaving};

    let held = Found::Held { until: NOW + 60_000, seats: 1 };
    let pending = Found::Pending { until: NOW + 60_000 };
    for (state, found, expected) in [
        (Admitted, Found::Absent, "stays / entomb"),
        (Leaving, Found::Absent, "stays / entomb"),
        (Holding, Found::Absent, "stays / entomb"),
        (Admitted, pending, "stays / H2:1090000:3:1"),
        (Holding, pending, "stays / H2:1090000:3:1"),
        (Admitted, held, "H1:1090000:3:1 / H1:1090000:3:1"),
        (Leaving, held, "H1:1090000:3:1 / H1:1090000:3:1"),
        (Holding, Found::Held { until: 5, seats: 2 }, "H2:30005:3:1 / H2:1030001:3:1"),
        (Admitted, Found::Sold { seats: 1 }, "S1:1000000:3:1 / S1:1000001:3:1"),
        (Holding, Found::Sold { seats: 9 }, "S2:1000000:3:1 / S2:1000001:3:1"),
        (Holding, Found::Sold { seats: 0 }, "S1:1000000:3:1 / S1:1000001:3:1"),
        (Leaving, Found::Sold { seats: 2 }, "S2:1000000:3:1 / S2:1000001:3:1"),
        (Admitted, Found::Ended { was_held: true }, "F2:1005000:3:1 / F2:1005001:3:1"),
        (Admitted, Found::Ended { was_held: false }, "A2:1000001:4:1 / F2:1005001:3:1"),
        (Leaving, Found::Ended { was_held: false }, "F2:1005000:3:1 / F2:1005001:3:1"),
        (Holding, Found::Ended { was_held: false }, "F2:1005000:3:1 / F2:1005001:3:1"),
        (Admitted, Found::Entombed, "F2:1000000:3:1 / F2:1000001:3:1"),
        (Leaving, Found::Entombed, "X2:1000000:3:1 / X2:1000001:3:1"),
    ] {
        assert_eq!(judged(state, found), expected, "{state:?} {found:?}");
    }
    for state in [State::Called, State::Sold, State::Ended, State::Passed, State::GivenUp] {
        assert_eq!(judged(state, Found::Sold { seats: 2 }), "stays / stays", "{state:?}");
    }
}

#[test]
fn a_hold_that_is_known_already_changes_nothing() {
    let holding = Entry { deadline: NOW + 90_000, ..entry(State::Holding) };
    let found = Found::Held { until: NOW + 60_000, seats: 2 };
    assert_eq!(holding.judged(found, NOW, &Terms::DEFAULT), Judged::Stays);
}

#[test]
fn an_entry_reads_back_from_its_text_and_no_other_text_is_one() {
    for (state, _) in State::ALL {
        assert_eq!(entry(state).to_string().parse(), Ok(entry(state)));
    }
    for text in ["", "C", "C1", "C1:2", "C1:2:3", "C1:2:3:4:5", "Z1:2:3:4", "C256:2:3:4", "C-1:2:3:4", "C1:x:3:4"] {
        assert_eq!(text.parse::<Entry>(), Err(NoEntry(text.to_owned())));
    }
}

#[test]
fn a_turn_reads_back_from_its_reservation_and_no_other_reservation_is_of_one() {
    let turn = Turn { id: PlaceId::of(1, [7; 16]), position: 12, call: 3 };
    let id = turn.reservation_id();
    assert_eq!(Turn::of_reservation(&id), Some(turn));
    assert!(id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{id}");
    for other in [
        "rsv_abcdefghijklmnopqrstuvwxyz".to_owned(),
        turn.to_string(),
        format!("{id}_1"),
        id.replace("_12_", "_012_"),
        id.replace("_12_", "_+12_"),
        id.replace("_3", ""),
    ] {
        assert_eq!(Turn::of_reservation(&other), None, "{other}");
    }
}
