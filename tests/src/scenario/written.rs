//! A file as it belongs into `events/`: the batch as Lambda would deliver it, and the promise.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{EventFile, Promise, Record, Scenario};

/// Where the time of a message stands that has none.
const SENT: &str = "1795165200000";
const RECEIVED: &str = "1795165200061";

/// The characters of a receipt handle, and how many there are behind the prefix of SQS.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const RECEIPT: usize = 340;

#[derive(Serialize)]
struct Written<'a> {
    scenario: Scenario,
    #[serde(rename = "Records")]
    records: Vec<WrittenRecord<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenRecord<'a> {
    message_id: &'a str,
    receipt_handle: String,
    body: &'a str,
    attributes: BTreeMap<&'a str, String>,
    message_attributes: Map<String, Value>,
    md5_of_body: String,
    event_source: &'static str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: String,
    aws_region: &'static str,
}

/// The text of the file with these promises, one for each record.
///
/// # Errors
/// When a value cannot be written as JSON, which none of ours is.
pub fn write(file: &EventFile, then: Vec<Promise>) -> Result<String, serde_json::Error> {
    let about = match file.scenario.about.as_str() {
        "" => "Say here in one sentence what this file shows.".to_owned(),
        about => about.to_owned(),
    };
    let scenario = Scenario { about, given: file.scenario.given.clone(), then: Some(then) };
    let records = file.records.iter().map(|record| written(&file.function, record)).collect();
    Ok(serde_json::to_string_pretty(&Written { scenario, records })? + "\n")
}

fn written<'a>(function: &str, record: &'a Record) -> WrittenRecord<'a> {
    let known = |name: &'static str, default: &str| (name, record.system(name).unwrap_or_else(|| default.to_owned()));
    let mut attributes = BTreeMap::from([
        ("ApproximateReceiveCount", record.receive_count.to_string()),
        known("SentTimestamp", SENT),
        known("ApproximateFirstReceiveTimestamp", RECEIVED),
        known("SenderId", "AIDA3XFRBF23XMPLEVNTB"),
    ]);
    let carried = ["AWSTraceHeader", "MessageGroupId"].map(|name| Some((name, record.system(name)?)));
    attributes.extend(carried.into_iter().flatten());
    let message_attributes = record.message_attributes.iter().map(|(name, attribute)| {
        let mut value = json!({"dataType": attribute.data_type, "stringListValues": [], "binaryListValues": []});
        for (field, text) in [("stringValue", &attribute.string_value), ("binaryValue", &attribute.binary_value)] {
            if let Some(text) = text {
                value[field] = json!(text);
            }
        }
        (name.clone(), value)
    });
    WrittenRecord {
        message_id: &record.message_id,
        receipt_handle: receipt(),
        body: &record.body,
        message_attributes: message_attributes.collect(),
        md5_of_body: format!("{:x}", md5::compute(&record.body)),
        event_source: "aws:sqs",
        event_source_arn: format!("arn:aws:sqs:us-east-1:000000000000:{function}"),
        aws_region: "us-east-1",
        attributes,
    }
}

/// A receipt handle of the form that SQS's have.
pub(super) fn receipt() -> String {
    let random = std::iter::repeat_with(|| char::from(BASE64[fastrand::usize(..BASE64.len())]));
    format!("AQEB{}", random.take(RECEIPT).collect::<String>())
}
