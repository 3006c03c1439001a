//! Who asks for a migration, and how he is answered. CloudFormation waits for an hour for the answer of a custom resource, so
//! that it gets one whatever becomes of the migration.

use std::time::Duration;

use http::{Method, Request as HttpRequest};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::{client::http::HttpClient, failure::chain};

/// How long the answer may take to send.
const TIMEOUT: Duration = Duration::from_secs(10);

/// More of an answer to our answer is not read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// CloudFormation shows so much of a reason, and takes 4 KB in all.
const LONGEST_REASON: usize = 1_000;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The schema of this binary.
    Migrate,
    /// An inbox without what is old.
    Clean,
}

/// What the function was invoked with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A person, or a schedule.
    ByHand(Wish),
    /// A deployment.
    Resource(CustomResource),
}

/// The event of a custom resource, with all that the answer repeats.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CustomResource {
    request_type: String,
    #[serde(rename = "ResponseURL")]
    response_url: String,
    stack_id: String,
    request_id: String,
    logical_resource_id: String,
    physical_resource_id: Option<String>,
}

impl Request {
    /// Reads a payload. One that is no custom resource's is a person's.
    pub(super) fn of(payload: &str) -> Self {
        #[derive(Deserialize)]
        struct ByHand {
            action: Option<String>,
        }
        if let Ok(resource) = serde_json::from_str(payload) {
            return Self::Resource(resource);
        }
        let action = serde_json::from_str(payload).ok().and_then(|by_hand: ByHand| by_hand.action);
        Self::ByHand(if action.as_deref() == Some("clean") { Wish::Clean } else { Wish::Migrate })
    }
}

impl CustomResource {
    /// Whether its stack is deleted, or has it no more.
    pub(super) fn is_removed(&self) -> bool {
        self.request_type == "Delete"
    }

    /// The answer. A `reason` says why it failed.
    fn answer(&self, reason: Option<&str>) -> serde_json::Value {
        let reason: Option<String> = reason.map(|reason| reason.chars().take(LONGEST_REASON).collect());
        let done = if self.is_removed() { "nothing is changed: the rows stay" } else { "the schema is as it must be" };
        json!({
            "Status": if reason.is_some() { "FAILED" } else { "SUCCESS" },
            "Reason": reason.unwrap_or_else(|| done.to_owned()),
            "PhysicalResourceId": self.physical_resource_id.as_deref().unwrap_or("booking-schema"),
            "StackId": self.stack_id,
            "RequestId": self.request_id,
            "LogicalResourceId": self.logical_resource_id,
        })
    }
}

/// Sends answers to where custom resources want them.
#[derive(Debug)]
pub(super) struct Answers(HttpClient<Full<Bytes>>);

impl Default for Answers {
    fn default() -> Self {
        Self(HttpClient::new(LONGEST_ANSWER))
    }
}

impl Answers {
    /// Sends the answer, twice if need be.
    ///
    /// # Errors
    /// Nobody knows whether it arrived. The URL is not told, because whoever has it can answer.
    pub(super) async fn send(&self, resource: &CustomResource, reason: Option<&str>) -> Result<(), String> {
        let body = resource.answer(reason).to_string();
        match self.send_once(resource, &body).await {
            Ok(()) => Ok(()),
            Err(_) => self.send_once(resource, &body).await,
        }
    }

    async fn send_once(&self, resource: &CustomResource, body: &str) -> Result<(), String> {
        let request = HttpRequest::builder()
            .method(Method::PUT)
            .uri(&resource.response_url)
            // The URL is signed for an empty type.
            .header("content-type", "")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|_| "ResponseURL is not a URL".to_owned())?;
        let answer = timeout(TIMEOUT, self.0.send(request)).await;
        let answer = answer.map_err(|_elapsed| format!("no answer within {} s", TIMEOUT.as_secs()))?;
        let status = answer.map_err(|error| chain(&error))?.status();
        if status.is_success() { Ok(()) } else { Err(format!("ResponseURL answers {status}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: &str = r#"{"RequestType": "Create", "ResponseURL": "https://s3/x?sig=secret", "StackId": "s", "RequestId": "r",
        "LogicalResourceId": "BookingSchema", "ResourceType": "Custom::Schema", "ResourceProperties": {"Version": "abc"}}"#;

    #[track_caller]
    fn resource(text: &str) -> CustomResource {
        match Request::of(text) {
            Request::Resource(resource) => resource,
            by_hand @ Request::ByHand(_) => panic!("{by_hand:?}"),
        }
    }

    #[test]
    fn a_payload_says_who_asks_and_for_what() {
        assert!(!resource(CREATE).is_removed());
        assert!(resource(&CREATE.replace("Create", "Delete")).is_removed());
        for text in ["{}", "null", "[]", r#"{"action": "migrate"}"#, r#"{"action": 1}"#, r#"{"ResponseURL": "x"}"#] {
            assert_eq!(Request::of(text), Request::ByHand(Wish::Migrate), "{text}");
        }
        assert_eq!(Request::of(r#"{"action": "clean"}"#), Request::ByHand(Wish::Clean));
    }

    #[test]
    fn an_answer_repeats_what_the_event_said_and_keeps_the_resource() {
        let answer = resource(CREATE).answer(None);
        assert_eq!((&answer["Status"], &answer["PhysicalResourceId"]), (&json!("SUCCESS"), &json!("booking-schema")));
        assert_eq!((&answer["StackId"], &answer["RequestId"]), (&json!("s"), &json!("r")));
        let update = CREATE.replace("\"StackId\"", "\"PhysicalResourceId\": \"old\", \"StackId\"");
        let answer = resource(&update).answer(Some(&"x".repeat(5_000)));
        assert_eq!((&answer["Status"], &answer["PhysicalResourceId"]), (&json!("FAILED"), &json!("old")));
        assert_eq!(answer["Reason"].as_str().unwrap().len(), 1_000);
    }
}
