//! The mapping's rules: the local stack against what AWS documents, row by row, and against MiniStack, which is somebody
//! else's reading of it. Where MiniStack ends a message in another way than AWS, the difference has a name here and is
//! asserted as well: a MiniStack that agrees with AWS turns the test red, and the difference goes.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod table;

mod cases;
mod requests;

mod account;
mod endpoint;
mod function;
mod local;
mod package;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use local_stack::{
    build::workspace,
    lambda::FunctionError,
    mapping::{MAX_PAYLOAD_BYTES, MappingOptions, Verdict},
    queue::Message,
};
use serde_json::json;

use self::{
    account::Account,
    cases::{CASES, Case, End},
    endpoint::Observed,
    function::{Order, Reply, sightings},
    local::{Local, send},
    requests::{CREATIONS, REQUESTS},
    table::{Held, ROWS},
};

/// How much later than it could a message may come back. Less than lies between any two waits that a case tells apart.
const SLACK: Duration = Duration::from_secs(4);

#[test]
fn each_row_is_held_by_something_that_exists() {
    let package = workspace().join("tests");
    let read = |path: &str| fs::read_to_string(package.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let here: BTreeSet<&str> = rows_held_here().collect();
    for row in ROWS {
        assert!(!row.aws.is_empty() && !row.held.is_empty(), "{}: nothing is said", row.name);
        for held in row.held {
            let stands = match held {
                Held::Here => here.contains(row.name),
                Held::Test(file, name) => read(file).contains(&format!("fn {name}(")),
                Held::Rule(file, name) => {
                    read(&format!("template/rules/{file}")).contains(&format!("name: \"{name}\""))
                }
                Held::Nothing(reason) => !reason.is_empty(),
            };
            assert!(stands, "{}: {held:?} is not there", row.name);
        }
    }
    let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!((names.len(), ROWS.len()), (25, 25), "AWS documents 25 rows");
    let unknown: Vec<_> = here.difference(&names).collect();
    assert!(unknown.is_empty(), "cases name rows that are not there: {unknown:?}");
    for row in ROWS.iter().filter(|row| here.contains(row.name)) {
        assert!(
            row.held.iter().any(|held| matches!(held, Held::Here)),
            "{}: it is held here, and must say so",
            row.name
        );
    }
}

fn rows_held_here() -> impl Iterator<Item = &'static str> {
    let cases = CASES.iter().map(|case| case.row);
    cases.chain(REQUESTS.iter().map(|request| request.row)).chain(CREATIONS.iter().map(|creation| creation.row))
}

#[test]
fn no_two_cases_have_one_name() {
    let names = CASES.iter().map(|case| case.name);
    let names: Vec<_> = names.chain(REQUESTS.iter().map(|request| request.name)).map(slug).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_stack_ends_each_case_as_aws_does() {
    let local = Local::start("local-cases", 2).await;
    let mut faults = Vec::new();
    for case in CASES {
        faults.extend(fault(case, case.ends, &local.run(case).await));
    }
    for request in REQUESTS {
        let queue = slug(request.name);
        local.queue(&queue, Duration::from_secs(30), 5);
        let answer = request.make(local.endpoint(), &queue).await;
        faults.extend(refusal_fault(request.name, request.refused, answer.err()));
        assert_eq!(local.endpoint().length(&queue).await, 1, "{}: the message stays", request.name);
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(!local.function.all_logs().iter().any(|line| line.contains(function::PANIC)), "the function did as told");
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_ends_each_case_as_aws_does_but_for_named_differences() {
    let Some(account) = Account::start("ministack-cases").await else { return };
    let mut differences = BTreeSet::new();
    let mut faults = Vec::new();
    let observed = stream::iter(CASES).map(async |case| (case, account.run(case).await)).buffer_unordered(CASES.len());
    for (case, observed) in observed.collect::<Vec<_>>().await {
        let expected = case.ministack.as_ref().map_or(case.ends, |difference| difference.ends);
        faults.extend(fault(case, expected, &observed));
        if let Some(difference) = &case.ministack {
            assert_ne!(difference.ends, case.ends, "{}: that is no difference", case.name);
            differences.insert(difference.name);
        }
    }
    for request in REQUESTS {
        let queue = slug(request.name);
        account.queue(&queue, 30, 5).await;
        let answer = request.make(account.endpoint(), &queue).await;
        let expected = request.ministack.map_or(request.refused, |(_, refused)| refused);
        faults.extend(refusal_fault(request.name, expected, answer.err()));
        differences.extend(request.ministack.map(|(name, _)| name));
    }
    for (index, creation) in CREATIONS.iter().enumerate() {
        let queue = format!("creation-{index}");
        account.queue(&queue, creation.visibility_seconds, 5).await;
        let answer = account.map(&queue, &(creation.properties)()).await;
        let refused = creation.ministack.is_none();
        if answer.is_err() != refused {
            faults.push(format!("{}: refused is {refused} for MiniStack, which says {answer:?}", creation.name));
        }
        differences.extend(creation.ministack);
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(!account.panicked(), "the function did as told");
    let names = Vec::from_iter(differences);
    let line = format!("mapping: {} differences between MiniStack and AWS: {}\n", names.len(), names.join("; "));
    // Not by a macro: the test harness shows what macros print only when a test fails.
    drop(io::stderr().write_all(line.as_bytes()));
}

/// What is wrong about the end of a case.
fn fault(case: &Case, expected: [End; 2], observed: &Observed) -> Option<String> {
    let back = match (case.back_after, observed.back_after) {
        (None, _) => true,
        (Some(seconds), Some(found)) => {
            let found = Duration::from_millis(found);
            let least = Duration::from_secs(seconds);
            // The queue's clock and the function's are read a moment apart.
            found + Duration::from_millis(100) >= least && found < least + SLACK
        }
        (Some(_), None) => false,
    };
    let holds = observed.ends == expected && back;
    (!holds).then(|| format!("{}: {observed:?}, not {expected:?} and back after {:?} s", case.name, case.back_after))
}

fn refusal_fault(name: &str, expected: Option<&str>, refusal: Option<String>) -> Option<String> {
    let holds = match (expected, &refusal) {
        (None, None) => true,
        (Some(code), Some(text)) => text.contains(code),
        (None, Some(_)) | (Some(_), None) => false,
    };
    (!holds).then(|| format!("{name}: refused with {refusal:?}, not {expected:?}"))
}

/// One environment is busy for longer than a message is hidden, so Lambda throttles until it lets go of the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_message_is_dropped_back_and_dies_unseen() {
    let local = Local::limited("local-throttled", 1, Duration::from_secs(20)).await;
    let journal = local.journal("journal");
    let (first, second) =
        (local.queue("first", Duration::from_secs(30), 5), local.queue("second", Duration::from_millis(200), 1));
    send(&first, "busy", &[Reply::Works(3_000)], &journal);
    let busy = tokio::spawn({
        let mapping = local.map(&first, MappingOptions::default());
        async move { mapping.deliver_once().await.unwrap() }
    });
    until_seen(&journal, 1).await;
    send(&second, "a", &[Reply::Says("{}")], &journal);
    let mapping = local.map(&second, MappingOptions::default());
    let throttled = mapping.deliver_once().await.unwrap();
    assert_eq!(throttled.invocation.result, Err(FunctionError::Throttled));
    second.skip_wait();
    assert!(mapping.deliver_once().await.is_none(), "the message is worn out");
    assert_eq!(busy.await.unwrap().verdict, Verdict::Success);
    let observed = local.endpoint().observed("second-dlq", &sightings(&journal)).await;
    assert_eq!(observed.ends[0], End::Dead { receives: 1, seen: 0 });
}

/// As above. MiniStack counts what is in hand for all callers, and throttles at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ministack_throttles_dies_unseen() {
    let Some(account) = Account::start("ministack-throttled").await else { return };
    account.reserve(1).await;
    // One invocation lasts longer than the second that a mapping of MiniStack may take to begin.
    account.limit(20).await;
    let journal = account.journal("journal");
    account.queue("first", 30, 5).await;
    account.queue("second", 1, 1).await;
    account.endpoint().send("first", &[Order::body("busy", &[Reply::Works(4_000)], &journal)]).await;
    account.map("first", &json!({})).await.unwrap();
    until_seen(&journal, 1).await;
    account.endpoint().send("second", &[Order::body("a", &[Reply::Says("{}")], &journal)]).await;
    account.map("second", &json!({})).await.unwrap();
    account.emptied("second").await;
    let observed = account.endpoint().observed("second-dlq", &sightings(&journal)).await;
    assert_eq!(observed.ends[0], End::Dead { receives: 1, seen: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_invokes_side_by_side_up_to_its_limit() {
    let local = Local::start("local-concurrency", 8).await;
    let journal = local.journal("journal");
    let queue = local.queue("queue", Duration::from_secs(30), 5);
    (0..6).for_each(|_| send(&queue, "a", &[Reply::Works(300)], &journal));
    let options = MappingOptions { batch_size: 1, maximum_concurrency: 3, ..MappingOptions::default() };
    let deliveries = local.map(&queue, options).drain().await;
    // A process is started only when none is free.
    let processes = deliveries.iter().filter(|delivery| delivery.invocation.cold).count();
    assert_eq!((deliveries.len(), processes), (6, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_at_most_as_many_records_as_set() {
    let local = Local::start("local-batch-size", 1).await;
    let journal = local.journal("journal");
    for (batch_size, expected) in [(10, vec![10, 2]), (12, vec![12]), (5, vec![5, 5, 2])] {
        let queue = local.queue("queue", Duration::from_secs(30), 5);
        (0..12).for_each(|_| send(&queue, "a", &[Reply::Says("{}")], &journal));
        let options = MappingOptions { batch_size, maximum_concurrency: 1, ..MappingOptions::default() };
        let deliveries = local.map(&queue, options).drain().await;
        assert_eq!(deliveries.iter().map(|delivery| delivery.batch.len()).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_large_messages_stays_below_the_limit_of_a_payload() {
    let local = Local::start("local-payload", 1).await;
    let journal = local.journal("journal");
    let queue = local.queue("queue", Duration::from_secs(30), 5);
    let padding = "x".repeat(1_000_000);
    let order = Order { label: "a", replies: vec![Reply::Says("{}")], journal: journal.clone(), padding };
    (0..10).for_each(|_| drop(queue.send(Message::new(json!(order).to_string())).unwrap()));
    let deliveries =
        local.map(&queue, MappingOptions { maximum_concurrency: 1, ..MappingOptions::default() }).drain().await;
    let sizes: Vec<usize> = deliveries.iter().map(|delivery| delivery.batch.len()).collect();
    assert!(queue.is_empty() && sightings(&journal).len() == 10, "each is seen once and deleted");
    assert!(sizes.len() > 1 && sizes.iter().all(|size| size * 1_000_000 < MAX_PAYLOAD_BYTES), "{sizes:?}");
}

/// A wait is a message's visibility.
#[test]
fn no_code_of_a_function_sleeps() {
    let mut folders = vec![workspace().join("shared/src"), workspace().join("functions")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files += 1;
                let text = fs::read_to_string(&path).unwrap();
                let sleeps = ["sleep(", "sleep_until(", "sleep;"].into_iter().find(|call| text.contains(call));
                assert_eq!(sleeps, None, "{}", path.display());
            }
        }
    }
    assert!(files > 30, "all of the code is read: {files} files");
}

/// Waits until the function has seen so many messages.
async fn until_seen(journal: &Path, count: usize) {
    for _ in 0..600 {
        if sightings(journal).len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the function does not see {count} messages");
}

/// An empty folder for what a test writes.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("mapping").join(name);
    drop(fs::remove_dir_all(&folder)); // An earlier run may have left one.
    fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// A sentence as the name of a queue.
fn slug(sentence: &str) -> String {
    let words = sentence.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}
