//! The double of the table beside the real one: random walks through joining, in which two sequencers use what they read some
//! steps ago. Both must say the same to everything.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use local_stack::aws::AwsEndpoint;
use shared::waiting_room::{
    line::Line,
    sequence::{Block, Pending, sequence},
    table::{Join, Joined, Table, Written},
};

use super::joining::{self, Sabotage, line, person};

const WALKS: u64 = 16;
const STEPS: usize = 40;

/// What a sequencer read, of both.
struct Snapshot {
    line: Line,
    real: Vec<Block>,
    double: Vec<Block>,
}

#[tokio::test]
async fn the_table_of_the_model_does_what_the_real_one_does() {
    let aws = AwsEndpoint::start().await.expect("an endpoint");
    let (mut appended, mut overtaken, mut standing) = (0, 0, 0);
    for seed in 0..WALKS {
        let name = format!("waiting-room-{seed}");
        aws.create_waiting_room_table(&name).await.expect("a table");
        let table = Table::new(aws.tables(), name);
        assert_eq!(table.open(&line()).await.expect("a line"), Written::Made);
        let mut double = joining::Table::new();
        let mut random = Rng::with_seed(seed);
        let mut snapshots: [Option<Snapshot>; 2] = [None, None];
        for step in 0..STEPS {
            let at = format!("walk {seed}, step {step}");
            let by = random.usize(..snapshots.len());
            match (random.u8(..3), snapshots[by].take()) {
                (0, _) => {
                    let people = crowd(&mut random);
                    standing += join(&table, &mut double, &people, &at).await;
                }
                (_, None) => {
                    let line = table.line("evt_1").await.expect("an answer").expect("a line");
                    assert_eq!(line, double.line(), "{at}");
                    snapshots[by] = Some(read(&table, &mut double, line, &at).await);
                }
                (_, Some(snapshot)) => {
                    let now = 2_000 + random.u64(..12);
                    let run = sequence(&snapshot.line, snapshot.real, now);
                    let same = sequence(&snapshot.line, snapshot.double, now);
                    let places = |run: &Option<(Line, shared::waiting_room::sequence::Run)>| {
                        run.as_ref().map(|(line, run)| (line.clone(), run.late.clone(), run.regular.clone()))
                    };
                    assert_eq!(places(&run), places(&same), "{at}");
                    let (Some((line, run)), Some((_, same))) = (run, same) else { continue };
                    let made = table.append(&line, &run).await.expect("an answer") == Written::Made;
                    assert_eq!(made, double.append(&line, &same, Sabotage::None), "{at}");
                    if made {
                        appended += 1;
                        // At times it dies before.
                        if random.bool() {
                            table.clear(&line, &run.taken).await.expect("an answer");
                            double.clear(same.taken);
                        }
                    } else {
                        overtaken += 1;
                    }
                }
            }
        }
        let line = table.line("evt_1").await.expect("an answer").expect("a line");
        let mut position = 0;
        for placed in double.runs.iter().flat_map(|run| &run.people) {
            position += 1;
            let found = table.position(&line, placed.id, placed.arrival).await.expect("an answer");
            assert_eq!(found, Some(position), "walk {seed}: {placed:?}");
        }
    }
    assert!(appended > 40 && overtaken > 4 && standing > 40, "{appended}, {overtaken}, {standing}");
}

/// Some people of ten, each once.
fn crowd(random: &mut Rng) -> Vec<Pending> {
    let numbers: BTreeSet<u8> = (0..random.u8(1..4)).map(|_| random.u8(..10)).collect();
    numbers.into_iter().map(|number| person((number, random.u64(1..10)))).collect()
}

/// Lets them join in both. The number of those who stood in the line before.
async fn join(table: &Table, double: &mut joining::Table, people: &[Pending], at: &str) -> usize {
    let join = |person: &Pending| Join {
        id: person.id,
        user_id: "user".to_owned(),
        seats: person.seats,
        arrival: person.arrival,
        request: None,
    };
    let joins: Vec<Join> = people.iter().map(join).collect();
    let told = table.join(&line(), &joins, 0).await.expect("an answer");
    let standing = double.try_join(people, Sabotage::None);
    let left: Vec<Pending> = people.iter().filter(|person| !standing.contains(&person.id)).copied().collect();
    if !standing.is_empty() && !left.is_empty() {
        assert!(double.try_join(&left, Sabotage::None).is_empty(), "{at}");
    }
    let outcome =
        |person: &Pending| (person.id, if standing.contains(&person.id) { Joined::Before } else { Joined::New });
    assert_eq!(told, people.iter().map(outcome).collect::<BTreeMap<_, _>>(), "{at}");
    standing.len()
}

async fn read(table: &Table, double: &mut joining::Table, line: Line, at: &str) -> Snapshot {
    let real = table.blocks(&line).await.expect("an answer");
    let blocks = double.blocks.iter();
    let mut same: Vec<Block> =
        blocks.map(|(name, people)| Block { name: *name, placed_at: None, people: people.clone() }).collect();
    double.clean(&line, &mut same);
    let people = |blocks: &[Block]| {
        let mut people: Vec<Vec<Pending>> = blocks.iter().map(|block| block.people.clone()).collect();
        people.sort();
        people
    };
    assert_eq!(people(&real), people(&same), "{at}");
    Snapshot { line, real, double: same }
}
