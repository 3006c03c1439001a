//! The cases in an account of MiniStack: its queues, its mapping, and the same process of the function.

use std::{
    fs,
    path::PathBuf,
    sync::OnceLock,
    time::{Duration, Instant},
};

use local_stack::{
    ministack::MiniStack,
    ring::{Ring, on_path},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::{
    cases::{Case, VISIBILITY_SECONDS},
    endpoint::{Endpoint, Observed},
    function::{self, Order, TIMEOUT_SECONDS, sightings},
    package::package,
};

/// The name of the function and of its role.
const FUNCTION: &str = "obedient";

const MAPPINGS: &str = "/2015-03-31/event-source-mappings/";

/// Longer than any case takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An account with the function in it.
pub(crate) struct Account {
    ministack: MiniStack,
    folder: PathBuf,
}

impl Account {
    /// Nothing when the ring is skipped. `name` tells the folder of one test from others.
    pub(crate) async fn start(name: &str) -> Option<Self> {
        static HERE: OnceLock<bool> = OnceLock::new(); // One word about it is enough for all tests.
        let here = HERE.get_or_init(|| {
            let here = on_path("ministack").is_some();
            if !here {
                Ring::Mapping.skip_or_fail("ministack not found; install with: pipx install 'ministack[full]'");
            }
            here
        });
        if !here {
            return None;
        }
        let folder = crate::folder(name);
        let ministack = MiniStack::start(folder.join("ministack.log")).await;
        let account = Self { ministack, folder };
        account.deploy().await;
        Some(account)
    }

    pub(crate) fn endpoint(&self) -> Endpoint<'_> {
        Endpoint::MiniStack(&self.ministack)
    }

    /// Deploys the function. Its role allows nothing, because the function calls SQS as the account itself.
    async fn deploy(&self) {
        let principal = json!({"Service": "lambda.amazonaws.com"});
        let statement = json!({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"});
        let policy = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
        let policy = utf8_percent_encode(&policy, NON_ALPHANUMERIC);
        let form =
            format!("Action=CreateRole&Version=2010-05-08&RoleName={FUNCTION}&AssumeRolePolicyDocument={policy}");
        self.ministack.query("iam", &form).await;
        let program = fs::read(function::program(&self.folder)).unwrap();
        let input = json!({
            "FunctionName": FUNCTION, "Runtime": "provided.al2023", "Handler": "bootstrap", "Timeout": TIMEOUT_SECONDS,
            "Role": format!("arn:aws:iam::000000000000:role/{FUNCTION}"),
            "Code": {"ZipFile": package("bootstrap", &program)},
        });
        self.lambda("POST", "/2015-03-31/functions", &input).await.unwrap();
    }

    /// Limits the function to so many invocations at a time.
    pub(crate) async fn reserve(&self, invocations: u32) {
        let path = format!("/2017-10-31/functions/{FUNCTION}/concurrency");
        self.lambda("PUT", &path, &json!({"ReservedConcurrentExecutions": invocations})).await.unwrap();
    }

    /// Gives each invocation so many seconds.
    pub(crate) async fn limit(&self, seconds: u32) {
        let path = format!("/2015-03-31/functions/{FUNCTION}/configuration");
        self.lambda("PUT", &path, &json!({"Timeout": seconds})).await.unwrap();
    }

    /// A call to Lambda. The error is the refusal.
    async fn lambda(&self, method: &str, path: &str, input: &Value) -> Result<Value, String> {
        self.ministack.try_rest("lambda", method, path, input).await
    }

    /// Creates a queue with its dead-letter queue.
    pub(crate) async fn queue(&self, name: &str, visibility_seconds: u64, max_receive_count: u32) {
        let dead = format!("{name}-dlq");
        self.endpoint().sqs("CreateQueue", &json!({"QueueName": dead})).await;
        let redrive = json!({"deadLetterTargetArn": arn(&dead), "maxReceiveCount": max_receive_count}).to_string();
        let attributes = json!({"VisibilityTimeout": visibility_seconds.to_string(), "RedrivePolicy": redrive});
        self.endpoint().sqs("CreateQueue", &json!({"QueueName": name, "Attributes": attributes})).await;
    }

    /// Maps a queue to the function, with properties named as on AWS. The error is Lambda's refusal.
    pub(crate) async fn map(&self, queue: &str, properties: &Value) -> Result<Value, String> {
        let mut input = json!({"EventSourceArn": arn(queue), "FunctionName": FUNCTION});
        for (name, value) in properties.as_object().into_iter().flatten() {
            input[name] = value.clone();
        }
        self.lambda("POST", MAPPINGS, &input).await
    }

    /// A new journal.
    pub(crate) fn journal(&self, name: &str) -> PathBuf {
        function::journal(&self.folder, name)
    }

    /// Runs a case to its end, in real time.
    pub(crate) async fn run(&self, case: &Case) -> Observed {
        let name = crate::slug(case.name);
        let journal = self.journal(&name);
        self.queue(&name, VISIBILITY_SECONDS, case.max_receives).await;
        // Before the mapping, so that it finds both messages at once.
        self.endpoint().send(&name, &["a", "b"].map(|label| Order::body(label, case.replies, &journal))).await;
        let kinds: &[&str] = if case.partial { &["ReportBatchItemFailures"] } else { &[] };
        self.map(&name, &json!({"FunctionResponseTypes": kinds})).await.unwrap();
        self.emptied(&name).await;
        self.endpoint().observed(&format!("{name}-dlq"), &sightings(&journal)).await
    }

    /// Whether the function failed by itself.
    pub(crate) fn panicked(&self) -> bool {
        self.ministack.log().contains(function::PANIC)
    }

    /// Waits until a queue is empty.
    pub(crate) async fn emptied(&self, queue: &str) {
        let started = Instant::now();
        while self.endpoint().length(queue).await > 0 {
            assert!(started.elapsed() < PATIENCE, "{queue}: messages stay");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{queue}")
}
