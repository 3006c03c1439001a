//! SQS at either stack: the same calls in the same protocol, and what a test reads from them.

use local_stack::{aws::AwsEndpoint, ministack::MiniStack};
use serde_json::{Value, json};

use crate::{
    cases::End,
    function::{Order, Sighting},
};

/// Where SQS is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Endpoint<'s> {
    Local(&'s AwsEndpoint),
    MiniStack(&'s MiniStack),
}

/// What became of two messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The ends of `a` and `b`.
    pub(crate) ends: [End; 2],
    /// How many milliseconds after its first receive `a` was seen for the second time.
    pub(crate) back_after: Option<u64>,
}

/// A message in a dead-letter queue.
#[derive(Debug)]
struct Letter {
    label: String,
    receives: u32,
    sent: String,
}

impl Endpoint<'_> {
    /// Calls an operation of SQS. The error names its code.
    pub(crate) async fn try_sqs(&self, operation: &str, input: &Value) -> Result<Value, String> {
        let target = format!("AmazonSQS.{operation}");
        match self {
            Self::MiniStack(account) => account.try_call("sqs", &target, input).await,
            Self::Local(aws) => {
                let call = reqwest::Client::new().post(aws.url()).header("x-amz-target", target);
                let answer = call.body(input.to_string()).send().await.expect("the endpoint answers");
                let (status, text) = (answer.status(), answer.text().await.expect("the answer has a body"));
                if status.is_success() { Ok(serde_json::from_str(&text).expect("it is JSON")) } else { Err(text) }
            }
        }
    }

    /// As above, for a call that is not refused.
    pub(crate) async fn sqs(&self, operation: &str, input: &Value) -> Value {
        self.try_sqs(operation, input).await.unwrap_or_else(|refusal| panic!("{operation}: {refusal}"))
    }

    /// The URL by which either stack finds a queue.
    pub(crate) fn queue_url(&self, name: &str) -> String {
        let url = match self {
            Self::Local(aws) => aws.url(),
            Self::MiniStack(account) => &account.url,
        };
        format!("{url}/000000000000/{name}")
    }

    /// Sends messages with these bodies in one call.
    pub(crate) async fn send(&self, queue: &str, bodies: &[String]) {
        let entry = |(index, body): (usize, &String)| json!({"Id": index.to_string(), "MessageBody": body});
        let entries: Vec<_> = bodies.iter().enumerate().map(entry).collect();
        let input = json!({"QueueUrl": self.queue_url(queue), "Entries": entries});
        let answer = self.sqs("SendMessageBatch", &input).await;
        assert_eq!(answer["Failed"].as_array().map_or(0, Vec::len), 0, "{answer}");
    }

    /// How many messages a queue has, hidden ones included.
    pub(crate) async fn length(&self, queue: &str) -> u64 {
        let input = json!({"QueueUrl": self.queue_url(queue), "AttributeNames": ["All"]});
        let answer = self.sqs("GetQueueAttributes", &input).await;
        let counts = ["", "NotVisible", "Delayed"].map(|kind| {
            let count = answer["Attributes"][format!("ApproximateNumberOfMessages{kind}")].as_str();
            count.and_then(|count| count.parse::<u64>().ok()).expect("the queue is counted")
        });
        counts.iter().sum()
    }

    /// What became of `a` and `b`, once their queue is empty.
    pub(crate) async fn observed(&self, dead_letters: &str, sightings: &[Sighting]) -> Observed {
        let letters = self.letters(dead_letters).await;
        let ends = ["a", "b"].map(|label| {
            let seen: Vec<_> = sightings.iter().filter(|sighting| sighting.label == label).collect();
            for (index, sighting) in seen.iter().enumerate() {
                assert_eq!(sighting.receives as usize, index + 1, "each receive is seen: {seen:?}");
            }
            let times = seen.len() as u32;
            match letters.iter().filter(|letter| letter.label == label).collect::<Vec<_>>()[..] {
                [] => End::Deleted(times),
                [letter] => {
                    // Its age goes on counting from there, so a dead letter must be kept for longer.
                    assert!(seen.iter().all(|sighting| sighting.sent == letter.sent), "{letter:?} {seen:?}");
                    End::Dead { receives: letter.receives, seen: times }
                }
                ref copies => panic!("{label} is there {} times", copies.len()),
            }
        });
        // From the queue's own time of the first receive, because a process may have had to start before it saw anything.
        let second = sightings.iter().filter(|sighting| sighting.label == "a").nth(1);
        let back_after = second.map(|second| second.at.saturating_sub(second.first_received));
        Observed { ends, back_after }
    }

    async fn letters(&self, queue: &str) -> Vec<Letter> {
        let input = json!({"QueueUrl": self.queue_url(queue), "MaxNumberOfMessages": 10, "AttributeNames": ["All"]});
        let answer = self.sqs("ReceiveMessage", &input).await;
        let letter = |message: &Value| {
            let order: Order<String> = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
            let attribute = |name: &str| message["Attributes"][name].as_str().unwrap().to_owned();
            let receives = attribute("ApproximateReceiveCount").parse::<u32>().unwrap() - 1; // Without this one.
            Letter { label: order.label, receives, sent: attribute("SentTimestamp") }
        };
        answer["Messages"].as_array().into_iter().flatten().map(letter).collect()
    }
}
