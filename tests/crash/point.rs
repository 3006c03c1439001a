//! What is done to the worker that trips the wire, and how time passes until all messages have ended.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use local_stack::{
    lambda::Function,
    mapping::Delivery,
    process::Process,
    stack::{FUNCTION_TIMEOUT, TABLE},
    tripwire::Side,
};
use serde_json::{Value, json};
use shared::deadline::epoch_ms;

use crate::run::Run;

/// The request was on its way for a part of the time that its sender waits.
const ON_THE_WAY: Duration = Duration::from_millis(100);

/// A worker that waited for an answer for longer than this asks again, as soon as it goes on.
const STANDSTILL: Duration = shared::client::aws::TRY_TIMEOUT.saturating_sub(ON_THE_WAY);

/// What happens at a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// The worker is killed.
    Killed,
    /// A second worker gets a copy of every message while the first stands still; then the first is killed.
    KilledBesideAnother,
    /// The first stands still until its lease is over, as an environment that was frozen does. A second worker gets a copy
    /// of every message; then the first goes on where it stood.
    OvertakenByAnother,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Killed, Self::KilledBesideAnother, Self::OvertakenByAnother];
}

impl Run {
    /// Delivers what is due and lets time pass to what is due next. A message's receives are counted by the queue, which
    /// moves one that has none left without a reason, so that too many of them do not go unseen.
    pub(crate) async fn converge(&mut self, mode: Mode) {
        while let Some(wait) = self.queue.next_visible_in() {
            self.elapse(wait).await;
            self.wait_for_due().await;
            let requests_before = self.tripwire.requests().len();
            let function = self.hurried.take().unwrap_or_else(|| self.function.clone());
            let mapping = self.stack.map(self.queue.clone(), function.clone());
            let mut delivery = Box::pin(async move { mapping.deliver_once().await });
            let tripwire = self.tripwire.clone();
            tokio::select! {
                delivery = &mut delivery => self.note(delivery),
                () = tripwire.tripped(), if !tripwire.has_tripped() => {
                    self.disturb(mode, &function, delivery, requests_before).await;
                }
            }
        }
    }

    async fn disturb(
        &mut self,
        mode: Mode,
        function: &Function,
        delivery: impl Future<Output = Option<Delivery>>,
        requests_before: usize,
    ) {
        let requests = self.tripwire.requests();
        if mode != Mode::OvertakenByAnother {
            // The last request is the held one; before its effect it is none.
            let done = requests.len() - usize::from(self.side == Some(Side::Before));
            let dead_lettered = |name: &String| name == "AmazonSQS.SendMessage";
            self.dead_lettered_without_answer = requests[requests_before..done].iter().any(dead_lettered);
        }
        let first: Vec<Process> = function.processes_in_hand().into_iter().map(Process).collect();
        match mode {
            Mode::Killed => drop(delivery), // Which kills the process.
            Mode::KilledBesideAnother => {
                // However long the second takes on a busy machine, the first does not go on by itself meanwhile.
                let frozen = first.iter().all(|process| process.freeze());
                assert!(frozen || cfg!(not(target_os = "linux")), "the first worker stands still: {first:?}");
                self.another_gets_a_copy().await;
                drop(delivery);
            }
            Mode::OvertakenByAnother => {
                let (held, started) = (self.claims().await, Instant::now());
                let frozen = first.iter().all(|process| process.freeze());
                assert!(frozen || cfg!(not(target_os = "linux")), "the first worker stands still: {first:?}");
                self.elapse(FUNCTION_TIMEOUT + Duration::from_secs(1)).await;
                self.another_gets_a_copy().await;
                let overtaken = self.claims().await;
                self.may_ask_again = started.elapsed() >= STANDSTILL;
                self.tripwire.release();
                first.iter().for_each(|process| process.resume());
                let delivery = delivery.await;
                self.note(delivery);
                self.fence_held(&held, &overtaken, &self.claims().await);
            }
        }
    }

    /// The first worker's own messages are still hidden, unless it gave them back already and that long ago.
    async fn another_gets_a_copy(&mut self) {
        self.send();
        let delivery = self.mapping().deliver_once().await;
        self.note(delivery);
    }

    fn note(&mut self, delivery: Option<Delivery>) {
        // A message without a receive left is moved when the queue is asked, and then there is no delivery.
        let Some(delivery) = delivery else { return };
        assert!(delivery.invocation.result.is_ok(), "the invocation ends well: {:#?}", delivery.invocation);
        for line in delivery.invocation.logs.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let (Some(id), Some(outcome)) = (line["message_id"].as_str(), line["outcome"].as_str()) {
                self.ended.push((id.to_owned(), outcome.to_owned()));
            }
        }
    }

    /// Lets time pass: for the queue by its clock, and for the leases by moving their ends back. Nothing but a claim reads
    /// the end of a lease, and it compares it with the present, so a lease that ends earlier is one that has lasted longer.
    async fn elapse(&self, time: Duration) {
        self.queue.elapse(time);
        let milliseconds = u64::try_from(time.as_millis()).unwrap() + 1; // Rounded up, as the queue counts in nanoseconds.
        for (id, claim) in self.claims().await {
            let end: u64 = claim["in_progress_expiration"]["N"].as_str().unwrap().parse().unwrap();
            if end == 0 || claim["status"]["S"] == "COMPLETED" {
                continue;
            }
            let input = json!({
                "TableName": TABLE,
                "Key": {"id": {"S": id}},
                "UpdateExpression": "SET in_progress_expiration = :end",
                "ExpressionAttributeValues": {":end": {"N": end.saturating_sub(milliseconds).to_string()}},
            });
            self.stack.aws.dynamodb("UpdateItem", &input).await.expect("DynamoDB answers");
        }
    }

    async fn wait_for_due(&self) {
        let Some(due) = self.due.filter(|_| !self.tripwire.requests().is_empty()) else { return };
        let left = (due * 1_000).saturating_sub(epoch_ms(SystemTime::now()));
        tokio::time::sleep(Duration::from_millis(left)).await;
    }

    /// What a worker claimed and another took over, the first can neither complete nor release. One that asks for its claim
    /// again gets what the other gave back.
    #[track_caller]
    fn fence_held(
        &self,
        held: &BTreeMap<String, Value>,
        overtaken: &BTreeMap<String, Value>,
        now: &BTreeMap<String, Value>,
    ) {
        let is_out =
            |claim: &Value| claim["status"]["S"] == "INPROGRESS" && claim["in_progress_expiration"]["N"] != "0";
        for (id, claim) in held.iter().filter(|(_, claim)| is_out(claim)) {
            let successor = &overtaken[id];
            let given_back = successor["in_progress_expiration"]["N"] == "0";
            if successor["owner"] != claim["owner"] && !(self.may_ask_again && given_back) {
                assert_eq!(now[id], *successor, "the first worker touched its successor's claim");
            }
        }
    }
}
