use std::future::ready;

use super::*;
use crate::queue::QueueOptions;

/// A cluster with a topic of two partitions, of which the first has the records `a` to `a + first - 1`.
fn cluster(first: usize, second: usize) -> Cluster {
    let cluster = Cluster::default();
    cluster.create("t", 2);
    for (partition, records) in [first, second].into_iter().enumerate() {
        for number in 0..records {
            // The hash of one byte is that byte.
            let key = vec![u8::try_from(partition).unwrap()];
            let place = cluster.produce("t", Record::new(key, format!("{partition}/{number}")));
            assert_eq!(place, Place { partition, offset: number });
        }
    }
    cluster
}

/// The values of an event's records, in its order.
fn values(event: &str) -> Vec<String> {
    let event: Value = serde_json::from_str(event).unwrap();
    let text =
        |record: &Value| String::from_utf8(BASE64_STANDARD.decode(record["value"].as_str().unwrap()).unwrap()).unwrap();
    let partitions = event["records"].as_object().unwrap().values();
    partitions.flat_map(|records| records.as_array().unwrap()).map(text).collect()
}

/// The batches in which records come to a function that fails on `bad`, and the records that are given up.
async fn deliveries(cluster: &Cluster, bad: &[&str], options: KafkaOptions) -> (Vec<String>, Vec<Place>) {
    let seen = Mutex::new(Vec::new());
    let function = |event: String| {
        let values = values(&event);
        let fails = values.iter().any(|value| bad.contains(&value.as_str()));
        seen.lock().unwrap().push(values.join(" "));
        ready(if fails { Err("on demand".to_owned()) } else { Ok(Vec::new()) })
    };
    let mut mapping = KafkaMapping::new(cluster.clone(), "t", function, options);
    let given_up = mapping.drain().await.into_iter().flat_map(|delivery| delivery.given_up).collect();
    (seen.into_inner().unwrap(), given_up)
}

fn batches_of(size: usize) -> KafkaOptions {
    KafkaOptions { batch_size: size, ..KafkaOptions::default() }
}

#[tokio::test]
async fn one_batch_may_hold_several_partitions_each_in_its_order() {
    let (seen, _) = deliveries(&cluster(3, 2), &[], KafkaOptions::default()).await;
    assert_eq!(seen, ["0/0 0/1 0/2 1/0 1/1"]);
    let (seen, _) = deliveries(&cluster(3, 2), &[], batches_of(2)).await;
    assert_eq!(seen, ["0/0 0/1", "0/2 1/0", "1/1"]);
}

#[tokio::test]
async fn an_offset_is_committed_behind_what_is_done_and_not_before() {
    let cluster = cluster(2, 2);
    let fails = Mutex::new(true);
    let function = |_: String| ready(if *fails.lock().unwrap() { Err("away".to_owned()) } else { Ok(Vec::new()) });
    let mut mapping = KafkaMapping::new(cluster.clone(), "t", &function, batches_of(3));
    for _ in 0..3 {
        assert_eq!(mapping.deliver_once().await.unwrap().again.len(), 3, "the partitions wait");
        assert_eq!(mapping.committed(), [0, 0]);
    }
    *fails.lock().unwrap() = false;
    cluster.produce("t", Record::new([0], "0/2"));
    assert_eq!(mapping.deliver_once().await.unwrap().batch.len(), 3, "what failed comes before what is new");
    assert_eq!(mapping.committed(), [2, 1]);
    assert_eq!(mapping.deliver_once().await.unwrap().batch.len(), 2);
    assert_eq!(mapping.committed(), [3, 2]);
    assert_eq!(mapping.deliver_once().await, None);
}

#[tokio::test]
async fn without_a_destination_a_batch_comes_for_ever_and_with_one_ten_times_again() {
    let (seen, given_up) = deliveries(&cluster(2, 0), &["0/0"], KafkaOptions::default()).await;
    assert_eq!((seen.len(), given_up.len()), (1, 0), "it does not get on");
    let queue = Queue::new("given-up", QueueOptions::default());
    let options = KafkaOptions { on_failure: Some(Destination::Queue(queue.clone())), ..batches_of(1) };
    let (seen, given_up) = deliveries(&cluster(2, 0), &["0/0"], options).await;
    assert_eq!((seen.len(), given_up), (12, vec![Place { partition: 0, offset: 0 }]), "11 of the one, 1 of the other");
    let told: Value = serde_json::from_str(&queue.messages()[0].body).unwrap();
    assert_eq!(told["requestContext"], json!({"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 11}));
    assert_eq!(told["KafkaBatchInfo"], json!({"batchSize": 1, "offsets": {"t-0": {"start": 0, "end": 0}}}));
}

#[tokio::test]
async fn a_topic_as_destination_gets_the_records_themselves() {
    let cluster = cluster(1, 1);
    let options = KafkaOptions {
        maximum_retry_attempts: Some(0),
        on_failure: Some(Destination::Topic("given-up".to_owned())),
        ..KafkaOptions::default()
    };
    let (seen, given_up) = deliveries(&cluster, &["1/0"], options).await;
    assert_eq!((seen.len(), given_up.len()), (1, 2), "the whole batch is given up");
    assert_eq!(cluster.records("given-up"), cluster.records("t"));
}

#[tokio::test]
async fn a_batch_that_fails_is_halved_until_the_bad_record_is_alone_and_that_is_no_attempt() {
    let options = KafkaOptions {
        bisect_batch_on_function_error: true,
        maximum_retry_attempts: Some(1),
        ..KafkaOptions::default()
    };
    let (seen, given_up) = deliveries(&cluster(3, 1), &["0/1"], options).await;
    assert_eq!(seen, ["0/0 0/1 0/2 1/0", "0/0 0/1", "0/0", "0/1", "0/1", "0/2 1/0"]);
    assert_eq!(given_up, [Place { partition: 0, offset: 1 }]);
}

#[tokio::test]
async fn a_record_that_is_too_old_is_given_up_before_a_function_sees_it() {
    let cluster = Cluster::default();
    for age in [7_200, 10] {
        cluster.produce("t", Record { age: Duration::from_secs(age), ..Record::new("k", age.to_string()) });
    }
    let queue = Queue::new("given-up", QueueOptions::default());
    let options = KafkaOptions {
        maximum_record_age: Some(Duration::from_secs(3_600)),
        on_failure: Some(Destination::Queue(queue.clone())),
        ..KafkaOptions::default()
    };
    assert_eq!(deliveries(&cluster, &[], options).await.0, ["10"]);
    assert!(queue.messages()[0].body.contains("RecordAgeExceeded"));
}

#[tokio::test]
async fn an_answer_that_names_records_counts_only_where_the_setting_is_on() {
    let answer = r#"{"batchItemFailures": [
        {"itemIdentifier": {"topic-partition": "t-0", "offset": 2}}, {"itemIdentifier": {"topic-partition": "t-0", "offset": 1}}
    ]}"#;
    let function = |_: String| ready(Ok(answer.as_bytes().to_vec()));
    let mut mapping = KafkaMapping::new(cluster(3, 2), "t", function, KafkaOptions::default());
    mapping.drain().await;
    assert_eq!(mapping.committed(), [3, 2], "a list of failures reads as a success, and the records are gone");
    let options = KafkaOptions { report_batch_item_failures: true, ..KafkaOptions::default() };
    let mut mapping = KafkaMapping::new(cluster(3, 2), "t", function, options);
    let delivery = mapping.deliver_once().await.unwrap();
    assert_eq!((mapping.committed(), delivery.again.len()), (&[1, 2][..], 2));
}

#[track_caller]
fn check(answer: &str, expected: Option<&[(usize, usize)]>) {
    let batch = [(0, 5), (0, 6), (1, 7)].map(|(partition, offset)| Place { partition, offset });
    let found = first_failures(answer.as_bytes(), "a-topic", &batch);
    assert_eq!(found, expected.map(|first| first.iter().copied().collect()), "{answer}");
}

#[test]
fn an_answer_that_names_what_is_not_in_the_batch_fails_all_of_it() {
    for success in ["", "null", "{}", r#"{"batchItemFailures": null}"#, r#"{"batchItemFailures": []}"#] {
        check(success, Some(&[]));
    }
    let failure = |partition: &str, offset: &str| {
        format!(
            r#"{{"batchItemFailures": [{{"itemIdentifier": {{"topic-partition": {partition}, "offset": {offset}}}}}]}}"#
        )
    };
    check(&failure(r#""a-topic-1""#, "7"), Some(&[(1, 7)]));
    for (partition, offset) in [
        (r#""a-topic-1""#, "5"),
        (r#""a-topic-2""#, "7"),
        (r#""topic-1""#, "7"),
        (r#""a-topic-1""#, r#""7""#),
        ("1", "7"),
    ] {
        check(&failure(partition, offset), None);
    }
    for failure in
        ["no JSON", "[]", r#"{"batchItemFailures": 7}"#, r#"{"batchItemFailures": [{"itemIdentifier": "5"}]}"#]
    {
        check(failure, None);
    }
}

#[tokio::test]
async fn a_batch_that_is_not_full_waits_for_the_end_of_its_window() {
    let cluster = Cluster::default();
    cluster.create("t", 1);
    let function = |_: String| ready(Ok(Vec::new()));
    let window = Duration::from_secs(1);
    let options = KafkaOptions { maximum_batching_window: window, ..batches_of(3) };
    let mut mapping = KafkaMapping::new(cluster.clone(), "t", function, options);
    let producing = async {
        for number in 0..5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            cluster.produce("t", Record::new("k", number.to_string()));
        }
    };
    let started = Instant::now();
    let receiving = async {
        let full = mapping.deliver_in_window().await;
        let full_at = started.elapsed();
        (full, full_at, mapping.deliver_in_window().await)
    };
    let ((full, full_at, rest), ()) = tokio::join!(receiving, producing);
    assert_eq!((full.batch.len(), rest.batch.len()), (3, 2));
    assert!(full_at < window, "a full batch does not wait: {full_at:?}");
    assert!(started.elapsed() >= window, "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_event_has_the_form_that_lambda_gives_it() {
    let cluster = Cluster::default();
    let headers = vec![("H".to_owned(), Some("é".into())), ("null".to_owned(), None)];
    cluster.produce("a-topic", Record { headers, ..Record::new("key", "value") });
    cluster.produce("a-topic", Record::default());
    let seen = Mutex::new(String::new());
    let function = |event: String| {
        *seen.lock().unwrap() = event;
        ready(Ok(Vec::new()))
    };
    let options = KafkaOptions::default();
    KafkaMapping::new(cluster, "a-topic", function, options).deliver_once().await.unwrap();
    let mut event: Value = serde_json::from_str(&seen.into_inner().unwrap()).unwrap();
    for record in event["records"]["a-topic-0"].as_array_mut().unwrap() {
        assert!(record["timestamp"].take().as_u64().unwrap() > 1_700_000_000_000);
    }
    let record = |offset: u64, key: Value, value: Value, headers: Value| {
        json!({
            "topic": "a-topic", "partition": 0, "offset": offset, "timestamp": null, "timestampType": "CREATE_TIME",
            "key": key, "value": value, "headers": headers,
        })
    };
    let first = record(0, json!("a2V5"), json!("dmFsdWU="), json!([{"H": [-61, -87]}, {"null": null}]));
    assert_eq!(event["records"], json!({"a-topic-0": [first, record(1, Value::Null, Value::Null, json!([]))]}));
    assert_eq!(event["eventSource"], "aws:kafka");
}

#[tokio::test]
async fn a_mapping_that_starts_at_the_newest_record_never_sees_the_others() {
    let cluster = cluster(2, 1);
    let options = KafkaOptions { starting_position: StartingPosition::Latest, ..KafkaOptions::default() };
    let mut mapping = KafkaMapping::new(cluster.clone(), "t", |_: String| ready(Ok(Vec::new())), options);
    cluster.produce("t", Record::new([1], "new"));
    let delivery = mapping.deliver_once().await.unwrap();
    assert_eq!(delivery.batch, [Place { partition: 1, offset: 1 }]);
}
