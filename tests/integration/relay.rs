//! What becomes of reservations is told: by the real function, from the table's own stream.

use std::time::Duration;

use local_stack::{
    aws::Injected,
    lambda::FunctionError,
    queue::{Queue, QueueOptions},
    stack::{BUS, RESERVATIONS, Stack},
    stream::{StreamMapping, StreamOptions},
    template::Template,
};
use serde_json::{Value, json};

use crate::{
    harness::{binaries, while_held, wire_before},
    reservation_api::{Api, create},
};

const PUT_EVENTS: &str = "AWSEvents.PutEvents";
const SEND: &str = "AmazonSQS.SendMessageBatch";

/// What the template says of the mapping.
fn as_deployed() -> StreamOptions {
    Template::read().and_then(|template| template.stream(reservation_changed::NAME)).unwrap()
}

/// The API with its relay.
pub(crate) struct Relayed {
    pub(crate) api: Api,
    pub(crate) stack: Stack,
    expiries: Queue,
    pub(crate) stream: StreamMapping,
}

impl Relayed {
    async fn start() -> Self {
        Self::start_on(Api::start().await).await
    }

    pub(crate) async fn start_on(api: Api) -> Self {
        let stack = api.stack.clone();
        let expiries = stack.queue("reservation-expired");
        let binary = binaries()[reservation_changed::NAME].clone();
        let function = stack.deploy(reservation_changed::NAME, binary, 1).unwrap();
        // Its start looks at the table, and what fails on demand is then not that look.
        assert!(function.invoke(json!({"Records": []}).to_string()).await.result.is_ok());
        let stream = StreamMapping::new(stack.aws.clone(), RESERVATIONS, function, as_deployed()).await.unwrap();
        Self { api, expiries, stream, stack }
    }

    /// The types on the bus, with the versions of their reservations.
    fn published(&self) -> Vec<(String, u64)> {
        let entries = self.stack.aws.bus_entries();
        entries.iter().map(|entry| (entry.detail_type.clone(), entry.detail["version"].as_u64().unwrap())).collect()
    }

    /// What is still to be published of a reservation, as its table has it.
    async fn marked(&self, id: &str) -> bool {
        let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}});
        let item = self.stack.aws.dynamodb("GetItem", &key).await.unwrap()["Item"].clone();
        assert_eq!(item.get("events").is_some(), item.get("unpublished").is_some(), "the mark is that of the list");
        item.get("events").is_some()
    }
}

#[tokio::test]
async fn a_hold_gets_its_timer_and_is_told_and_then_forgotten() {
    let mut world = Relayed::start().await;
    let id = world.api.created(create(&["A-1"])).await;
    assert!(world.marked(&id).await);
    let deliveries = world.stream.drain().await.unwrap();
    assert_eq!((deliveries.len(), deliveries[0].batch.len(), deliveries[0].done), (1, 2, 2), "{deliveries:#?}");

    let timers = world.expiries.messages();
    assert_eq!(timers.len(), 1);
    let wait = timers[0].visible_in;
    assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(61), "{wait:?}");
    let timer: Value = serde_json::from_str(&timers[0].body).unwrap();
    assert_eq!((&timer["detail-type"], &timer["source"]), (&json!("reservation.expired"), &json!("reservation-api")));
    assert_eq!((&timer["detail"]["reservation_id"], &timer["detail"]["seat_ids"]), (&json!(id), &json!(["A-1"])));

    let entries = world.stack.aws.bus_entries();
    assert_eq!((entries.len(), entries[0].bus.as_str(), entries[0].source.as_str()), (1, BUS, "holdfast"));
    let detail = &entries[0].detail;
    assert_eq!((&detail["status"], &detail["by"], &detail["qty"]), (&json!("HOLD"), &json!("client"), &json!(1)));
    assert_eq!(detail["idempotency_key"], format!("{id}#2"));
    assert_eq!(detail.get("payment_intent_id"), None, "what is not known is left out");

    assert!(!world.marked(&id).await);
    assert!(world.stream.drain().await.unwrap().is_empty(), "its own clearing does not wake it");
    world.api.cancel(&id).await;
    world.stream.drain().await.unwrap();
    assert_eq!(world.published()[1..], [("reservation.cancelled".to_owned(), 3)]);
    assert_eq!(world.expiries.messages().len(), 1, "a cancellation has no timer");
}

#[tokio::test]
async fn what_is_settled_already_needs_no_timer_any_more() {
    let mut world = Relayed::start().await;
    let id = world.api.created(create(&["A-1"])).await;
    world.api.cancel(&id).await;
    world.stream.drain().await.unwrap();
    assert!(world.expiries.messages().is_empty());
    let expected = [("reservation.created".to_owned(), 2), ("reservation.cancelled".to_owned(), 3)];
    assert_eq!(world.published(), expected, "each once, though three records told of them");
}

#[tokio::test]
async fn whatever_is_away_nothing_is_lost() {
    let throttled = || Injected::Answer { status: 400, kind: "ThrottlingException".into(), message: "slow".into() };
    // The client tries twice.
    for (target, failures) in [(PUT_EVENTS, 2), (SEND, 2)] {
        let mut world = Relayed::start().await;
        let id = world.api.created(create(&["A-1"])).await;
        for _ in 0..failures {
            world.stack.aws.fail_next(target, throttled());
        }
        let first = world.stream.deliver_once().await.unwrap().unwrap();
        assert!(first.done < first.batch.len(), "{target}: a part comes again: {first:#?}");
        assert!(world.marked(&id).await, "{target}");
        world.stream.drain().await.unwrap();
        assert!(!world.marked(&id).await, "{target}");
        assert!(!world.expiries.messages().is_empty(), "{target}");
        assert!(world.published().contains(&("reservation.created".to_owned(), 2)), "{target}");
    }
    let mut world = Relayed::start().await;
    let id = world.api.created(create(&["A-1"])).await;
    world.stack.aws.fail_entries_next(1);
    let first = world.stream.deliver_once().await.unwrap().unwrap();
    assert_eq!((first.batch.len(), first.done), (2, 1), "the last record of the reservation has all of its events");
    world.stream.drain().await.unwrap();
    assert!(!world.marked(&id).await && world.published().len() == 1);
}

/// A lost answer, or a death between publishing and clearing: told twice under one key, and never not at all.
#[tokio::test]
async fn what_was_published_and_not_cleared_is_published_again_under_the_same_key() {
    let mut world = Relayed::start().await;
    let id = world.api.created(create(&["A-1"])).await;
    // The client tries twice.
    for _ in 0..2 {
        let refusal = Injected::Answer { status: 500, kind: "InternalServerError".into(), message: "no".into() };
        world.stack.aws.fail_next("DynamoDB_20120810.UpdateItem", refusal);
    }
    world.stream.drain().await.unwrap();
    assert!(world.marked(&id).await, "it is published, and nobody could say so");
    world.api.extend(&id).await;
    world.stream.drain().await.unwrap();
    assert!(!world.marked(&id).await);
    let created = ("reservation.created".to_owned(), 2);
    assert_eq!(world.published(), [created.clone(), created], "twice, and so recognisable");
}

/// The relay is slow, and the reservation changes between its reading and its clearing.
#[tokio::test]
async fn what_changes_while_its_past_is_told_is_told_as_well() {
    let mut world = Relayed::start().await;
    let id = world.api.created(create(&["A-1"])).await;
    let wire = wire_before(1);
    world.stack.aws.set_tripwire(wire.clone());
    let relayed = async { world.stream.deliver_once().await.unwrap().unwrap() };
    // After the relay has been handed the hold, and before it clears it.
    let changed = while_held(&wire, async {
        world.stack.aws.age_reservation(RESERVATIONS, &id, Duration::from_secs(1)).await.unwrap();
        let version = json!({
            "TableName": RESERVATIONS,
            "Key": {"id": {"S": id}},
            "UpdateExpression": "SET version = :three",
            "ExpressionAttributeValues": {":three": {"N": "3"}},
        });
        world.stack.aws.dynamodb("UpdateItem", &version).await.unwrap();
    });
    let (delivery, ()) = tokio::join!(relayed, changed);
    assert_eq!(delivery.done, delivery.batch.len(), "{delivery:#?}");
    assert!(world.marked(&id).await, "it is marked until its last change is told");
    world.stream.drain().await.unwrap();
    assert!(!world.marked(&id).await);
}

/// What the bus will never take must not stand in the way of all that follow.
#[tokio::test]
async fn what_the_bus_refuses_for_good_stays_marked_and_lets_the_others_through() {
    let mut world = Relayed::start().await;
    let mut environment = world.stack.environment(reservation_changed::NAME);
    environment.insert("EVENT_BUS_NAME".to_owned(), "of-nobody".to_owned());
    let binary = binaries()[reservation_changed::NAME].clone();
    let lost = world.stack.deploy_with(reservation_changed::NAME, binary, 1, environment).unwrap();
    let id = world.api.created(create(&["A-1"])).await;
    let aws = world.stack.aws.clone();
    let mut stream = StreamMapping::new(aws, RESERVATIONS, lost.clone(), as_deployed()).await.unwrap();
    let delivery = stream.deliver_once().await.unwrap().unwrap();
    assert_eq!(delivery.done, delivery.batch.len());
    assert!(world.marked(&id).await);
    assert!(lost.all_logs().iter().any(|line| line.contains("an event stays unpublished") && line.contains(&id)));
    assert_eq!(world.expiries.messages().len(), 1, "its timer went out");
    world.stream.drain().await.unwrap();
    assert!(!world.marked(&id).await, "another look publishes it");
}

/// Whatever was lost: the record of the stream, the timer, or the message among the dead letters.
#[tokio::test]
async fn what_was_missed_is_swept_up_and_what_is_well_is_left_alone() {
    let mut world = Relayed::start().await;
    let binary = binaries()[reservation_sweep::NAME].clone();
    let sweep = world.stack.deploy(reservation_sweep::NAME, binary, 1).unwrap();
    let swept = async || {
        let invocation = sweep.invoke("{}").await;
        assert!(invocation.result.is_ok(), "{invocation:#?}");
        let lines: Vec<Value> = invocation.logs.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let acts = lines
            .iter()
            .filter_map(|line| Some(format!("{} {}", line["act"].as_str()?, line["reservation_id"].as_str()?)));
        let mut acts: Vec<String> = acts.collect();
        acts.sort_unstable();
        acts
    };
    let unpublished = world.api.created(create(&["A-1"])).await;
    assert_eq!(swept().await, [""; 0], "its record is still on its way");
    // What something in between answers is no empty part of the table.
    let unfinished = |logs: &[String]| -> Vec<u64> {
        let lines = logs.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["reservation_sweep_unfinished_total"].as_u64()).collect()
    };
    assert_eq!(unfinished(&sweep.invoke("{}").await.logs), [0]);
    let nothing = Injected::Answer { status: 200, kind: "nothing".to_owned(), message: String::new() };
    world.stack.aws.fail_next("DynamoDB_20120810.Scan", nothing);
    assert_eq!(unfinished(&sweep.invoke("{}").await.logs), [1]);
    world.stream.drain().await.unwrap();
    let timed = world.api.created(create(&["A-2"]).key("k2")).await;
    let settled = world.api.created(create(&["A-3"]).key("k3")).await;
    world.stream.drain().await.unwrap();
    world.api.cancel(&settled).await;
    world.stream.drain().await.unwrap();
    assert_eq!(swept().await, [""; 0], "all is well");

    // The relay was away for longer than the stream keeps its records.
    world.api.extend(&unpublished).await;
    world.api.cancel(&unpublished).await;
    while let Some(lost) = world.stream.skip_once().await.unwrap() {
        assert!(lost > 0);
    }
    world.stack.aws.age_reservation(RESERVATIONS, &unpublished, Duration::from_secs(150)).await.unwrap();
    // A timer was lost, with its queue or by hand.
    world.stack.aws.age_reservation(RESERVATIONS, &timed, Duration::from_secs(185)).await.unwrap();
    world.stack.aws.age_reservation(RESERVATIONS, &settled, Duration::from_secs(600)).await.unwrap();
    while world.stream.skip_once().await.unwrap().is_some() {}
    let timers = world.expiries.messages().len();
    for _ in 0..2 {
        let changed = Injected::Answer {
            status: 400,
            kind: "ConditionalCheckFailedException".to_owned(),
            message: "The conditional request failed".to_owned(),
        };
        world.stack.aws.fail_next("DynamoDB_20120810.UpdateItem", changed);
    }
    assert_eq!(swept().await, [""; 0], "whoever changes them at this moment has acted on them");
    let expected = [format!("rearmed {timed}"), format!("republished {unpublished}")];
    assert_eq!(swept().await, expected);
    world.stream.drain().await.unwrap();
    assert!(!world.marked(&unpublished).await && !world.marked(&timed).await);
    assert!(world.published().contains(&("reservation.cancelled".to_owned(), 4)));
    let messages = world.expiries.messages();
    assert_eq!(messages.len(), timers + 1);
    assert!(messages.iter().any(|message| message.body.contains(&timed) && message.visible_in.is_zero()));
    assert_eq!(swept().await, [format!("rearmed {timed}")], "nobody has acted on it yet, so that it is asked again");
}

#[tokio::test]
async fn a_batch_that_always_fails_is_halved_and_given_up_when_it_is_too_old_and_the_next_gets_through() {
    let mut world = Relayed::start().await;
    let given_up = Queue::new("given-up", QueueOptions::default());
    let mut environment = world.stack.environment(reservation_changed::NAME);
    environment.insert("EXPIRY_QUEUE_URL".to_owned(), "http://127.0.0.1/000000000000/nowhere".to_owned());
    let binary = binaries()[reservation_changed::NAME].clone();
    let broken = world.stack.deploy_with(reservation_changed::NAME, binary, 1, environment).unwrap();
    let (aws, options) =
        (world.stack.aws.clone(), StreamOptions { on_failure: Some(given_up.clone()), ..as_deployed() });
    let mut stream = StreamMapping::new(aws, RESERVATIONS, broken, options).await.unwrap();
    world.api.created(create(&["A-1"])).await;
    world.api.created(create(&["A-2"]).key("k2")).await;
    let first = stream.deliver_once().await.unwrap().unwrap();
    assert!(first.done < first.batch.len() && !first.given_up, "{first:#?}");
    assert!(
        !stream.drain().await.unwrap().iter().any(|delivery| delivery.given_up),
        "it is young enough to come again"
    );
    assert!(given_up.is_empty());

    stream.elapse(Duration::from_secs(3_601));
    assert!(stream.drain().await.unwrap().is_empty(), "what is too old is not handed over any more");
    let [told] = given_up.messages().try_into().unwrap();
    let told: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(told["requestContext"]["condition"], "RecordAgeExceeded");
    let place = &told["DDBStreamBatchInfo"];
    assert!(place["batchSize"].as_u64().unwrap() > 0 && place["startSequenceNumber"].is_string(), "{told:#}");
    assert!(stream.deliver_once().await.unwrap().is_none());
    world.stream.drain().await.unwrap();
    assert_eq!(world.expiries.messages().len(), 2, "the deployed function has lost nothing by it");
}

#[tokio::test]
async fn a_record_that_fails_for_good_is_found_by_halves_and_given_up_alone_after_its_attempts() {
    let world = Relayed::start().await;
    let given_up = Queue::new("given-up", QueueOptions::default());
    let options = StreamOptions {
        filters: Vec::new(),
        maximum_retry_attempts: Some(1),
        on_failure: Some(given_up.clone()),
        ..as_deployed()
    };
    // Another function, to which none of this is a batch.
    let function = world.stack.deploy("payment-failed", binaries()["payment-failed"].clone(), 1).unwrap();
    let mut stream = StreamMapping::new(world.stack.aws.clone(), RESERVATIONS, function, options).await.unwrap();
    for (index, seat) in ["A-1", "A-2", "A-3"].into_iter().enumerate() {
        world.api.created(create(&[seat]).key(&format!("k{index}"))).await;
    }
    let deliveries = stream.drain().await.unwrap();
    let sizes: Vec<usize> = deliveries.iter().map(|delivery| delivery.batch.len()).collect();
    let alone = deliveries.iter().filter(|delivery| delivery.given_up);
    assert_eq!(sizes[..5], [6, 3, 1, 1, 2], "{sizes:?}");
    assert!(alone.clone().all(|delivery| delivery.batch.len() == 1) && alone.count() == 6, "{sizes:?}");
    let told: Vec<Value> =
        given_up.messages().iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect();
    assert_eq!(told.len(), 6);
    for told in &told {
        assert_eq!(told["requestContext"]["condition"], "RetryAttemptsExhausted");
        assert_eq!(told["requestContext"]["approximateInvokeCount"], 2, "a half is no attempt");
        assert_eq!(told["DDBStreamBatchInfo"]["batchSize"], 1);
    }
}

#[tokio::test]
async fn a_wrong_configuration_stops_the_start_and_names_every_variable() {
    let stack = Stack::start().await.unwrap();
    let mut environment = stack.environment(reservation_changed::NAME);
    for (name, value) in [("RESERVATIONS_TABLE", ""), ("EVENT_BUS_NAME", ""), ("EXPIRY_QUEUE_URL", "my-queue")] {
        environment.insert(name.to_owned(), value.to_owned());
    }
    let binary = binaries()[reservation_changed::NAME].clone();
    let function = stack.deploy_with(reservation_changed::NAME, binary, 1, environment).unwrap();
    let Err(FunctionError::Init(text)) = function.invoke("{}").await.result else { panic!("it must not start") };
    for name in ["RESERVATIONS_TABLE", "EVENT_BUS_NAME", "EXPIRY_QUEUE_URL"] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}
