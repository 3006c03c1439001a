//! The pictures of `cargo local` and `cargo redrive` in a terminal: they show what the programs print today, but for times
//! and message ids. This draws them anew:
//!
//! ```sh
//! HOLDFAST_PICTURES=write cargo test --test integration pictures
//! ```

mod terminal;

use std::{env, fs, time::Duration};

use local_stack::{
    build::workspace,
    queue::{Message, Queue, QueueOptions},
    replay::Replay,
    scenario::{self, Outcome},
    stack::Stack,
};
use tokio::process::Command;

use crate::{harness::binaries, redrive::Run};

/// What is replayed in the picture of `cargo local`: each kind of end once.
const REPLAYED: [&str; 5] = ["single", "duplicate", "late-approval", "malformed-body", "not-visible-yet"];

/// Whose dead letters are in the picture of `cargo redrive`, and how many minutes ago they were sent: one that a redrive helps,
/// and two that need a person.
const DEAD: [(&str, u64); 3] = [("seats-lost", 200), ("malformed-body", 41), ("exhausted", 18)];

/// What stands before the time of a record.
const ENDS: [Outcome; 7] = [
    Outcome::Success,
    Outcome::Duplicate,
    Outcome::Superseded,
    Outcome::LateApproval,
    Outcome::Retried,
    Outcome::Exhausted,
    Outcome::Rejected,
];

/// Compares a picture with what a command prints, or draws it when that is asked for.
#[track_caller]
fn is_shown(name: &str, command: &str, output: &str) {
    let path = workspace().join("tests/pictures").join(name);
    if env::var_os("HOLDFAST_PICTURES").is_some_and(|value| value == "write") {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
        fs::write(&path, terminal::draw(command, output)).expect("the picture is written");
    }
    let picture = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let shown = told(&terminal::text(&picture));
    let printed = told(&format!("$ {command}\n\n{output}"));
    let mend = "the picture is stale; draw it anew: HOLDFAST_PICTURES=write cargo test --test integration pictures";
    assert_eq!(shown, printed, "{name}: {mend}");
}

/// The words of each line that say something, without what differs in every run: times, message ids and ports.
fn told(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let told = words.iter().enumerate().map(|(index, word)| {
            let before = index.checked_sub(1).map_or("", |before| words[before]);
            let after = words.get(index + 1).copied().unwrap_or_default();
            let is_time = ENDS.iter().any(|end| end.as_str() == before) || ["s", "s:"].contains(&after);
            if is_time && word.parse::<f64>().is_ok() {
                "TIME".to_owned()
            } else if is_id(word) {
                "ID".to_owned()
            } else {
                without_port(word)
            }
        });
        told.collect::<Vec<_>>().join(" ")
    });
    lines.filter(|line| !line.is_empty()).collect()
}

/// Whether it is an id as SQS makes them.
fn is_id(word: &str) -> bool {
    let parts: Vec<usize> = word.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// A stack's services listen on any free ports.
fn without_port(word: &str) -> String {
    match word.split_once("127.0.0.1:") {
        Some((before, after)) => {
            format!("{before}127.0.0.1:{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => word.to_owned(),
    }
}

#[tokio::test]
async fn the_picture_of_cargo_local_shows_what_it_prints() {
    let files = REPLAYED.map(|case| format!("events/payment-approved/{case}.json"));
    let mut program = Command::new(env!("CARGO_BIN_EXE_local"));
    let output = program.current_dir(workspace()).args(files).output().await.expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let command = format!("cargo local events/payment-approved/{{{}}}.json", REPLAYED.join(","));
    is_shown("local.svg", &command, &String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn the_picture_of_cargo_redrive_shows_what_it_prints() {
    let stack = Stack::start().await.expect("the stack starts");
    let replay = Replay::new(stack.clone(), binaries()).expect("the binaries are there");
    // The queues as a deployment names them.
    let queues = ["holdfast-dev-payment-approved", "holdfast-dev-payment-approved-dlq"];
    let [source, dead] = queues.map(|name| Queue::new(name, QueueOptions::default()));
    for queue in [&source, &dead] {
        stack.aws.add_queue(queue.clone());
    }
    for (case, minutes) in DEAD {
        let path = scenario::events_folder().join("payment-approved").join(case).with_extension("json");
        let file = scenario::load(path).expect("the file is valid");
        assert!(replay.file(&file).await.is_as_promised(), "{case}");
        let letter = stack.dead_letters("payment-approved").messages().pop().expect("the file makes a dead letter");
        let age = Duration::from_secs(minutes * 60 + 30);
        dead.send(Message { attributes: letter.attributes, age, ..Message::new(letter.body) }).expect("SQS takes it");
    }
    let arguments = ["payment-approved", "--stack", "holdfast-dev"];
    let run = Run::of(&stack, &arguments).await;
    is_shown("redrive.svg", &format!("cargo redrive {}", arguments.join(" ")), &run.ended(0).output);
}

#[test]
fn a_picture_is_stale_when_it_says_something_else_and_not_when_it_took_longer() {
    let printed = " FILE  OUTCOME  MS\n one   success   9  ✓\n\n1 file in 0.2 s: kept <&> at 127.0.0.1:4000,\n 3 s  00000000-1111-2222-3333-444444444444";
    let later = printed.replace("  9 ", " 12 ").replace("0.2 s", "10.3 s").replace(":4000", ":51");
    let later = later.replace(" 3 s ", " 11 s ").replace("-444", "-abc");
    let told_by = |output: &str| told(&terminal::text(&terminal::draw("a command", output)));
    assert_eq!(told_by(printed), told(&format!("$ a command\n\n{printed}")), "nothing is lost on the way");
    assert_eq!(told_by(printed), told_by(&later));
    for (said, other) in
        [("1 file", "2 files"), ("success", "retried"), ("✓", "✗"), ("kept", "did not keep"), ("FILE", "NAME")]
    {
        assert_ne!(told_by(printed), told_by(&printed.replace(said, other)), "{said}");
    }
}
