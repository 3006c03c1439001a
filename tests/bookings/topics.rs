//! Records of topics: a topic's mapping in front of the real functions.

use local_stack::kafka::{Cluster, KafkaMapping, KafkaOptions, Record};

use crate::house::{Desk, House, JOE, booking, booking_with, cancellation, eventually};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The mapping of a topic to a function of a house.
async fn drain(desk: &Desk, cluster: &Cluster, topic: &str) -> (usize, Vec<usize>, Option<String>) {
    let invoke =
        |event: String| async move { desk.function.invoke(event).await.result.map_err(|error| error.to_string()) };
    let mut mapping = KafkaMapping::new(cluster.clone(), topic, invoke, KafkaOptions::default());
    let deliveries = mapping.drain().await;
    let error = deliveries.last().and_then(|delivery| delivery.answer.clone().err());
    (deliveries.len(), mapping.committed().to_vec(), error)
}

/// Hard case 10: poison in a partition.
#[tokio::test]
async fn poison_in_a_partition_is_buried_and_the_partition_goes_on() {
    let Some(house) = House::open().await else { return };
    let cluster = Cluster::default();
    cluster.create("booking-events", 1);
    for number in 0..250 {
        let value = match number % 50 {
            7 => "{".to_owned(),
            _ => booking_with(
                &format!("b{number:03}"),
                serde_json::json!({
                    "startDate": format!("2{number:03}-06-10"), "endDate": format!("2{number:03}-06-12"),
                }),
            )
            .to_string(),
        };
        cluster.produce("booking-events", Record::new(format!("b{number}"), value));
    }
    let (batches, committed, error) = drain(&house.created, &cluster, "booking-events").await;
    assert_eq!((batches, committed, error), (3, vec![250], None), "a hundred at a time, and each comes once");
    assert_eq!((house.rows().await.len(), house.created.dead_letters.messages().len()), (245, 5));
    assert_eq!(house.created.count("db_connects_total"), 1);
}

/// A record that waits is worked by the queue, with the trace and the place of its topic.
#[tokio::test]
async fn a_record_of_an_unknown_guest_is_parked_and_written_once_the_guest_is_known() {
    let Some(house) = House::open().await else { return };
    let cluster = Cluster::default();
    let headers = vec![("Traceparent".to_owned(), Some(PARENT.into())), ("x".to_owned(), None)];
    let value = booking_with("b1", serde_json::json!({"userId": "late@example.com"})).to_string();
    cluster.produce("booking-events", Record { headers, ..Record::new("b1", value) });
    let (_, committed, error) = drain(&house.created, &cluster, "booking-events").await;
    assert_eq!((committed, error), (vec![1], None));
    assert_eq!(house.created.count("parked_total"), 1);
    house.run("INSERT INTO users (email, username) VALUES ('late@example.com', 'late')").await;
    let ended = house.created.redeliver(&house.stack).await;
    ended[0].is("success");
    assert_eq!(ended[0].line["trace_id"], PARENT[3..35]);
    assert_eq!(ended[0].line["source"], "booking-events-0@0");
    assert_eq!(house.rows().await, ["b1 Accepted"]);
}

/// Hard case 4 by Kafka: the database is away, so the partition waits and nothing is sent anywhere.
#[tokio::test]
async fn a_partition_waits_while_the_database_is_away() {
    let Some(house) = House::open_with(&[("DB_CONNECT_TIMEOUT_MS", "500".to_owned())]).await else { return };
    let elsewhere = [("DB_PORT", "1".to_owned()), ("DB_CONNECT_TIMEOUT_MS", "500".to_owned())];
    let away = Desk::new(&house.stack, &house.database, "booking-created", &elsewhere);
    let cluster = Cluster::default();
    cluster.produce("booking-events", Record::new("b1", booking("b1").to_string()));
    cluster.produce("booking-events", Record::new("b2", "{"));
    let (batches, committed, error) = drain(&away, &cluster, "booking-events").await;
    assert_eq!((batches, committed), (1, vec![0]));
    assert!(error.is_some(), "an error, and no partial answer");
    assert_eq!((away.dead_letters.messages().len(), away.queue.messages().len()), (0, 0));
    let (_, committed, error) = drain(&house.created, &cluster, "booking-events").await;
    assert_eq!((committed, error), (vec![2], None));
    assert_eq!((house.rows().await, house.created.dead_letters.messages().len()), (vec!["b1 Accepted".to_owned()], 1));
}

/// Both orders, across two topics whose order among each other nobody knows.
#[tokio::test]
async fn a_cancellation_that_is_read_before_its_booking_ends_it_all_the_same() {
    let Some(house) = House::open().await else { return };
    let cluster = Cluster::default();
    cluster.produce("booking-cancellations", Record::new("b1", cancellation("b1", crate::house::JANE).to_string()));
    cluster.produce("booking-cancellations", Record::new("b2", cancellation("b2", JOE).to_string()));
    cluster.produce("booking-events", Record::new("b1", booking("b1").to_string()));
    let second = booking_with("b2", serde_json::json!({"roomId": "102"}));
    cluster.produce("booking-events", Record::new("b2", second.to_string()));
    drain(&house.cancelled, &cluster, "booking-cancellations").await;
    drain(&house.created, &cluster, "booking-events").await;
    assert_eq!(house.rows().await, ["b1 Cancelled", "b2 Accepted"], "Joe can't give Jane's booking up");
}

/// Hard case 14: a topic is read anew from its start.
#[tokio::test]
async fn a_topic_that_is_read_once_more_changes_nothing() {
    let Some(house) = House::open().await else { return };
    let cluster = Cluster::default();
    for (id, room) in [("b1", "101"), ("b2", "101"), ("b3", "102")] {
        let value = booking_with(id, serde_json::json!({"roomId": room})).to_string();
        cluster.produce("booking-events", Record::new(id, value));
    }
    for _ in 0..3 {
        let (_, committed, error) = drain(&house.created, &cluster, "booking-events").await;
        assert_eq!((committed, error), (vec![3], None));
    }
    assert_eq!(house.rows().await.len(), 3);
    let refunds = || house.told().into_iter().filter(|told| told.starts_with("payment")).count();
    eventually("one refund", async || refunds() == 1).await;
    house.run("DELETE FROM holdfast.inbox").await;
    drain(&house.created, &cluster, "booking-events").await;
    assert_eq!((house.rows().await.len(), refunds()), (3, 1), "also after the inbox has forgotten it");
}
