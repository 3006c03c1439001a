use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn queue() -> Queue {
    Queue::new("holds", QueueOptions::default())
}

fn with_dead_letters(max_receive_count: u32) -> (Queue, Queue) {
    let dead = Queue::new("holds-dlq", QueueOptions::default());
    let redrive = Some(Redrive { queue: dead.clone(), max_receive_count });
    (Queue::new("holds", QueueOptions { visibility: 30 * SECOND, redrive }), dead)
}

#[test]
fn a_received_message_is_hidden_until_its_visibility_runs_out() {
    let queue = queue();
    queue.send(Message::new("a")).unwrap();
    assert_eq!(queue.receive(10).len(), 1);
    queue.elapse(29 * SECOND);
    assert_eq!(queue.receive(10).len(), 0);
    queue.elapse(SECOND);
    let again = queue.receive(10);
    assert_eq!(again[0].system["ApproximateReceiveCount"], "2");
}

#[test]
fn each_receive_has_its_own_handle_and_an_old_one_deletes_nothing() {
    let queue = queue();
    queue.send(Message::new("a")).unwrap();
    let first = queue.receive(1).remove(0);
    queue.elapse(30 * SECOND);
    let second = queue.receive(1).remove(0);
    assert_ne!(first.receipt, second.receipt);
    queue.delete(&first.receipt).unwrap();
    assert_eq!(queue.len(), 1);
    queue.delete(&second.receipt).unwrap();
    assert!(queue.is_empty());
    assert_eq!(queue.delete("nonsense"), Err(QueueError::ReceiptHandleIsInvalid));
}

#[test]
fn a_message_keeps_its_id_its_attributes_and_its_first_receive() {
    let queue = queue();
    let message = Message {
        id: Some("given".to_owned()),
        attributes: BTreeMap::from([("traceparent".to_owned(), MessageAttribute::string("00-1"))]),
        trace_header: Some("Root=1".to_owned()),
        group_id: Some("tenant-1".to_owned()),
        ..Message::new("a")
    };
    assert_eq!(queue.send(message).unwrap(), "given");
    let first = queue.receive(1).remove(0);
    queue.elapse(30 * SECOND);
    let second = queue.receive(1).remove(0);
    assert_eq!(second.id, "given");
    assert_eq!(second.attributes["traceparent"], MessageAttribute::string("00-1"));
    assert_eq!(second.system["AWSTraceHeader"], "Root=1");
    assert_eq!(second.system["MessageGroupId"], "tenant-1");
    assert_eq!(first.system["ApproximateFirstReceiveTimestamp"], second.system["ApproximateFirstReceiveTimestamp"]);
    assert_eq!(first.system["SentTimestamp"], second.system["SentTimestamp"]);
}

#[test]
fn a_worn_out_message_moves_at_the_next_attempt_to_receive_it() {
    let (queue, dead) = with_dead_letters(2);
    let id = queue.send(Message { group_id: Some("tenant-1".to_owned()), ..Message::new("a") }).unwrap();
    for _ in 0..2 {
        assert_eq!(queue.receive(1).len(), 1);
        assert!(queue.skip_wait());
    }
    assert_eq!((queue.len(), dead.len()), (1, 0), "it stays until somebody asks for it");
    assert_eq!(queue.receive(1).len(), 0);
    assert_eq!((queue.len(), dead.len()), (0, 1));
    let moved = dead.receive(1).remove(0);
    assert_eq!(moved.id, id);
    assert_eq!(moved.system["DeadLetterQueueSourceArn"], queue.arn());
    assert_eq!(moved.system["MessageGroupId"], "tenant-1");
}

#[test]
fn a_changed_visibility_counts_from_now_and_is_remembered() {
    let queue = queue();
    let id = queue.send(Message::new("a")).unwrap();
    let receipt = queue.receive(1).remove(0).receipt;
    queue.change_visibility(&receipt, 100 * SECOND).unwrap();
    queue.elapse(99 * SECOND);
    assert!(queue.receive(1).is_empty());
    queue.elapse(SECOND);
    assert_eq!(queue.receive(1).len(), 1);
    assert_eq!(queue.visibility_changes(), [(id, 100 * SECOND)]);
}

#[test]
fn a_visibility_of_zero_makes_the_message_visible_at_once() {
    let queue = queue();
    queue.send(Message::new("a")).unwrap();
    let receipt = queue.receive(1).remove(0).receipt;
    queue.change_visibility(&receipt, Duration::ZERO).unwrap();
    assert_eq!(queue.change_visibility(&receipt, SECOND), Err(QueueError::MessageNotInflight));
    assert_eq!(queue.receive(1).len(), 1);
    let stale = queue.change_visibility(&receipt, SECOND);
    assert!(matches!(stale, Err(QueueError::InvalidParameterValue(_))), "{stale:?}");
}

#[test]
fn visibility_ends_twelve_hours_after_the_first_receive() {
    let queue = queue();
    queue.send(Message::new("a")).unwrap();
    let receipt = queue.receive(1).remove(0).receipt;
    assert!(queue.change_visibility(&receipt, MAX_VISIBILITY + SECOND).is_err());
    queue.elapse(10 * SECOND);
    assert!(queue.change_visibility(&receipt, MAX_VISIBILITY).is_err());
    queue.change_visibility(&receipt, MAX_VISIBILITY - 11 * SECOND).unwrap();
}

#[test]
fn a_receive_gives_out_ten_messages_at_most() {
    let queue = queue();
    for _ in 0..12 {
        queue.send(Message::new("a")).unwrap();
    }
    assert_eq!(queue.receive(100).len(), 10);
    assert_eq!(queue.receive(100).len(), 2);
}

#[test]
fn a_body_is_one_byte_to_one_mebibyte_of_xml_characters() {
    let queue = queue();
    assert_eq!(queue.send(Message::new("")), Err(QueueError::MissingBody));
    for refused in ["\0", "\u{8}", "\u{1F}", "\u{FFFE}", "\u{FFFF}"] {
        assert!(matches!(queue.send(Message::new(refused)), Err(QueueError::InvalidMessageContents(_))), "{refused:?}");
    }
    queue.send(Message::new("\t\n\r \u{7F}\u{D7FF}\u{E000}\u{FFFD}\u{10000}\u{10FFFF}")).unwrap();
    queue.send(Message::new("a".repeat(MAX_MESSAGE_BYTES))).unwrap();
    assert!(queue.send(Message::new("a".repeat(MAX_MESSAGE_BYTES + 1))).is_err());
}

#[test]
fn the_attributes_count_towards_the_size_with_their_names_types_and_values() {
    let message = |body: usize| Message {
        attributes: BTreeMap::from([
            ("text".to_owned(), MessageAttribute::string("12345")),
            (
                "bytes".to_owned(),
                MessageAttribute {
                    data_type: "Binary.x".to_owned(),
                    string_value: None,
                    binary_value: Some("AP8QAA==".to_owned()),
                },
            ),
        ]),
        ..Message::new("a".repeat(body))
    };
    let attributes = ("text".len() + "String".len() + 5) + ("bytes".len() + "Binary.x".len() + 4);
    queue().send(message(MAX_MESSAGE_BYTES - attributes)).unwrap();
    let error = queue().send(message(MAX_MESSAGE_BYTES - attributes + 1)).unwrap_err();
    assert!(matches!(error, QueueError::InvalidParameterValue(_)), "{error}");
}

#[test]
fn a_message_has_ten_attributes_at_most() {
    let queue = queue();
    let message = |count: usize| Message {
        attributes: (0..count).map(|index| (format!("a{index}"), MessageAttribute::string("v"))).collect(),
        ..Message::new("a")
    };
    queue.send(message(10)).unwrap();
    assert!(queue.send(message(11)).is_err());
}

#[track_caller]
fn refused(name: &str, data_type: &str, value: &str) {
    let attribute = MessageAttribute { data_type: data_type.to_owned(), ..MessageAttribute::string(value) };
    let message = Message { attributes: BTreeMap::from([(name.to_owned(), attribute)]), ..Message::new("a") };
    assert!(matches!(queue().send(message), Err(QueueError::InvalidParameterValue(_))), "{name} {data_type} {value:?}");
}

#[test]
fn an_attribute_needs_a_proper_name_a_known_type_and_a_value() {
    refused("", "String", "v");
    refused("a b", "String", "v");
    refused("AWS.mine", "String", "v");
    refused(".a", "String", "v");
    refused("a", "Text", "v");
    refused("a", "String", "");
    refused("a", "String", "\u{1}");
    refused("a", "Number", "ten");
    refused("a", "Binary", "only a string value");
}

#[test]
fn a_group_is_1_to_128_visible_characters() {
    let grouped = |group: &str| queue().send(Message { group_id: Some(group.to_owned()), ..Message::new("a") });
    assert!(grouped("tenant-1/north").is_ok() && grouped(&"g".repeat(128)).is_ok());
    for group in ["", "two words", "\u{e9}", &"g".repeat(129)] {
        assert!(matches!(grouped(group), Err(QueueError::InvalidParameterValue(_))), "{group:?}");
    }
}

#[tokio::test]
async fn a_poller_wakes_for_a_new_message_and_for_the_end_of_a_wait() {
    let queue = queue();
    let poller = tokio::spawn({
        let queue = queue.clone();
        async move { queue.arrived().await }
    });
    tokio::task::yield_now().await;
    queue.send(Message { delay: SECOND / 20, ..Message::new("a") }).unwrap();
    let before = Instant::now();
    poller.await.unwrap();
    assert!(before.elapsed() >= SECOND / 20);
    assert_eq!(queue.receive(1).len(), 1);
}
