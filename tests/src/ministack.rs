//! MiniStack, an AWS account on a loopback port: CloudFormation, EventBridge, SQS, Lambda, DynamoDB, CloudWatch, IAM.
//! Policies are enforced, so that a permission that the template forgets shows. It is a program of its own, so only the
//! rings that need it start it.

#![allow(clippy::expect_used, reason = "only tests start an account, and a test that panics is a test that fails")]

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{aws::tables_at, port};

/// Accounts of one process that run at once. What is deployed in them takes a core and more; with nine of them on two cores, a
/// test waits longer than it will.
const AT_ONCE: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// A running MiniStack; it ends when this is dropped.
#[derive(Debug)]
pub struct MiniStack {
    /// Where it listens.
    pub url: String,
    log: PathBuf,
    /// Its temporary files, among them the code of each function, which it leaves behind when it ends.
    files: PathBuf,
    process: Child,
    http: reqwest::Client,
    _turn: SemaphorePermit<'static>,
}

impl MiniStack {
    /// Starts it when it is its turn, and waits until it answers. `log` is the file that takes its output; the folder beside
    /// it, of the same name but for the extension, takes its temporary files until it ends.
    ///
    /// # Panics
    /// When `ministack` is not on the path, does not answer, or the log or the folder can't be written.
    pub async fn start(log: PathBuf) -> Self {
        let turn = TURNS.acquire().await.expect("the turns are never closed");
        let port = port::free().expect("a port is free");
        let url = format!("http://127.0.0.1:{port}");
        let output = File::create(&log).expect("the log is writable");
        let files = log.with_extension("files");
        // Of one that was killed.
        drop(fs::remove_dir_all(&files));
        fs::create_dir(&files).expect("the folder of the log is writable");
        let process = Command::new("ministack")
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            // The functions inherit it, so their calls come here as well.
            .env("AWS_ENDPOINT_URL", &url)
            .env("AUTH", "true")
            .env("TMPDIR", &files)
            .env("IOT_MTLS_ENABLED", "0") // It would listen on a fixed port.
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the log has a second handle"))
            .stderr(output)
            .spawn()
            .expect("ministack can be run");
        let stack = Self { url, log, files, process, http: reqwest::Client::new(), _turn: turn };
        let started = Instant::now();
        while stack.http.get(format!("{}/_ministack/health", stack.url)).send().await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "ministack does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stack
    }

    /// What it wrote so far, among it the output of functions that failed to start.
    ///
    /// # Panics
    /// When somebody took the log away.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is there")
    }

    /// A client of its tables.
    pub fn tables(&self) -> aws_sdk_dynamodb::Client {
        tables_at(&self.url)
    }

    /// A call in AWS's JSON protocol, such as `sqs`, `AmazonSQS.ListQueues`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn call(&self, service: &str, target: &str, input: Value) -> Value {
        self.try_call(service, target, &input).await.unwrap_or_else(|refusal| panic!("{target}: {refusal}"))
    }

    /// As [`MiniStack::call`], for a call that may be refused. The error is the status and the body.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn try_call(&self, service: &str, target: &str, input: &Value) -> Result<Value, String> {
        let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target)];
        Ok(json(&self.send(service, "POST", "/", &headers, input.to_string()).await?))
    }

    /// A call in AWS's query protocol; the answer is XML.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn query(&self, service: &str, form: &str) -> String {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.send(service, "POST", "/", &headers, form.to_owned()).await;
        answer.unwrap_or_else(|refusal| panic!("{form}: {refusal}"))
    }

    /// A read of a REST service.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn get(&self, service: &str, path: &str) -> String {
        let answer = self.send(service, "GET", path, &[], String::new()).await;
        answer.unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
    }

    /// A change by a REST service, which may be refused. The error is the status and the body.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn try_rest(&self, service: &str, method: &str, path: &str, input: &Value) -> Result<Value, String> {
        let headers = [("content-type", "application/json")];
        Ok(json(&self.send(service, method, path, &headers, input.to_string()).await?))
    }

    /// Invokes a function by itself, with an empty event.
    ///
    /// # Panics
    /// When that is refused. What the function answers is no reason.
    pub async fn invoke(&self, function: &str) -> String {
        self.invoke_with(function, "{}".to_owned()).await
    }

    /// As [`MiniStack::invoke`], with an event.
    ///
    /// # Panics
    /// When that is refused. What the function answers is no reason.
    pub async fn invoke_with(&self, function: &str, event: String) -> String {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let answer = self.send("lambda", "POST", &path, &[], event).await;
        answer.unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
    }

    async fn send(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<String, String> {
        let url = format!("{}{path}", self.url);
        let host = self.url.trim_start_matches("http://");
        let identity = Credentials::new("test", "test", None, None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .expect("every parameter is set");
        let signed_headers = headers.iter().copied().chain([("host", host)]);
        let request = SignableRequest::new(method, url.as_str(), signed_headers, SignableBody::Bytes(body.as_bytes()))
            .expect("the request can be signed");
        let (instructions, _) = sign(request, &parameters.into()).expect("the request is signed").into_parts();
        let mut call = self.http.request(method.parse().expect("a method"), &url);
        let signature = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (name, value) in
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).chain(signature)
        {
            call = call.header(name, value);
        }
        let answer = call.body(body).send().await.expect("ministack answers");
        let (status, text) = (answer.status(), answer.text().await.expect("the answer has a body"));
        if status.is_success() { Ok(text) } else { Err(format!("{service} answered {status}: {text}")) }
    }
}

/// Some answers are empty.
fn json(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { serde_json::from_str(text).expect("the answer is JSON") }
}

impl Drop for MiniStack {
    fn drop(&mut self) {
        // Asked to end, it ends the functions' processes as well; killed, it could not.
        let asked = Command::new("kill").arg(self.process.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while asked.is_ok() && Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_dir_all(&self.files));
    }
}
