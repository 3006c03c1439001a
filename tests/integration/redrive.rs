//! `cargo redrive`, the real program: what it shows, what it sends, and that it loses nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Stdio,
    time::Duration,
};

use ::redrive::{HIDDEN_FOR, functions};
use axum::http::Method;
use local_stack::{
    aws::Injected,
    build,
    catalogue::all_fed,
    inventory::SeatState,
    queue::{Message, MessageAttribute, Queue, QueueOptions, Redrive, Snapshot},
    reservations::{Scripted, Status},
    stack::{MAX_RECEIVES, MOVED_AFTER, Stack},
};
use serde_json::{Value, json};
use shared::{
    booking,
    name::Named,
    settlement,
    trigger::sqs,
    waiting_room::{joined, message},
};
use tokio::process::Command;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{EVENT, RESERVATION, Sent, World, event, event_with};

/// Nobody's business: it stands in the bodies and must never be printed.
const CUSTOMER: &str = "usr_very_private";

/// What a run of the program did.
pub(crate) struct Run {
    status: Option<i32>,
    pub(crate) output: String,
    errors: String,
}

impl Run {
    pub(crate) async fn of(stack: &Stack, arguments: &[&str]) -> Self {
        let keys = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")];
        Self::with(stack, arguments, &keys).await
    }

    async fn with(stack: &Stack, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let output = Command::new(build::redrive().expect("the program builds"))
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .envs([("AWS_ENDPOINT_URL", stack.aws.url()), ("AWS_EC2_METADATA_DISABLED", "true")])
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        Self { status: output.status.code(), output: text(output.stdout), errors: text(output.stderr) }
    }

    #[track_caller]
    pub(crate) fn ended(&self, status: i32) -> &Self {
        assert_eq!(self.status, Some(status), "{}\n{}", self.output, self.errors);
        self
    }

    #[track_caller]
    fn shows(&self, parts: &[&str]) -> &Self {
        let line = self.output.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        assert!(line.is_some(), "no line has {parts:?} in:\n{}", self.output);
        self
    }

    #[track_caller]
    fn complains(&self, part: &str) -> &Self {
        assert!(self.errors.contains(part), "{part:?} is missing in:\n{}", self.errors);
        self
    }
}

/// A function's two queues, named as the template names them.
struct Queues {
    stack: Stack,
    function: &'static str,
    source: Queue,
    dead: Queue,
}

impl Queues {
    async fn new() -> Self {
        Self::of("payment-approved").await
    }

    async fn of(function: &'static str) -> Self {
        let stack = Stack::start().await.expect("the stack starts");
        let dead = Queue::new(format!("tickets-{function}-dlq"), QueueOptions::default());
        let redrive = Some(Redrive { queue: dead.clone(), max_receive_count: MOVED_AFTER });
        let source = Queue::new(format!("tickets-{function}"), QueueOptions { redrive, ..Default::default() });
        stack.aws.add_queue(dead.clone());
        stack.aws.add_queue(source.clone());
        Self { stack, function, source, dead }
    }

    /// Runs the program for the stack of these queues.
    async fn redrive(&self, arguments: &[&str]) -> Run {
        let found = [self.function, "--stack", "tickets"];
        Run::of(&self.stack, &[found.as_slice(), arguments].concat()).await
    }

    /// A message that the function dead-lettered; answers with its id.
    fn dead_lettered(&self, code: &str, reservation: &str) -> String {
        self.put(&body(reservation), &stamp(code, &format!("{reservation}-before")))
    }

    fn put(&self, body: &str, attributes: &[(&str, &str)]) -> String {
        let attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), MessageAttribute::string(*value))).collect();
        self.dead.send(Message { attributes, ..Message::new(body) }).expect("SQS takes it")
    }

    /// A message that SQS moved, because it was received too often.
    fn moved(&self, reservation: &str) -> String {
        let attributes = BTreeMap::from([("tenant".to_owned(), MessageAttribute::string("north"))]);
        let message = Message { attributes, received_before: MOVED_AFTER, ..Message::new(body(reservation)) };
        let id = self.source.send(message).expect("SQS takes it");
        assert!(self.source.receive(1).is_empty(), "the receives are used up");
        id
    }

    /// A message that EventBridge could not deliver to the source queue.
    fn undelivered(&self, reservation: &str) -> String {
        self.put(
            &body(reservation),
            &[
                ("RULE_ARN", "arn:aws:events:us-east-1:000000000000:rule/tickets/approved"),
                ("TARGET_ARN", &self.source.arn()),
                ("ERROR_CODE", "NO_PERMISSIONS"),
                ("ERROR_MESSAGE", "EventBridge may not send to the queue."),
                ("RETRY_ATTEMPTS", "0"),
            ],
        )
    }

    /// How often the program asked SQS for this.
    fn asked(&self, operation: &str) -> usize {
        self.stack.aws.requests().iter().filter(|request| request.operation() == operation).count()
    }
}

/// Spaces, an escape and a letter beyond ASCII, which a body that was read and written anew would not keep.
fn body(reservation: &str) -> String {
    format!(r#"{{ "detail":  {{"reservation_id": "{reservation}", "user_id": "{CUSTOMER}", "note": "\u00e9 é"}} }}"#)
}

fn stamp<'a>(code: &'a str, source_id: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("error_code", code),
        ("error_message", "the reservation API answered 503"),
        ("event_type", "payment.approved"),
        ("source_message_id", source_id),
    ]
}

fn ids(queue: &Queue) -> Vec<String> {
    queue.messages().into_iter().map(|message| message.id).collect()
}

fn bodies(queue: &Queue) -> Vec<String> {
    queue.messages().into_iter().map(|message| message.body).collect()
}

#[track_caller]
fn all_visible(queue: &Queue) {
    assert!(queue.messages().iter().all(|message| message.visible_in.is_zero()), "{:#?}", queue.messages());
}

#[tokio::test]
async fn every_kind_of_letter_is_shown_with_its_reason_and_nothing_is_changed() {
    let queues = Queues::new().await;
    let (dead_lettered, moved) =
        (queues.dead_lettered("retries_exhausted", "rsv_dead_lettered"), queues.moved("rsv_moved"));
    let undelivered = queues.undelivered("rsv_undelivered");
    let strange = queues.put("not JSON", &[]);
    let before = queues.dead.messages();

    let run = queues.redrive(&[]).await;
    run.ended(0)
        .shows(&["function", "retries_exhausted", "rsv_dead_lettered", &dead_lettered])
        .shows(&["the reservation API answered 503"])
        .shows(&["message_id rsv_dead_lettered-before"])
        .shows(&["queue", "max_receive_count", "rsv_moved", &moved])
        .shows(&["EventBridge", "NO_PERMISSIONS", "rsv_undelivered", &undelivered])
        .shows(&["EventBridge may not send to the queue. (rule tickets/approved, 0 retries)"])
        .shows(&["unknown", "no_reason", " - ", &strange])
        .shows(&["4 messages read, 4 shown.", "about 4, 0 of them"])
        .shows(&["By reason: NO_PERMISSIONS 1, max_receive_count 1, no_reason 1, retries_exhausted 1."])
        .shows(&["Nothing was changed."])
        .shows(&["cargo redrive payment-approved --stack tickets --code retries_exhausted --send"]);
    assert!(!run.output.contains(CUSTOMER) && !run.output.contains("not JSON"), "{}", run.output);
    assert!(run.output.lines().all(|line| line.chars().count() <= 120), "{}", run.output);

    let same = |message: &Snapshot| (message.id.clone(), message.body.clone(), message.attributes.clone());
    assert!(before.iter().map(same).eq(queues.dead.messages().iter().map(same)));
    all_visible(&queues.dead);
    assert!(queues.source.is_empty());
    assert_eq!((queues.asked("SendMessage"), queues.asked("DeleteMessage")), (0, 0));
}

#[tokio::test]
async fn exactly_the_chosen_letters_go_back_as_they_were() {
    let queues = Queues::new().await;
    let own = BTreeMap::from([
        ("tenant".to_owned(), MessageAttribute::string("north")),
        (
            "bytes".to_owned(),
            MessageAttribute {
                data_type: "Binary.png".to_owned(),
                string_value: None,
                binary_value: Some("AAEC/w==".to_owned()),
            },
        ),
        ("weight".to_owned(), MessageAttribute { data_type: "Number".to_owned(), ..MessageAttribute::string("1.50") }),
    ]);
    let mut attributes = own.clone();
    attributes.extend(
        stamp("retries_exhausted", "m-0").map(|(name, value)| (name.to_owned(), MessageAttribute::string(value))),
    );
    let trace_header = Some("Root=1-67891233-abcdef012345678912345678".to_owned());
    let group_id = Some("tenant-1".to_owned());
    let letter = Message { attributes, trace_header, group_id, ..Message::new(body("rsv_1")) };
    queues.dead.send(letter).expect("SQS takes it");
    let stays = [queues.dead_lettered("malformed_body", "rsv_2"), queues.moved("rsv_3")];

    // What the program says that should be typed is what is typed.
    let shown = queues.redrive(&["--code", "retries_exhausted"]).await;
    shown.ended(0).shows(&["3 messages read, 1 shown."]).shows(&["This sends 1 message back:"]);
    let hint = shown.output.lines().find_map(|line| line.trim().strip_prefix("cargo redrive ")).expect("a hint");
    let run = Run::of(&queues.stack, &hint.split(' ').collect::<Vec<_>>()).await;
    run.ended(0).shows(&["1 message sent, 0 not sent."]);

    let [sent] = queues.source.messages().try_into().expect("one message went back");
    assert_eq!(sent.body, body("rsv_1"));
    assert_eq!(sent.attributes, own);
    assert_eq!(sent.system["AWSTraceHeader"], "Root=1-67891233-abcdef012345678912345678");
    assert_eq!(sent.system["MessageGroupId"], "tenant-1");
    assert_eq!(ids(&queues.dead), stays);
    all_visible(&queues.dead);
}

#[tokio::test]
async fn all_goes_back_without_what_function_and_event_bridge_added() {
    let queues = Queues::new().await;
    queues.dead_lettered("unknown_type", "rsv_1");
    queues.moved("rsv_2");
    queues.undelivered("rsv_3");
    queues.redrive(&["--all", "--send"]).await.ended(0).shows(&["3 messages sent, 0 not sent."]);
    assert!(queues.dead.is_empty());
    let names: Vec<(String, Vec<String>)> = queues
        .source
        .messages()
        .into_iter()
        .map(|message| (message.body, message.attributes.into_keys().collect()))
        .collect();
    for (reservation, kept) in [("rsv_1", vec![]), ("rsv_2", vec!["tenant".to_owned()]), ("rsv_3", vec![])] {
        assert!(names.contains(&(body(reservation), kept)), "{reservation}: {names:?}");
    }
}

#[tokio::test]
async fn messages_are_chosen_by_either_of_their_ids_and_by_what_they_are_about() {
    let queues = Queues::new().await;
    let first = queues.dead_lettered("unknown_type", "rsv_1");
    for reservation in ["rsv_2", "rsv_3", "rsv_3", "rsv_4"] {
        queues.dead_lettered("unknown_type", reservation);
    }
    queues.redrive(&["--message", &first, "--message", "rsv_2-before", "--send"]).await.ended(0);
    let mut back = bodies(&queues.source);
    back.sort_unstable();
    assert_eq!(back, [body("rsv_1"), body("rsv_2")]);
    queues.redrive(&["--about", "rsv_3", "--send"]).await.ended(0).shows(&["2 messages sent"]);
    // A line that somebody wrote down before the option had this name.
    queues.redrive(&["--reservation", "rsv_4", "--send"]).await.ended(0).shows(&["1 message sent"]);
    assert!(queues.dead.is_empty());
}

#[test]
fn the_program_knows_every_function_that_has_a_dead_letter_queue() {
    let with_a_queue = all_fed().filter(|function| function.keeps_dead_letters);
    let with_a_queue: BTreeSet<String> = with_a_queue.map(|function| function.name.to_owned()).collect();
    assert_eq!(functions().collect::<BTreeSet<_>>(), with_a_queue);
}

#[tokio::test]
async fn letters_of_bookings_and_of_the_waiting_room_are_found_shown_and_sent_back_too() {
    let created = json!({"bookingId": "bkg_1", "userId": CUSTOMER});
    let called = json!({"detail-type": "place.called", "detail": {"queue_item_id": "plc_1", "user_id": CUSTOMER}});
    for (function, body, code, about) in [
        ("booking-created", created.to_string(), "refund_not_deliverable", "bkg_1"),
        ("waiting-room-called", called.to_string(), "downstream_rejected", "plc_1"),
    ] {
        let queues = Queues::of(function).await;
        let id = queues.put(&body, &stamp(code, "m-0"));
        let other = queues.put("{}", &stamp(code, "m-1"));
        let chosen = ["--about", about];
        let run = queues.redrive(&chosen).await;
        run.ended(0).shows(&["function", code, about, &id]).shows(&["2 messages read, 1 shown."]);
        run.shows(&[&format!("cargo redrive {function} --stack tickets --about {about} --send")]);
        assert!(!run.output.contains(CUSTOMER), "{}", run.output);
        queues.redrive(&[chosen.as_slice(), &["--send"]].concat()).await.ended(0).shows(&["1 message sent"]);
        assert_eq!((bodies(&queues.source), ids(&queues.dead)), (vec![body], vec![other]));
    }
}

#[tokio::test]
async fn the_help_says_what_to_do_about_every_code_that_a_function_rejects_by() {
    fn of<N: Named>() -> impl Iterator<Item = &'static str> {
        N::ALL.iter().map(|code| code.name())
    }
    let stack = Stack::start().await.expect("the stack starts");
    let run = Run::of(&stack, &["--help"]).await;
    let help = &run.ended(0).output;
    let advice = help.split_once("What to do before it is sent back").and_then(|(_, rest)| rest.split_once("\n\n"));
    let (advice, _) = advice.unwrap_or_else(|| panic!("there is no advice in:\n{help}"));
    // The codes stand in the first column, which two spaces end.
    let columns = advice.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
    let named: BTreeSet<&str> = columns.flat_map(|(codes, _)| codes.split(", ")).collect();
    let codes = settlement::error_codes().chain(booking::error_codes()).chain(of::<message::ErrorCode>());
    let codes = codes.chain(of::<joined::ErrorCode>()).chain(of::<sqs::ErrorCode>());
    let missing: BTreeSet<&str> = codes.filter(|code| !named.contains(code)).collect();
    assert_eq!(missing, BTreeSet::new(), "in:\n{help}");
    assert!(!help.contains("--reservation"), "the old name of --about is for what is written down");
}

#[tokio::test]
async fn a_long_queue_is_read_to_its_end() {
    let queues = Queues::new().await;
    for number in 0..23 {
        queues.dead_lettered("retries_exhausted", &format!("rsv_{number}"));
    }
    let shown = queues.redrive(&["--all"]).await;
    shown.ended(0).shows(&["23 messages read, 23 shown."]).shows(&["--stack tickets --all --send"]);
    all_visible(&queues.dead);
    queues.redrive(&["--all", "--send"]).await.ended(0).shows(&["23 messages sent, 0 not sent."]);
    assert_eq!((queues.dead.len(), queues.source.len()), (0, 23));
}

/// The queue's clock goes on by `time` for every receive, as if each had taken that long.
fn each_receive_takes(queues: &Queues, time: Duration) -> AbortOnDropHandle<()> {
    let (aws, dead) = (queues.stack.aws.clone(), queues.dead.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut seen = 0;
        loop {
            let received = aws.requests().iter().filter(|request| request.operation() == "ReceiveMessage").count();
            dead.elapse(time * u32::try_from(received - seen).expect("few"));
            seen = received;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }))
}

#[tokio::test]
async fn a_queue_that_takes_longer_to_read_than_letters_are_hidden_is_read_to_its_end() {
    let queues = Queues::new().await;
    for number in 0..95 {
        queues.dead_lettered("retries_exhausted", &format!("rsv_{number}"));
    }
    // Ten receives of 13 s are 130 s, and a letter is hidden for 60.
    let _clock = each_receive_takes(&queues, 13 * HIDDEN_FOR / 60);
    queues.redrive(&["--all"]).await.ended(0).shows(&["95 messages read, 95 shown."]);
    queues.redrive(&["--all", "--send"]).await.ended(0).shows(&["95 messages sent, 0 not sent."]);
    assert_eq!((queues.dead.len(), queues.source.len()), (0, 95));
}

#[tokio::test]
async fn what_is_left_of_a_queue_that_cannot_be_read_to_its_end_is_said() {
    let queues = Queues::new().await;
    for number in 0..25 {
        queues.dead_lettered("retries_exhausted", &format!("rsv_{number}"));
    }
    // Each letter is visible again before the next receive, however long it was hidden.
    let _clock = each_receive_takes(&queues, 61 * HIDDEN_FOR);
    let run = queues.redrive(&["--all", "--send"]).await;
    run.ended(1).complains("The queue was not read to its end: it could not be read within 60 minutes.");
    run.complains(&format!("about {} are left; run this again.", queues.dead.len()));
    assert!(!queues.source.is_empty(), "what was in hand is sent");

    queues.stack.aws.fail_next("AmazonSQS.ReceiveMessage", over_limit());
    let full = queues.redrive(&[]).await;
    full.ended(1).complains("SQS gives out no more at a time").shows(&["Nothing was changed."]);
}

fn over_limit() -> Injected {
    let message = "Too many messages in flight".to_owned();
    Injected::Answer { status: 403, kind: "OverLimit".to_owned(), message }
}

#[tokio::test]
async fn a_dry_run_offers_to_send_only_what_a_redrive_can_help() {
    let queues = Queues::new().await;
    for (code, reservation) in [
        ("malformed_body", "rsv_1"),
        ("invalid_field", "rsv_2"),
        ("unknown_type", "rsv_3"),
        ("payload_changed", "rsv_4"),
        ("inventory_conflict", "rsv_5"),
        ("incomplete_reservation", "rsv_6"),
        ("retries_exhausted", "rsv_7"),
        ("retries_exhausted", "rsv_8"),
        ("not_owner", "rsv_9"),
        ("ambiguous_user", "rsv_10"),
        ("unknown_line", "rsv_11"),
    ] {
        queues.dead_lettered(code, reservation);
    }
    let offers = |run: &Run| -> Vec<String> {
        let commands = run
            .output
            .lines()
            .filter_map(|line| line.strip_prefix("  cargo redrive payment-approved --stack tickets "));
        commands.map(str::to_owned).collect()
    };
    let all = queues.redrive(&[]).await;
    all.ended(0).shows(&["A redrive does not help malformed_body: repair the producer"]);
    let helped = ["incomplete_reservation", "retries_exhausted", "unknown_line"];
    assert_eq!(offers(&all), helped.map(|code| format!("--code {code} --send")));

    let hopeless = queues.redrive(&["--code", "malformed_body"]).await;
    hopeless.ended(0).shows(&["A redrive does not help malformed_body"]);
    assert_eq!(offers(&hopeless), [""; 0]);

    let mixed = queues.redrive(&["--about", "rsv_1", "--about", "rsv_7"]).await;
    mixed.ended(0).shows(&["This sends 1 message back:"]);
    assert_eq!(offers(&mixed), ["--code retries_exhausted --about rsv_1 --about rsv_7 --send"]);
}

/// Whoever may write to a dead-letter queue may write this.
const HOSTILE: &str = "m-1\r\nsent      m-9\u{85}\u{2028}NOT SENT \t\u{202e}m-8\u{2066}";

#[tokio::test]
async fn nothing_in_a_letter_reaches_the_terminal_as_it_is() {
    let queues = Queues::new().await;
    queues.put(
        &json!({"detail": {"reservation_id": HOSTILE}}).to_string(),
        &[("error_code", HOSTILE), ("error_message", HOSTILE), ("event_type", HOSTILE), ("source_message_id", HOSTILE)],
    );
    let notes = [("RULE_ARN", HOSTILE), ("TARGET_ARN", HOSTILE), ("ERROR_CODE", HOSTILE), ("ERROR_MESSAGE", HOSTILE)];
    queues.put("{}", &notes);
    let message = format!("no such thing: {HOSTILE}");
    let failure = Injected::Answer { status: 400, kind: "InvalidThing".to_owned(), message };
    queues.stack.aws.fail_next("AmazonSQS.SendMessage", failure.clone());
    for arguments in [&["--message", HOSTILE][..], &["--all", "--send"]] {
        let run = queues.redrive(arguments).await;
        for printed in [&run.output, &run.errors] {
            let strange =
                printed.chars().find(|c| *c != '\n' && (c.is_control() || "\u{202e}\u{2066}\u{2028}".contains(*c)));
            assert_eq!(strange, None, "{printed}");
            assert!(!printed.lines().any(|line| line.starts_with("sent      m-9") || line.starts_with("NOT SENT \t")));
        }
    }
    queues.stack.aws.fail_next("AmazonSQS.GetQueueAttributes", failure);
    let refused = queues.redrive(&[]).await;
    refused.ended(2).complains("no such thing: m-1\\r\\nsent");
}

#[tokio::test]
async fn what_another_reader_holds_is_not_shown_but_counted() {
    let queues = Queues::new().await;
    queues.dead_lettered("unknown_type", "rsv_1");
    assert_eq!(queues.dead.receive(1).len(), 1);
    queues.dead_lettered("unknown_type", "rsv_2");
    queues.redrive(&[]).await.ended(0).shows(&["1 message read, 1 shown.", "about 2, 1 of them held by another"]);
}

/// A function that gave up on an event.
async fn given_up(function: &str, message: Sent, outcome: &str, code: &str, break_it: impl Fn(&World)) -> World {
    let world = World::of(function).await;
    world.given(Status::Hold, SeatState::Held);
    world.warm_up().await;
    break_it(&world);
    world.deliver_one(message).await.is(outcome).because(code);
    assert!(world.queue.is_empty());
    world
}

fn respond(status: u16, body: &Value) -> Scripted {
    Scripted::Respond { status, headers: Vec::new(), body: body.to_string() }
}

/// The point of it all: what was given up is worked anew, and not taken for a duplicate.
async fn settles_when_it_is_sent_back(world: &World, code: &str, state: &str) {
    let url = world.dead_letters.url();
    let run = Run::of(&world.stack, &[world.function.name(), "--dlq-url", &url, "--code", code, "--send"]).await;
    run.ended(0).shows(&["1 message sent, 0 not sent."]);
    assert!(world.dead_letters.is_empty());
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), state);
}

#[tokio::test]
async fn what_was_rejected_settles_once_its_reservation_is_complete() {
    let bare = event_with("payment.failed", json!({"event_id": null, "seat_ids": null, "qty": null}));
    let incomplete = json!({"status": "CANCELLED", "event_id": EVENT});
    let world = given_up("payment-failed", bare.into(), "rejected", "incomplete_reservation", |world| {
        for method in [Method::PATCH, Method::GET] {
            world.stack.reservations.answer_next(RESERVATION, method, respond(200, &incomplete));
        }
    });
    settles_when_it_is_sent_back(&world.await, "incomplete_reservation", "CANCELLED, free").await;
}

#[tokio::test]
async fn what_was_exhausted_settles_once_the_service_is_back() {
    let last = Sent::from(event("payment.approved")).received(MAX_RECEIVES);
    let world = given_up("payment-approved", last, "exhausted", "retries_exhausted", |world| {
        world.stack.reservations.answer_next(RESERVATION, Method::PATCH, respond(503, &json!({})));
    });
    settles_when_it_is_sent_back(&world.await, "retries_exhausted", "CONFIRMED, sold").await;
}

#[tokio::test]
async fn sending_needs_a_choice() {
    let queues = Queues::new().await;
    queues.dead_lettered("unknown_type", "rsv_1");
    queues.stack.aws.clear_requests();
    let run = queues.redrive(&["--send"]).await;
    run.ended(2).complains("--send needs a choice of messages: --code, --message, --about, or --all");
    queues.redrive(&["--all", "--code", "unknown_type", "--send"]).await.ended(2).complains("cannot be used with");
    assert_eq!(queues.stack.aws.requests(), [], "SQS was not even asked");
}

#[tokio::test]
async fn a_queue_that_is_not_found_is_an_error_that_says_what_to_do() {
    let queues = Queues::new().await;
    let stack = &queues.stack;
    let unknown = Run::of(stack, &["payment-approved"]).await;
    unknown
        .ended(2)
        .complains("no queue is named holdfast-payment-approved-dlq")
        .complains("--dlq-url URL")
        .complains("region: us-east-1");
    let absent = ["payment-approved", "--dlq-url", "https://sqs.us-east-1.amazonaws.com/000000000000/absent"];
    Run::of(stack, &absent).await.ended(2).complains("The specified queue does not exist");
}

#[tokio::test]
async fn without_one_source_queue_letters_are_shown_and_sent_only_to_a_named_queue() {
    let queues = Queues::new().await;
    let orphans = Queue::new("orphans", QueueOptions::default());
    queues.stack.aws.add_queue(orphans.clone());
    orphans.send(Message::new(body("rsv_1"))).expect("SQS takes it");
    let (orphans_url, source_url) = (orphans.url(), queues.source.url());
    let found = ["payment-approved", "--dlq-url", &orphans_url];
    let run = Run::of(&queues.stack, &found).await;
    run.ended(0).shows(&["no_reason", "rsv_1"]).shows(&["--queue-url URL --code no_reason --send"]);
    let all = [found.as_slice(), &["--all", "--send"]].concat();
    Run::of(&queues.stack, &all).await.ended(2).complains("say where to send by --queue-url URL");
    queues.stack.aws.fail_next("AmazonSQS.ListDeadLetter", denied("ListDeadLetterSourceQueues"));
    Run::of(&queues.stack, &all).await.ended(2).complains("AccessDenied").complains("--queue-url URL");
    all_visible(&orphans);

    let named = [all.as_slice(), &["--queue-url", &source_url]].concat();
    Run::of(&queues.stack, &named).await.ended(0);
    assert_eq!((orphans.len(), bodies(&queues.source)), (0, vec![body("rsv_1")]));

    let twin = QueueOptions { redrive: queues.source.options().redrive.clone(), ..Default::default() };
    queues.stack.aws.add_queue(Queue::new("twin", twin));
    let dead_url = queues.dead.url();
    let several = Run::of(&queues.stack, &["payment-approved", "--dlq-url", &dead_url, "--all", "--send"]).await;
    several.ended(2).complains("choose one by --queue-url").complains(&source_url);
}

fn denied(operation: &str) -> Injected {
    let message = format!("not authorized to perform sqs:{operation}");
    Injected::Answer { status: 403, kind: "AccessDenied".to_owned(), message }
}

#[tokio::test]
async fn what_sqs_does_not_take_stays_and_is_named() {
    let queues = Queues::new().await;
    let letters = [queues.dead_lettered("unknown_type", "rsv_1"), queues.dead_lettered("unknown_type", "rsv_2")];
    queues.stack.aws.fail_next("AmazonSQS.SendMessage", denied("SendMessage"));
    let run = queues.redrive(&["--all", "--send"]).await;
    run.ended(1).shows(&["1 message sent, 1 not sent."]).shows(&["AccessDenied: not authorized to perform"]);
    let [left] = ids(&queues.dead).try_into().expect("one letter stays");
    run.shows(&["NOT SENT", &left]);
    all_visible(&queues.dead);
    let sent = letters.iter().find(|letter| **letter != left).expect("the other one went");
    run.shows(&["sent  ", sent]);
    assert_eq!((queues.source.len(), queues.asked("DeleteMessage")), (1, 1), "nothing is deleted that was not sent");
}

#[tokio::test]
async fn a_letter_that_cannot_be_deleted_is_a_copy_that_ends_as_a_duplicate() {
    let last = Sent::from(event("payment.approved")).received(MAX_RECEIVES);
    let world = given_up("payment-approved", last, "exhausted", "retries_exhausted", |world| {
        world.stack.reservations.answer_next(RESERVATION, Method::PATCH, respond(503, &json!({})));
    });
    let world = world.await;
    let url = world.dead_letters.url();
    let send = ["payment-approved", "--dlq-url", &url, "--all", "--send"];
    world.stack.aws.fail_next("AmazonSQS.DeleteMessage", denied("DeleteMessage"));
    Run::of(&world.stack, &send).await.ended(0).shows(&["A copy stays here, which is harmless"]);
    assert_eq!(world.dead_letters.len(), 1);
    all_visible(&world.dead_letters);
    world.redeliver().await[0].is("success");
    Run::of(&world.stack, &send).await.ended(0);
    world.redeliver().await[0].is("duplicate");
    assert!(world.dead_letters.is_empty());
}

#[tokio::test]
async fn a_choice_that_no_message_answers_to_is_named() {
    let queues = Queues::new().await;
    queues.dead_lettered("unknown_type", "rsv_1");
    let slip = ["--about", "rsv_1", "--about", "rsv_l"];
    queues.redrive(&slip).await.ended(0).complains("No message answers to --about rsv_l");
    let run = queues.redrive(&[slip.as_slice(), &["--send"]].concat()).await;
    run.ended(1).complains("--about rsv_l").shows(&["1 message sent, 0 not sent."]);
}

#[tokio::test]
async fn a_profile_serves_as_well_as_the_environment() {
    let queues = Queues::new().await;
    queues.dead_lettered("unknown_type", "rsv_1");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("redrive-profile");
    fs::create_dir_all(&folder).expect("a folder for the profiles");
    let (config, credentials) = (folder.join("config"), folder.join("credentials"));
    let process = r#"{"Version": 1, "AccessKeyId": "test", "SecretAccessKey": "test"}"#;
    let profiles = format!(
        "[profile keys]\nregion = us-east-1\n\n[profile process]\nregion = us-east-1\ncredential_process = echo '{process}'\n"
    );
    fs::write(&config, profiles).expect("written");
    fs::write(&credentials, "[keys]\naws_access_key_id = test\naws_secret_access_key = test\n").expect("written");
    let files = [("AWS_CONFIG_FILE", &config), ("AWS_SHARED_CREDENTIALS_FILE", &credentials)];
    let files = files.map(|(name, path)| (name, path.to_str().expect("a path in UTF-8")));
    for profile in ["keys", "process"] {
        let environment = [files[0], files[1], ("AWS_PROFILE", profile)];
        let run = Run::with(&queues.stack, &["payment-approved", "--stack", "tickets"], &environment).await;
        run.ended(0).shows(&["1 message read, 1 shown."]);
    }
    let nobody = Run::with(&queues.stack, &["payment-approved", "--stack", "tickets"], &[]).await;
    nobody.ended(2).complains("eval \"$(aws configure export-credentials --format env)\"").complains("--help");
}
