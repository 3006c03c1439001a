//! The real template, built and deployed by SAM into an account of its own (MiniStack), with events on its bus. The two
//! services that the functions call are those of the local stack; everything between bus and services is deployed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod bookings;
mod reservations;
mod sale;
mod sam;
mod traffic;
mod update;
mod waiting_room;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::{Duration, Instant},
};

use local_stack::{
    build,
    catalogue::{QUEUED, SETTLING},
    inventory::{Inventory, SeatState},
    ministack::MiniStack,
    port,
    reservations::{Reservations, Status},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::traffic::{Case, End, Entry, POISON, TWICE};

const STACK: &str = "holdfast-test";

/// Longer than every back-off of a record that ends well.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn some_two_hundred_events_end_as_they_must_and_a_deleted_stack_leaves_its_table() {
    if sam::built().is_none() {
        return;
    }
    let account = sam::account("events").await;
    let (reservations, inventory) = (Reservations::default(), Inventory::default());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(reservations.clone().serve(listener));
    // The inventory is down while the first events arrive.
    let (later_inventory, inventory_address) = port::of_nobody().unwrap();
    let inventory_address = inventory_address.to_string();
    let inventory_parameter = [("InventoryGrpcAddr", inventory_address.as_str())];
    sam::deploy(&account.url, STACK, &[&sam::foreign_api(&api)[..], &inventory_parameter].concat());

    every_function_has_its_alarms(&account).await;
    the_dashboard_shows_every_queue(&account).await;
    let refund_queue = subscribe_to_refunds(&account).await;
    let cases = traffic::events();
    cases.iter().for_each(|case| traffic::seed(case, &reservations, &inventory));
    let sent = put_on_the_bus(&account, STACK, cases.iter().flat_map(|case| &case.entries)).await;
    assert!((180..=220).contains(&sent), "{sent} events");

    tokio::time::sleep(Duration::from_secs(4)).await;
    until("the inventory is missed", async || outcomes(&account).await.contains_key("retried")).await;
    let listener = later_inventory.listen(128).unwrap();
    tokio::spawn(inventory.clone().serve(listener));
    until("every queue is empty", async || waiting(&account).await == 0).await;

    let refunds: Vec<Value> =
        messages(&account, &refund_queue).await.iter().map(|message| body(message)["detail"].clone()).collect();
    for case in &cases {
        check_end(case, &reservations, &inventory, &refunds);
    }
    assert_eq!(inventory.oversold(), Vec::<String>::new(), "no seat is sold twice");
    every_poison_event_lies_in_its_dead_letter_queue(&account, &cases).await;
    check_outcomes(&outcomes(&account).await, sent);

    delete(&account).await;
    only_tables_are_left(&account, 1, &[]).await;
}

/// Deletes the stack, not by `sam delete`, which reads the address of a nested template and knows those of AWS only.
async fn delete(account: &MiniStack) {
    account.query("cloudformation", &format!("Action=DeleteStack&Version=2010-05-15&StackName={STACK}")).await;
    until("the stack is deleted", async || {
        let form = "Action=ListStacks&Version=2010-05-15&StackStatusFilter.member.1=DELETE_COMPLETE";
        account.query("cloudformation", form).await.contains(&format!("<StackName>{STACK}</StackName>"))
    })
    .await;
}

/// The runbook of functions/README.md, "An alarm fired": a function that can't start raises `errors` and its log names the
/// variable.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_named_at_the_start_and_keeps_its_messages() {
    if sam::built().is_none() {
        return;
    }
    let account = sam::account("secret").await;
    let secret = "arn:aws:secretsmanager:us-east-1:000000000000:secret:no-such-secret-AbCdEf";
    let foreign_api = sam::foreign_api("http://127.0.0.1:9");
    sam::deploy(&account.url, STACK, &[&foreign_api[..], &[("SecretArn", secret)]].concat());
    let case = &traffic::events()[0];
    put_on_the_bus(&account, STACK, &case.entries).await;

    until("the log names the variable", async || {
        let log = account.log(); // Lambda would have it in the function's log group.
        log.contains("the function can't start") && log.contains("SECRET_NAME could not be read")
    })
    .await;
    assert_eq!(waiting(&account).await, 1, "the message stays in its queue");
    // MiniStack counts the errors of direct invocations only. It looks at alarms when somebody puts a metric, and then
    // not at dimensions: it takes one function's errors for all functions'. So the kind is what this can tell.
    account.invoke(&format!("{STACK}-reservation-expired")).await;
    let look = "Action=PutMetricData&Version=2010-08-01&Namespace=Test&MetricData.member.1.MetricName=look&\
                MetricData.member.1.Value=1";
    until("the alarm of the runbook fires", async || {
        account.query("monitoring", look).await;
        alarms(&account, "ALARM").await.contains(&format!("{STACK}-reservation-expired-errors"))
    })
    .await;
    let firing = alarms(&account, "ALARM").await;
    assert!(firing.iter().all(|name| name.ends_with("-errors")), "no other kind does: {firing:?}");

    assert_eq!(live_version(&account).await, "1");
    // Left out, it would keep its last value.
    sam::deploy(&account.url, STACK, &[&foreign_api[..], &[("SecretArn", "\"\"")]].concat());
    assert_eq!(live_version(&account).await, "2", "a corrected parameter reaches the alias that the queue feeds");
    let answer = account.invoke(&format!("{STACK}-reservation-expired:live")).await;
    assert!(answer.contains("missing field `Records`"), "the function starts now, and takes batches only: {answer}");
}

/// The version that the alias of the expiry function points to.
async fn live_version(account: &MiniStack) -> String {
    let alias = account.get("lambda", &format!("/2015-03-31/functions/{STACK}-reservation-expired/aliases/live")).await;
    let alias: Value = serde_json::from_str(&alias).unwrap();
    alias["FunctionVersion"].as_str().unwrap().to_owned()
}

/// As above for an address: the function starts, the message waits, lies in the dead-letter queue in the end, and is sent
/// back when the services are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_is_named_at_the_start_and_its_messages_are_redriven_when_it_answers() {
    if sam::built().is_none() {
        return;
    }
    let account = sam::account("address").await;
    let ((later_api, api), (later_inventory, inventory_address)) =
        (port::of_nobody().unwrap(), port::of_nobody().unwrap());
    let inventory_address = inventory_address.to_string();
    let base = format!("http://{api}");
    let parameters = [("InventoryGrpcAddr", inventory_address.as_str()), ("MaxReceives", "3")];
    sam::deploy(&account.url, STACK, &[&sam::foreign_api(&base)[..], &parameters].concat());
    let case = &traffic::events()[0];
    put_on_the_bus(&account, STACK, &case.entries).await;

    until("every queue is empty", async || waiting(&account).await == 0).await;
    let log = log(&account, "reservation-expired").await;
    for fault in
        [format!("RESERVATION_API_BASE names {base}"), format!("INVENTORY_GRPC_ADDR names http://{inventory_address}")]
    {
        assert!(log.contains(&fault), "{fault:?} is missing in the log:\n{log}");
    }
    let shown = redrive(&account, &[]);
    for part in ["retries_exhausted", "call the reservation API", "1 message read", &case.reservation_id] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }

    let (reservations, inventory) = (Reservations::default(), Inventory::default());
    traffic::seed(case, &reservations, &inventory);
    tokio::spawn(reservations.clone().serve(later_api.listen(128).unwrap()));
    tokio::spawn(inventory.clone().serve(later_inventory.listen(128).unwrap()));
    let sent = redrive(&account, &["--code", "retries_exhausted", "--send"]);
    assert!(sent.contains("1 message sent, 0 not sent."), "{sent}");
    until("every queue is empty", async || waiting(&account).await == 0).await;
    check_end(case, &reservations, &inventory, &[]);
    assert_eq!(messages(&account, &format!("{STACK}-reservation-expired-dlq")).await, Vec::<Value>::new());
}

/// What `cargo redrive` prints about the dead letters of expiries.
fn redrive(account: &MiniStack, arguments: &[&str]) -> String {
    let mut command = Command::new(build::redrive().expect("the program builds"));
    command.args(["reservation-expired", "--stack", STACK]).args(arguments);
    let output = sam::aim(&mut command, &account.url).output().expect("the program runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

fn check_end(case: &Case, reservations: &Reservations, inventory: &Inventory, refunds: &[Value]) {
    let id = &case.reservation_id;
    let found = (reservations.get(id).unwrap().status, inventory.seat_state(id));
    let payment = case.payment();
    let refunds: Vec<_> = refunds.iter().filter(|refund| refund["reservation_id"] == **id).collect();
    let effects = inventory.calls().iter().filter(|call| call.reservation_id == *id && call.had_effect).count();
    let refunded = match case.end {
        End::Settled(status, seat_state) => {
            assert_eq!(found, (status, seat_state), "{id}");
            assert_eq!(effects, 1, "{id} is settled once");
            false
        }
        End::Refunded => {
            assert_eq!(found, (Status::Expired, SeatState::Free), "{id}");
            assert_eq!(effects, 0, "{id} had ended before");
            true
        }
        End::Raced => {
            let sold = (Status::Confirmed, SeatState::Sold);
            assert!(found == sold || found == (Status::Expired, SeatState::Free), "{id}: {found:?}");
            assert_eq!(effects, 1, "{id} is settled once");
            found != sold
        }
        End::Rejected(_) => {
            assert_eq!(found, (Status::Hold, SeatState::Held), "{id} is untouched");
            false
        }
    };
    assert_eq!(refunds.len(), usize::from(refunded), "{id}: {refunds:#?}");
    assert!(refunds.iter().all(|refund| refund["payment_intent_id"] == *payment), "{refunds:#?}");
}

async fn every_poison_event_lies_in_its_dead_letter_queue(account: &MiniStack, cases: &[Case]) {
    for function in QUEUED {
        let dead_lettered = messages(account, &format!("{STACK}-{function}-dlq")).await;
        let reasons: BTreeMap<String, String> = dead_lettered
            .iter()
            .map(|message| (body(message)["detail"]["seat_ids"].to_string(), attribute(message, "error_code")))
            .collect();
        let own = |case: &&Case| case.entries[0].detail_type == function.replacen('-', ".", 1);
        let expected: BTreeMap<String, String> = cases
            .iter()
            .filter(own)
            .filter_map(|case| match case.end {
                End::Rejected(code) => Some((case.entries[0].detail["seat_ids"].to_string(), code.to_owned())),
                End::Settled(..) | End::Refunded | End::Raced => None,
            })
            .collect();
        assert_eq!(expected.len(), POISON, "each function gets poison");
        assert_eq!(reasons, expected, "{function}");
        // The AWS SDK sends again what was answered late, and then a queue holds the message twice.
        let sources: BTreeSet<String> =
            dead_lettered.iter().map(|message| attribute(message, "source_message_id")).collect();
        assert_eq!(sources.len(), expected.len(), "{function} dead-letters each once");
    }
}

async fn every_function_has_its_alarms(account: &MiniStack) {
    let alarms: BTreeSet<String> = alarms(account, "").await;
    for function in QUEUED {
        for kind in [
            "dead-letters",
            "failing",
            "oldest-message",
            "errors",
            "throttles",
            "duration",
            "unstarted",
            "rejected",
            "inventory-conflicts",
        ] {
            let name = format!("{STACK}-{function}-{kind}");
            assert!(alarms.contains(&name), "{name} is missing in {alarms:?}");
        }
    }
    assert!(alarms.contains(&format!("{STACK}-payment-approved-late-approvals")), "{alarms:?}");
}

async fn the_dashboard_shows_every_queue(account: &MiniStack) {
    let form = format!("Action=GetDashboard&Version=2010-08-01&DashboardName={STACK}");
    let dashboard = account.query("monitoring", &form).await;
    for function in QUEUED {
        let dead_letters = format!("{STACK}-{function}-dlq");
        assert!(dashboard.contains(&dead_letters), "{dead_letters} is missing in {dashboard}");
    }
}

/// The names of the stack's alarms in a state; of all of them without one.
async fn alarms(account: &MiniStack, state: &str) -> BTreeSet<String> {
    let filter = if state.is_empty() { String::new() } else { format!("&StateValue={state}") };
    let form = format!("Action=DescribeAlarms&Version=2010-08-01&MaxRecords=100&AlarmNamePrefix={STACK}{filter}");
    let mut found = BTreeSet::new();
    let mut next = String::new();
    loop {
        let answer = account.query("monitoring", &format!("{form}{next}")).await;
        let texts = |name: &str| -> Vec<String> {
            answer.split(name).skip(1).filter_map(|part| part.split('<').next()).map(str::to_owned).collect()
        };
        found.extend(texts("<AlarmName>"));
        match texts("<NextToken>").pop() {
            Some(token) if !token.is_empty() => next = format!("&NextToken={token}"),
            Some(_) | None => break found,
        }
    }
}

/// What a function wrote to its own log group.
async fn log(account: &MiniStack, function: &str) -> String {
    let input = json!({"logGroupName": format!("/aws/lambda/{STACK}-{function}")});
    let answer = account.call("logs", "Logs_20140328.FilterLogEvents", input).await;
    let lines = answer["events"].as_array().into_iter().flatten().filter_map(|event| event["message"].as_str());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The records of all functions by outcome, as their logs tell.
async fn outcomes(account: &MiniStack) -> BTreeMap<String, usize> {
    let mut outcomes = BTreeMap::new();
    for function in QUEUED {
        for line in log(account, function).await.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            if let (Some(outcome), Some(_)) = (line["outcome"].as_str(), line["message_id"].as_str()) {
                *outcomes.entry(outcome.to_owned()).or_default() += 1;
            }
        }
    }
    outcomes
}

/// Looks at how the records of `sent` events ended. What each has done is checked elsewhere, to the last one. Lines are not all
/// there: MiniStack waits 5 ms for the next line of an invocation, and what an environment says later it logs with that
/// environment's next invocation, if there is one.
fn check_outcomes(outcomes: &BTreeMap<String, usize>, sent: usize) {
    let count = |outcome: &str| outcomes.get(outcome).copied().unwrap_or_default();
    assert!(count("retried") > 0, "the inventory was down for a while: {outcomes:?}");
    assert_eq!(count("exhausted"), 0, "nothing ran out of receives: {outcomes:?}");
    let (twice, poison) = (TWICE * SETTLING.len(), POISON * SETTLING.len());
    let others = sent - twice - poison;
    let ended = outcomes.iter().filter(|(outcome, _)| *outcome != "retried").map(|(_, count)| count).sum::<usize>();
    for (what, found, all) in [
        ("each second delivery is a duplicate", count("duplicate"), twice),
        ("each poison event is rejected", count("rejected"), poison),
        ("all others are settled", ended - count("duplicate") - count("rejected"), others),
    ] {
        assert!((all * 9 / 10..=all).contains(&found), "{what}: {found} lines of {all}: {outcomes:?}");
    }
}

async fn subscribe_to_refunds(account: &MiniStack) -> String {
    subscribe(account, "refund-desk", &["payment.refund_requested"]).await
}

/// A queue of this name that takes what the stack publishes of these types. The answer is its name.
async fn subscribe(account: &MiniStack, name: &str, detail_types: &[&str]) -> String {
    account.call("sqs", "AmazonSQS.CreateQueue", json!({"QueueName": name})).await;
    let pattern = json!({"source": ["holdfast"], "detail-type": detail_types}).to_string();
    let rule = json!({"Name": name, "EventBusName": STACK, "EventPattern": pattern});
    account.call("events", "AWSEvents.PutRule", rule).await;
    let queue = json!({"Id": "queue", "Arn": format!("arn:aws:sqs:us-east-1:000000000000:{name}")});
    let targets = json!({"Rule": name, "EventBusName": STACK, "Targets": [queue]});
    account.call("events", "AWSEvents.PutTargets", targets).await;
    name.to_owned()
}

/// Puts events on the bus, ten at a time as EventBridge takes them, and says how many.
async fn put_on_the_bus<'a>(account: &MiniStack, bus: &str, entries: impl IntoIterator<Item = &'a Entry>) -> usize {
    let entry = |entry: &Entry| {
        let (source, kind, detail) = (entry.source, entry.detail_type, entry.detail.to_string());
        json!({"EventBusName": bus, "Source": source, "DetailType": kind, "Detail": detail})
    };
    let entries: Vec<Value> = entries.into_iter().map(entry).collect();
    for ten in entries.chunks(10) {
        let answer = account.call("events", "AWSEvents.PutEvents", json!({"Entries": ten})).await;
        assert_eq!(answer["FailedEntryCount"], 0, "{answer}");
    }
    entries.len()
}

/// How many messages wait in the stack's queues, hidden ones included, dead letters not.
async fn waiting(account: &MiniStack) -> u64 {
    let mut waiting = 0;
    for function in QUEUED {
        waiting += in_queue(account, function).await;
    }
    waiting
}

/// How many messages wait in a function's queue.
async fn in_queue(account: &MiniStack, function: &str) -> u64 {
    let url = queue_url(account, &format!("{STACK}-{function}")).await;
    let input = json!({"QueueUrl": url, "AttributeNames": ["All"]});
    let answer = account.call("sqs", "AmazonSQS.GetQueueAttributes", input).await;
    let count = |name| answer["Attributes"][name].as_str().and_then(|count| count.parse::<u64>().ok()).unwrap();
    ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"].map(count).iter().sum()
}

/// Takes every message out of a queue.
async fn messages(account: &MiniStack, queue: &str) -> Vec<Value> {
    let url = queue_url(account, queue).await;
    let mut messages = Vec::new();
    loop {
        let input = json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]});
        let answer = account.call("sqs", "AmazonSQS.ReceiveMessage", input).await;
        match answer["Messages"].as_array() {
            Some(some) if !some.is_empty() => messages.extend(some.iter().cloned()),
            Some(_) | None => break messages,
        }
    }
}

async fn queue_url(account: &MiniStack, name: &str) -> String {
    let answer = account.call("sqs", "AmazonSQS.GetQueueUrl", json!({"QueueName": name})).await;
    answer["QueueUrl"].as_str().unwrap().to_owned()
}

fn body(message: &Value) -> Value {
    serde_json::from_str(message["Body"].as_str().unwrap()).unwrap()
}

fn attribute(message: &Value, name: &str) -> String {
    message["MessageAttributes"][name]["StringValue"].as_str().unwrap_or_default().to_owned()
}

/// Looks through everything that the template can make, but for the kinds that stay.
async fn only_tables_are_left(account: &MiniStack, count: usize, but_for: &[&str]) {
    let tables = account.call("dynamodb", "DynamoDB_20120810.ListTables", json!({})).await;
    let tables: Vec<_> = tables["TableNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let retained = tables.iter().filter(|table| table.starts_with(STACK)).count();
    assert_eq!((retained, tables.len()), (count, count), "each table is retained: {tables:?}");
    let listings = [
        ("queues", account.call("sqs", "AmazonSQS.ListQueues", json!({})).await.to_string()),
        ("buses", account.call("events", "AWSEvents.ListEventBuses", json!({})).await.to_string()),
        ("log groups", account.call("logs", "Logs_20140328.DescribeLogGroups", json!({})).await.to_string()),
        ("functions", account.get("lambda", "/2015-03-31/functions").await),
        ("APIs", account.get("apigateway", "/v2/apis").await),
        ("mappings", account.get("lambda", "/2015-03-31/event-source-mappings/").await),
        ("alarms", account.query("monitoring", "Action=DescribeAlarms&Version=2010-08-01").await),
        ("dashboards", account.query("monitoring", "Action=ListDashboards&Version=2010-08-01").await),
        ("roles", account.query("iam", "Action=ListRoles&Version=2010-05-08").await),
    ];
    for (what, listing) in listings.into_iter().filter(|(what, _)| !but_for.contains(what)) {
        assert!(!listing.contains(STACK), "{what} are left: {listing}");
    }
}

/// The physical id of a resource of the stack.
async fn resource(account: &MiniStack, logical_id: &str) -> String {
    let (_, physical_id) = update::resources(account).await.remove(logical_id).unwrap();
    physical_id
}

/// Waits until something holds; a test fails when it does not in time.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "{what}: never came true");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
