//! Through the AWS SDK for Rust, as the functions call it.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeName};

use super::*;
use crate::{pattern::Pattern, queue::QueueOptions};

async fn endpoint() -> (AwsEndpoint, aws_config::SdkConfig, Queue) {
    let endpoint = AwsEndpoint::start().await.unwrap();
    let queue = Queue::new("holds", QueueOptions::default());
    endpoint.add_queue(queue.clone());
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(shared::client::aws::http::client())
        .endpoint_url(endpoint.url())
        .region("us-east-1")
        .credentials_provider(aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "test"))
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .timeout_config(aws_config::timeout::TimeoutConfig::builder().operation_timeout(Duration::from_secs(2)).build())
        .load()
        .await;
    (endpoint, config, queue)
}

fn string(value: &str) -> aws_sdk_sqs::types::MessageAttributeValue {
    let builder = aws_sdk_sqs::types::MessageAttributeValue::builder();
    builder.data_type("String").string_value(value).build().unwrap()
}

#[tokio::test]
async fn a_message_goes_through_the_sdk_and_back() {
    let (endpoint, config, queue) = endpoint().await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    let send = sqs.send_message().queue_url(queue.url()).message_body("hello").message_group_id("tenant-1");
    let id = send.message_attributes("error_code", string("unknown_type")).send().await.unwrap().message_id;
    let receive = sqs.receive_message().queue_url(queue.url()).message_attribute_names("All");
    let received = receive.message_system_attribute_names(MessageSystemAttributeName::All).send().await.unwrap();
    let message = &received.messages()[0];
    assert_eq!((message.message_id(), message.body()), (id.as_deref(), Some("hello")));
    assert_eq!(message.message_attributes().unwrap()["error_code"].string_value(), Some("unknown_type"));
    let system = message.attributes().unwrap();
    assert_eq!(system[&MessageSystemAttributeName::ApproximateReceiveCount], "1");
    assert_eq!(system[&MessageSystemAttributeName::MessageGroupId], "tenant-1");
    let receipt = message.receipt_handle().unwrap();
    sqs.delete_message().queue_url(queue.url()).receipt_handle(receipt).send().await.unwrap();
    assert!(queue.is_empty());
    let operations: Vec<_> = endpoint.requests().iter().map(|request| request.operation().to_owned()).collect();
    assert_eq!(operations, ["SendMessage", "ReceiveMessage", "DeleteMessage"]);
}

#[tokio::test]
async fn the_sdk_knows_the_errors_of_sqs() {
    let (_endpoint, config, queue) = endpoint().await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    let bad = sqs.send_message().queue_url(queue.url()).message_body("\u{1}").send().await.unwrap_err();
    assert!(bad.into_service_error().is_invalid_message_contents());
    let absent = sqs.send_message().queue_url("https://sqs/0/absent").message_body("a").send().await.unwrap_err();
    assert!(absent.into_service_error().is_queue_does_not_exist());
    let change = sqs.change_message_visibility().queue_url(queue.url()).visibility_timeout(1);
    let nonsense = change.receipt_handle("nonsense").send().await.unwrap_err();
    assert!(nonsense.into_service_error().is_receipt_handle_is_invalid());
}

#[tokio::test]
async fn one_batch_call_changes_the_visibility_of_several_messages() {
    let (_endpoint, config, queue) = endpoint().await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    queue.send(crate::queue::Message::new("a")).unwrap();
    let receipt = queue.receive(1).remove(0).receipt;
    let entry = |id: &str, receipt: &str| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id).receipt_handle(receipt);
        entry.visibility_timeout(0).build().unwrap()
    };
    let batch = sqs.change_message_visibility_batch().queue_url(queue.url());
    let answer = batch.entries(entry("0", &receipt)).entries(entry("1", "nonsense")).send().await.unwrap();
    assert_eq!(answer.successful()[0].id(), "0");
    assert_eq!((answer.failed()[0].id(), answer.failed()[0].code()), ("1", "ReceiptHandleIsInvalid"));
    assert_eq!(queue.next_visible_in(), Some(Duration::ZERO));
}

#[tokio::test]
async fn the_queues_before_a_dead_letter_queue_are_those_whose_policy_names_it() {
    let (endpoint, config, dead) = endpoint().await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    let redrive = |queue: &Queue| Some(crate::queue::Redrive { queue: queue.clone(), max_receive_count: 5 });
    for (name, queue) in [("a", &dead), ("b", &Queue::new("another", QueueOptions::default()))] {
        endpoint.add_queue(Queue::new(name, QueueOptions { redrive: redrive(queue), ..QueueOptions::default() }));
    }
    let answer = sqs.list_dead_letter_source_queues().queue_url(dead.url()).send().await.unwrap();
    assert_eq!(answer.queue_urls(), ["https://sqs.us-east-1.amazonaws.com/000000000000/a"]);
    let absent = sqs.list_dead_letter_source_queues().queue_url("https://sqs/0/absent").send().await.unwrap_err();
    assert!(absent.into_service_error().is_queue_does_not_exist());
}

#[tokio::test]
async fn a_receiver_gets_the_attributes_that_it_asks_for_and_keeps_to_the_limits() {
    let (_endpoint, config, queue) = endpoint().await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    let attributes = ["error_code", "error_message", "tenant"];
    let attributes =
        attributes.map(|name| (name.to_owned(), crate::queue::MessageAttribute::string("v"))).into_iter().collect();
    queue.send(crate::queue::Message { attributes, ..crate::queue::Message::new("a") }).unwrap();
    let receive = || sqs.receive_message().queue_url(queue.url()).visibility_timeout(0);
    for (asked, given) in [(None, 0), (Some("tenant"), 1), (Some("error_.*"), 2), (Some("All"), 3)] {
        let asked = asked.map(|name| vec![name.to_owned()]);
        let answer = receive().set_message_attribute_names(asked.clone()).send().await.unwrap();
        let message = &answer.messages()[0];
        assert_eq!(message.message_attributes().map_or(0, |attributes| attributes.len()), given, "{asked:?}");
        assert!(message.attributes().is_none(), "no system attribute was asked for");
    }
    for refused in [receive().max_number_of_messages(11), receive().wait_time_seconds(21)] {
        refused.send().await.unwrap_err();
    }
    receive().visibility_timeout(43_201).send().await.unwrap_err();
}

fn refund(bus: &str, detail: &str) -> PutEventsRequestEntry {
    let entry = PutEventsRequestEntry::builder().event_bus_name(bus).source("holdfast");
    entry.detail_type("payment.refund_requested").detail(detail).build()
}

#[tokio::test]
async fn each_entry_of_a_bus_is_checked_on_its_own() {
    let (endpoint, config, _queue) = endpoint().await;
    endpoint.add_bus("tickets");
    let bus = aws_sdk_eventbridge::Client::new(&config);
    let entries = [refund("tickets", r#"{"amount": 1}"#), refund("tickets", "{"), refund("absent", "{}")];
    let answer = bus.put_events().set_entries(Some(entries.into())).send().await.unwrap();
    assert_eq!(answer.failed_entry_count(), 2);
    assert_eq!(answer.entries()[1].error_code(), Some("MalformedDetail"));
    let accepted = endpoint.bus_entries();
    assert_eq!((accepted.len(), &accepted[0].detail), (1, &json!({"amount": 1})));
    endpoint.fail_entries_next(1);
    let answer = bus.put_events().entries(refund("tickets", "{}")).send().await.unwrap();
    assert_eq!((answer.failed_entry_count(), endpoint.bus_entries().len()), (1, 1));
    let eleven = std::iter::repeat_n(refund("tickets", "{}"), 11).collect();
    assert!(bus.put_events().set_entries(Some(eleven)).send().await.is_err());
}

async fn claim(config: &aws_config::SdkConfig) -> Result<(), aws_sdk_dynamodb::operation::put_item::PutItemError> {
    let put = aws_sdk_dynamodb::Client::new(config).put_item().table_name("claims");
    let put = put.item("id", AttributeValue::S("a".to_owned())).condition_expression("attribute_not_exists(id)");
    put.send().await.map(drop).map_err(aws_sdk_dynamodb::error::SdkError::into_service_error)
}

#[tokio::test]
async fn conditions_are_decided_by_the_emulator_and_requests_are_recorded() {
    let (endpoint, config, _queue) = endpoint().await;
    endpoint.create_idempotency_table("claims").await.unwrap();
    claim(&config).await.unwrap();
    assert!(claim(&config).await.unwrap_err().is_conditional_check_failed_exception());
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 2, "what the test prepares is not counted");
    assert_eq!(requests[0].target, "DynamoDB_20120810.PutItem");
    assert_eq!(requests[0].body["Item"]["id"]["S"], "a");
    endpoint.clear_requests();
    assert_eq!(endpoint.requests(), []);
}

#[tokio::test]
async fn a_scripted_failure_hits_one_request_and_the_next_goes_through() {
    let (endpoint, config, _queue) = endpoint().await;
    endpoint.create_idempotency_table("claims").await.unwrap();
    let fail_next = || {
        let kind = "ProvisionedThroughputExceededException".to_owned();
        endpoint.fail_next("DynamoDB", Injected::Answer { status: 400, kind, message: "slow down".to_owned() });
    };
    fail_next();
    assert!(claim(&config).await.unwrap_err().is_provisioned_throughput_exceeded_exception());
    fail_next();
    endpoint.forget_failures();
    claim(&config).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_carried_out_and_silence_is_not() {
    let (endpoint, config, _queue) = endpoint().await;
    let key = json!({"TableName": "claims", "Key": {"id": {"S": "a"}}});
    endpoint.create_idempotency_table("claims").await.unwrap();
    for (failure, stored) in [(Injected::Silence, false), (Injected::LostAnswer, true)] {
        endpoint.fail_next("DynamoDB_20120810.PutItem", failure);
        claim(&config).await.unwrap_err();
        assert_eq!(endpoint.dynamodb("GetItem", &key).await.unwrap().get("Item").is_some(), stored);
    }
}

#[tokio::test]
async fn latency_delays_an_answer() {
    let (endpoint, config, queue) = endpoint().await;
    endpoint.set_latency(Duration::from_millis(80));
    let before = std::time::Instant::now();
    aws_sdk_sqs::Client::new(&config).get_queue_url().queue_name(queue.name()).send().await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_secret_is_found_by_its_name() {
    let (endpoint, _config, _queue) = endpoint().await;
    endpoint.put_secret("tickets", "{\"reservation_api_token\": \"t\"}");
    let ask = |name: &'static str| {
        let request =
            reqwest::Client::new().post(endpoint.url()).header("x-amz-target", "secretsmanager.GetSecretValue");
        request.body(json!({"SecretId": name}).to_string()).send()
    };
    let found: Value = ask("tickets").await.unwrap().json().await.unwrap();
    assert_eq!(found["SecretString"], "{\"reservation_api_token\": \"t\"}");
    assert_eq!(ask("absent").await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_rule_hands_what_it_chooses_of_its_bus_to_its_queue() {
    let (endpoint, _config, queue) = endpoint().await;
    endpoint.add_bus("holdfast");
    let pattern = json!({"source": ["shop"], "detail-type": ["paid"], "detail": {"by": ["client"]}});
    let rule = Rule { bus: "holdfast".to_owned(), pattern: Pattern::of(&pattern).unwrap(), target: queue.clone() };
    endpoint.add_rule(rule);
    let detail = json!({"by": "client", "id": 7});
    for (bus, source, detail_type) in
        [("holdfast", "shop", "paid"), ("default", "shop", "paid"), ("holdfast", "x", "paid")]
    {
        endpoint.publish(bus, source, detail_type, &detail).unwrap();
    }
    endpoint.publish("holdfast", "shop", "paid", &json!({"by": "worker"})).unwrap();
    assert_eq!(endpoint.bus_entries().len(), 4);
    let [message] = queue.messages().try_into().unwrap();
    let event: Value = serde_json::from_str(&message.body).unwrap();
    let told = ["source", "detail-type", "version", "region"].map(|name| event[name].as_str().unwrap());
    assert_eq!((told, &event["detail"]), (["shop", "paid", "0", "us-east-1"], &detail));
    assert_eq!(event["time"].as_str().unwrap().len(), "2026-11-20T09:14:20Z".len());
    assert!(endpoint.publish("nowhere", "shop", "paid", &detail).is_err());
}

#[tokio::test]
async fn what_requests_take_is_counted_by_table_where_the_database_says_so() {
    let (endpoint, config, _queue) = endpoint().await;
    endpoint.create_waiting_room_table("lines").await.unwrap();
    endpoint.create_waiting_room_table("others").await.unwrap();
    let total = aws_sdk_dynamodb::types::ReturnConsumedCapacity::Total;
    let tables = aws_sdk_dynamodb::Client::new(&config);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    for (table, note) in [("lines", "x".repeat(1_500)), ("lines", String::new()), ("others", String::new())] {
        let put = tables.put_item().table_name(table).item("pk", text("a")).item("sk", text("b"));
        put.item("note", text(&note)).return_consumed_capacity(total.clone()).send().await.unwrap();
    }
    let get = || tables.get_item().table_name("lines").key("pk", text("a")).key("sk", text("b")).consistent_read(true);
    get().return_consumed_capacity(total.clone()).send().await.unwrap();
    get().send().await.unwrap();
    let taken = endpoint.take_taken("lines");
    let counted = |operation: &str| (taken[operation].requests, taken[operation].units);
    // What is over a kilobyte takes two units to be written, and taking it away again does too.
    assert_eq!((counted("PutItem"), counted("GetItem")), ((2, 4.0), (1, 1.0)), "{taken:?}");
    assert!(taken["PutItem"].bytes.0 > 1_500 && taken["GetItem"].bytes.1 > 0, "{taken:?}");
    assert_eq!(endpoint.take_taken("lines"), BTreeMap::new(), "it is forgotten");
    assert_eq!(endpoint.take_taken("others")["PutItem"].requests, 1);
}
