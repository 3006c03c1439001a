//! MiniStack, an AWS account on a loopback port: CloudFormation, EventBridge, SQS, Lambda, DynamoDB, CloudWatch, IAM.
//! Policies are enforced, so that a permission that the template forgets shows.

use std::{
    fs::{self, File},
    net::TcpListener,
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

use crate::sam;

/// A running MiniStack; it ends when this is dropped.
pub(crate) struct MiniStack {
    pub(crate) url: String,
    log: PathBuf,
    process: Child,
    http: reqwest::Client,
}

impl MiniStack {
    /// Starts it and waits until it answers. `name` tells its log from others.
    pub(crate) async fn start(name: &str) -> Self {
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let log = sam::folder().join(format!("ministack-{name}.log"));
        let output = File::create(&log).expect("the target directory is writable");
        let process = Command::new("ministack")
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            // The functions inherit it, so their calls come here as well.
            .env("AWS_ENDPOINT_URL", &url)
            .env("AUTH", "true")
            .env("IOT_MTLS_ENABLED", "0") // It would listen on a fixed port.
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the log has a second handle"))
            .stderr(output)
            .spawn()
            .expect("ministack can be run");
        let stack = Self { url, log, process, http: reqwest::Client::new() };
        let started = Instant::now();
        while stack.http.get(format!("{}/_ministack/health", stack.url)).send().await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "ministack does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stack
    }

    /// What it wrote so far, among it the output of functions that failed to start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is there")
    }

    /// A call in AWS's JSON protocol, such as `sqs`, `AmazonSQS.ListQueues`.
    pub(crate) async fn call(&self, service: &str, target: &str, input: Value) -> Value {
        let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target)];
        let text = self.send(service, "POST", "/", &headers, input.to_string()).await;
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("the answer is JSON") }
    }

    /// A call in AWS's query protocol; the answer is XML.
    pub(crate) async fn query(&self, service: &str, form: &str) -> String {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(service, "POST", "/", &headers, form.to_owned()).await
    }

    /// A read of a REST service.
    pub(crate) async fn get(&self, service: &str, path: &str) -> String {
        self.send(service, "GET", path, &[], String::new()).await
    }

    /// Invokes a function by itself, with an empty event.
    pub(crate) async fn invoke(&self, function: &str) -> String {
        self.send("lambda", "POST", &format!("/2015-03-31/functions/{function}/invocations"), &[], "{}".to_owned())
            .await
    }

    async fn send(&self, service: &str, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> String {
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
        assert!(status.is_success(), "{service} answered {status}: {text}");
        text
    }
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
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    listener.local_addr().expect("a bound listener has an address").port()
}
