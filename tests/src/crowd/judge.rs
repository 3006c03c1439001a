//! What came of a sale, by the tables and the books, and what of it must not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use shared::waiting_room::{line::Line, sequence::Pending};

use super::{
    Report, SHOW, Venue,
    person::{Fate, Person, add},
    watch::Watched,
};
use crate::{
    arrivals::{displacement, inversions, late},
    books::{Books, Breach, Kept},
    sale::HeldError,
};

/// A free ticket whose turn is somebody's is his after so many ticks at most.
const TICKS_TO_A_CALL: u32 = 2;

pub(super) async fn report(
    venue: &Venue,
    people: &[Person],
    watched: Watched,
    started: Instant,
    elapsed: Duration,
    (books, mut breaches): (&Books, Vec<Breach>),
) -> Result<Report, HeldError> {
    let table = &venue.doors.table;
    let line = table.line(SHOW).await?;
    let line = line.ok_or_else(|| HeldError::Line(format!("the line of {SHOW} is gone")))?;
    let places = table.standing(&line, &(1..=line.joined).collect()).await?;
    let places: Vec<Pending> = places.into_values().collect();
    breaches.extend(of_line(&line, &watched, books));
    breaches.extend(of_people(people, &places, books));

    let arrivals: Vec<u64> = places.iter().map(|place| place.arrival).collect();
    let first = arrivals.iter().min().copied().unwrap_or_default();
    let last = arrivals.iter().max().copied().unwrap_or_default();
    let after_open = started.duration_since(venue.opened);
    let placed = watched.samples.iter().find(|sample| sample.joined == line.joined);
    let mut fates = BTreeMap::new();
    for fate in people.iter().filter_map(|person| person.visit.fate) {
        *fates.entry(fate).or_default() += 1;
    }
    let since_join = |person: &Person, at: Instant| Some(at.duration_since(person.visit.joined_at?));
    let mut known_after: Vec<Duration> =
        people.iter().filter_map(|person| since_join(person, person.visit.known?.0)).collect();
    let mut waited: Vec<Duration> =
        people.iter().filter_map(|person| since_join(person, person.visit.called_at?)).collect();
    known_after.sort_unstable();
    waited.sort_unstable();
    let (mut requests, mut bytes) = ([0; 3], [0; 3]);
    for person in people {
        add(&mut requests, person.visit.requests);
        add(&mut bytes, person.visit.bytes);
    }
    Ok(Report {
        options: venue.options,
        fates,
        arrived_within: Duration::from_millis(last - first),
        placed_within: placed.map(|sample| sample.at.saturating_sub(after_open)).unwrap_or_default(),
        known_after,
        waited,
        inversions: inversions(&arrivals),
        displacement: displacement(&arrivals),
        late: late(&arrivals),
        arrivals: arrivals.into_iter().map(|arrival| arrival - first).collect(),
        sold: books.reservations.values().map(tickets_of).sum(),
        unsold: watched.unsold,
        refunds: books.refunds(),
        killed: 0,
        requests,
        bytes,
        operations: BTreeMap::new(),
        taken: BTreeMap::new(),
        samples: watched.samples,
        elapsed,
        breaches,
    })
}

/// What must not be of the line as a whole.
fn of_line(line: &Line, watched: &Watched, books: &Books) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut breach = |what: String| breaches.push(Breach { about: "the line".to_owned(), what });
    if watched.over > 0 {
        breach(format!("{} more seats than tickets were given out at the same moment", watched.over));
    }
    if watched.unsold.1 > TICKS_TO_A_CALL {
        let (time, ticks) = watched.unsold;
        breach(format!("tickets were free for {ticks} ticks, {:.1} s, while somebody waited", time.as_secs_f64()));
    }
    let sold: u32 = books.reservations.values().map(tickets_of).sum();
    let tickets = line.settings.tickets;
    if sold > tickets {
        breach(format!("{sold} tickets are sold, of {tickets}"));
    }
    let shown = watched.samples.last().map_or(0, |sample| sample.sold);
    if shown != sold {
        breach(format!("its pages say that {shown} tickets are sold, and {sold} are"));
    }
    if sold < tickets && line.serving < line.joined {
        breach(format!("{} tickets are left, and {} people wait", tickets - sold, line.joined - line.serving));
    }
    breaches
}

/// What must not be of anybody.
fn of_people(people: &[Person], places: &[Pending], books: &Books) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut positions: BTreeMap<String, u64> = BTreeMap::new();
    for (position, place) in (1..).zip(places) {
        if let Some(other) = positions.insert(place.id.to_string(), position) {
            let what = format!("it has the places {other} and {position}");
            breaches.push(Breach { about: place.id.to_string(), what });
        }
    }
    let mut bought: BTreeMap<&str, u32> = BTreeMap::new();
    for kept in books.reservations.values().filter(|kept| kept.status == SOLD) {
        *bought.entry(kept.user_id.as_str()).or_default() += 1;
    }
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for person in people {
        let bought = bought.get(person.user_id.as_str()).copied().unwrap_or_default();
        let mut faults = faults_of(person, &positions, bought);
        faults.extend(person.visit.paid.iter().filter_map(|(payment, id)| books.payment_fault(payment, id)));
        for id in &person.visit.ids {
            if let Some(other) = owners.insert(id, &person.user_id).filter(|other| *other != person.user_id) {
                faults.push(format!("{id} is the place of {other} too"));
            }
        }
        breaches.extend(faults.into_iter().map(|what| Breach { about: person.user_id.clone(), what }));
    }
    let strangers = positions.keys().filter(|id| !owners.contains_key(id.as_str()));
    breaches.extend(strangers.map(|id| Breach { about: id.clone(), what: "nobody was told of this place".to_owned() }));
    breaches
}

/// What contradicts itself in what a person was told, by the positions of all places and the reservations that he bought.
fn faults_of(person: &Person, positions: &BTreeMap<String, u64>, bought: u32) -> Vec<String> {
    let visit = &person.visit;
    let mut faults = Vec::new();
    let ids: BTreeSet<&String> = visit.ids.iter().collect();
    if ids.len() > 1 {
        faults.push(format!("he has two places: {ids:?}"));
    }
    for id in ids {
        match positions.get(id) {
            None => faults.push(format!("{id} has no place")),
            Some(position) if visit.positions.iter().any(|told| told != position) => {
                faults.push(format!("he was told {:?}, and stands at {position}", visit.positions));
            }
            Some(_) => {}
        }
    }
    match visit.fate {
        None | Some(Fate::Lost) => {
            let words = visit.last_words.clone().unwrap_or_default();
            faults.push(format!("he was lost, as one who {:?}: {words}", person.habit));
        }
        Some(Fate::Bought) if bought != 1 => faults.push(format!("he bought once, and {bought} reservations are sold")),
        Some(fate) if fate != Fate::Bought && bought > 0 => {
            faults.push(format!("he ended as {fate:?}, and {bought} reservations are sold"));
        }
        Some(_) => {}
    }
    faults
}

const SOLD: &str = "CONFIRMED";

/// The tickets that a reservation has bought.
fn tickets_of(kept: &Kept) -> u32 {
    if kept.status == SOLD { kept.quantity } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::{Options, person::Visit};

    #[test]
    fn what_a_person_was_told_has_to_be_what_is() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Visit), bought: u32, expected: &str) {
            let mut person = Person::with(1, &Options::SMALL, &mut fastrand::Rng::with_seed(1));
            person.visit.ids = vec!["q1a".to_owned()];
            person.visit.positions = vec![2, 2];
            person.visit.fate = Some(Fate::Bought);
            change(&mut person.visit);
            let faults = faults_of(&person, &[("q1a".to_owned(), 2)].into(), bought).join("; ");
            assert!(if expected.is_empty() { faults.is_empty() } else { faults.contains(expected) }, "{faults}");
        }
        check(|_| {}, 1, "");
        check(|_| {}, 2, "bought once, and 2");
        check(|_| {}, 0, "bought once, and 0");
        check(|visit| visit.fate = Some(Fate::SoldOut), 0, "");
        check(|visit| visit.fate = Some(Fate::SoldOut), 1, "ended as SoldOut");
        check(|visit| visit.fate = Some(Fate::Lost), 0, "lost");
        check(|visit| visit.fate = None, 0, "lost");
        check(|visit| visit.positions.push(3), 1, "stands at 2");
        check(|visit| visit.ids.push("q1b".to_owned()), 1, "two places");
        check(|visit| visit.ids = vec!["q1c".to_owned()], 1, "has no place");
    }
}
