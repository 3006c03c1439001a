//! What SQS and Lambda refuse: requests that go beyond a limit of the table, and what either stack makes of them. The local
//! stack has no request that creates a mapping; the template's rules hold those limits.

use serde_json::{Value, json};

use crate::{cases::VISIBILITY_SECONDS, endpoint::Endpoint, function::TIMEOUT_SECONDS};

/// A request about a queue with one message in it.
#[derive(Debug)]
pub(crate) struct Request {
    /// The request as a sentence.
    pub(crate) name: &'static str,
    /// The row of the table that it is about.
    pub(crate) row: &'static str,
    /// What happened to the message before.
    pub(crate) given: Given,
    pub(crate) operation: &'static str,
    /// What the request says beside the queue's URL; the argument is the receipt handle of the first receive.
    pub(crate) input: fn(&str) -> Value,
    /// The code of the refusal; nothing when the request is taken and does nothing.
    pub(crate) refused: Option<&'static str>,
    /// What MiniStack does instead: the name of the difference, and the code of its refusal.
    pub(crate) ministack: Option<(&'static str, Option<&'static str>)>,
}

/// What happened to the message before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// It was received and is hidden.
    InFlight,
    /// It was received and is visible again.
    VisibleAgain,
    /// It was received a second time, so the first receipt handle is stale.
    ReceivedTwice,
}

const INVALID: Option<&str> = Some("InvalidParameterValue");
const TOTAL_VISIBILITY: &str = "any visibility timeout is taken, also above twelve hours";

/// Requests that SQS does not carry out.
pub(crate) const REQUESTS: &[Request] = &[
    Request {
        name: "delete by a stale receipt handle",
        row: "delivery",
        given: Given::ReceivedTwice,
        operation: "DeleteMessage",
        input: |handle| json!({"ReceiptHandle": handle}),
        refused: None,
        ministack: Some(("a stale receipt handle is refused", Some("ReceiptHandleIsInvalid"))),
    },
    Request {
        name: "delete by something that is no receipt handle",
        row: "delivery",
        given: Given::InFlight,
        operation: "DeleteMessage",
        input: |_| json!({"ReceiptHandle": "nonsense"}),
        refused: Some("ReceiptHandleIsInvalid"),
        ministack: None,
    },
    Request {
        name: "hide a message that is visible",
        row: "per-message back-off",
        given: Given::VisibleAgain,
        operation: "ChangeMessageVisibility",
        input: |handle| json!({"ReceiptHandle": handle, "VisibilityTimeout": 10}),
        refused: Some("MessageNotInflight"),
        ministack: Some(("a visible message is hidden by its old receipt handle", None)),
    },
    Request {
        name: "hide a message for longer than twelve hours",
        row: "per-message back-off",
        given: Given::InFlight,
        operation: "ChangeMessageVisibility",
        input: |handle| json!({"ReceiptHandle": handle, "VisibilityTimeout": 43_201}),
        refused: INVALID,
        ministack: Some((TOTAL_VISIBILITY, None)),
    },
    Request {
        name: "hide a message until later than twelve hours after its first receive",
        row: "per-message back-off",
        given: Given::InFlight,
        operation: "ChangeMessageVisibility",
        input: |handle| json!({"ReceiptHandle": handle, "VisibilityTimeout": 43_200}),
        refused: INVALID,
        ministack: Some((TOTAL_VISIBILITY, None)),
    },
    Request {
        name: "send with a delay of more than fifteen minutes",
        row: "DelaySeconds",
        given: Given::InFlight,
        operation: "SendMessage",
        input: |_| json!({"MessageBody": "late", "DelaySeconds": 901}),
        refused: INVALID,
        ministack: Some(("any delay is taken, also above fifteen minutes", None)),
    },
    Request {
        name: "send more than a mebibyte",
        row: "retention",
        given: Given::InFlight,
        operation: "SendMessage",
        input: |_| json!({"MessageBody": "x".repeat(1024 * 1024 + 1)}),
        refused: INVALID,
        ministack: None,
    },
];

/// A mapping that Lambda does not create.
#[derive(Debug)]
pub(crate) struct Creation {
    /// The mapping as a sentence.
    pub(crate) name: &'static str,
    /// The row of the table that it is about.
    pub(crate) row: &'static str,
    /// The queue's visibility timeout.
    pub(crate) visibility_seconds: u64,
    pub(crate) properties: fn() -> Value,
    /// The name of the difference when MiniStack creates it.
    pub(crate) ministack: Option<&'static str>,
}

const CREATION: Creation =
    Creation { name: "", row: "", visibility_seconds: VISIBILITY_SECONDS, properties: || json!({}), ministack: None };
const ANY_MAPPING: &str = "a mapping is created whatever its batch size, window and visibility timeout";

/// Mappings that Lambda does not create.
pub(crate) const CREATIONS: &[Creation] = &[
    Creation {
        name: "more than ten records without a window",
        row: "batch size",
        properties: || json!({"BatchSize": 11}),
        ministack: Some(ANY_MAPPING),
        ..CREATION
    },
    Creation {
        name: "more than ten thousand records",
        row: "batch size",
        properties: || json!({"BatchSize": 10_001, "MaximumBatchingWindowInSeconds": 1}),
        ministack: Some(ANY_MAPPING),
        ..CREATION
    },
    Creation {
        name: "a window of more than five minutes",
        row: "batching window",
        properties: || json!({"MaximumBatchingWindowInSeconds": 301}),
        ministack: Some(ANY_MAPPING),
        ..CREATION
    },
    Creation {
        name: "a function that may run for longer than a message is hidden",
        row: "visibility timeout",
        visibility_seconds: TIMEOUT_SECONDS - 1,
        ministack: Some(ANY_MAPPING),
        ..CREATION
    },
    Creation {
        name: "one invocation at a time",
        row: "MaximumConcurrency",
        properties: || json!({"ScalingConfig": {"MaximumConcurrency": 1}}),
        ..CREATION
    },
    Creation {
        name: "more than a thousand invocations at a time",
        row: "MaximumConcurrency",
        properties: || json!({"ScalingConfig": {"MaximumConcurrency": 1_001}}),
        ..CREATION
    },
];

impl Request {
    /// Makes the request at a queue that has only its message to come. The error is the refusal. Whatever the answer, the
    /// message is there afterwards, and nothing else is.
    pub(crate) async fn make(&self, endpoint: Endpoint<'_>, queue: &str) -> Result<Value, String> {
        endpoint.send(queue, &["{}".to_owned()]).await;
        let first = receive(endpoint, queue, if self.given == Given::InFlight { 30 } else { 0 }).await;
        if self.given == Given::ReceivedTwice {
            receive(endpoint, queue, 30).await;
        }
        let mut input = (self.input)(&first);
        input["QueueUrl"] = json!(endpoint.queue_url(queue));
        endpoint.try_sqs(self.operation, &input).await
    }
}

async fn receive(endpoint: Endpoint<'_>, queue: &str, visibility_seconds: u32) -> String {
    let input = json!({"QueueUrl": endpoint.queue_url(queue), "VisibilityTimeout": visibility_seconds});
    let answer = endpoint.sqs("ReceiveMessage", &input).await;
    answer["Messages"][0]["ReceiptHandle"].as_str().expect("the message is visible").to_owned()
}
