//! One message of a batch.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::sqs::{SqsMessage, SqsMessageAttribute};
use aws_sdk_sqs::{
    config::endpoint::{DefaultResolver, Params, ResolveEndpoint},
    error::BuildError,
    primitives::Blob,
    types::MessageAttributeValue,
};

use super::{
    dead_letter::Letter,
    queue::{QueueError, STRING},
};
use crate::{failure::quoted, telemetry::trace::TraceContext, trigger::Message};

/// The attribute that says where a record was before it came into its queue.
pub const SOURCE: &str = "kafka_source";

/// The attribute of a message that was sent anew: when it first was sent, in milliseconds since the epoch.
pub(super) const WAITING_SINCE: &str = "waiting_since";

/// One message of a batch: an [`SqsMessage`] that is known to have an id.
#[derive(Debug)]
pub struct Record {
    /// The id that the batch response reports.
    pub message_id: String,
    /// The body, still undecoded; empty when the event had none.
    pub body: String,
    /// How often SQS has handed the message out, this time included.
    pub receive_count: u32,
    /// System attributes such as `AWSTraceHeader`.
    pub system_attributes: HashMap<String, String>,
    /// The producer's own attributes.
    pub attributes: HashMap<String, SqsMessageAttribute>,
    receipt_handle: Option<String>,
    source_arn: Option<String>,
}

/// A record without a message id: nothing about it can be reported, so the whole invocation has to fail.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the batch has no messageId, so nothing can be reported about it")]
pub struct MissingMessageId;

impl TryFrom<SqsMessage> for Record {
    type Error = MissingMessageId;

    fn try_from(message: SqsMessage) -> Result<Self, MissingMessageId> {
        let message_id = message.message_id.filter(|id| !id.trim().is_empty()).ok_or(MissingMessageId)?;
        // An unknown count is read as a first receive: the record then gets every retry, and SQS still counts itself.
        let receive_count = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
        Ok(Self {
            message_id,
            body: message.body.unwrap_or_default(),
            receive_count: receive_count.unwrap_or(1),
            system_attributes: message.attributes,
            attributes: message.message_attributes,
            receipt_handle: message.receipt_handle,
            source_arn: message.event_source_arn,
        })
    }
}

impl Message for Record {
    fn body(&self) -> &str {
        &self.body
    }

    /// A record that another trigger put into the queue says where that one had it from.
    fn source(&self) -> Cow<'_, str> {
        self.attribute(SOURCE).map_or(Cow::Borrowed("sqs"), quoted)
    }

    /// A message attribute comes first, whose name may be written in capitals too. SQS's own `AWSTraceHeader` comes last,
    /// for the trace alone.
    fn producer(&self, traceparents: &[Option<String>], baggages: &[Option<String>]) -> TraceContext {
        let first = |name: &str, in_body: &[Option<String>]| {
            let mut own: Vec<_> = self.attributes.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).collect();
            // The standard's own spelling comes first: small letters are the later ones in ASCII.
            own.sort_by_key(|(own, _)| Reverse(*own));
            let own = own.into_iter().map(|(_, attribute)| attribute.string_value.clone());
            own.chain(in_body.iter().cloned()).collect::<Vec<_>>()
        };
        let (traceparents, baggages) = (first("traceparent", traceparents), first("baggage", baggages));
        TraceContext::first_of(
            traceparents.iter().map(Option::as_deref),
            self.system_attributes.get("AWSTraceHeader").map(String::as_str),
            baggages.iter().map(Option::as_deref),
        )
    }
}

impl Record {
    /// The string value of one of the producer's attributes.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.string_value.as_deref()
    }

    pub(super) fn receipt_handle(&self) -> Result<&str, QueueError> {
        self.receipt_handle.as_deref().ok_or(QueueError::Unaddressed("receiptHandle"))
    }

    /// The producer's own attributes. Their order is fixed, so that the same ones are kept each time.
    pub(super) fn own_attributes(&self) -> Result<Vec<(String, MessageAttributeValue)>, BuildError> {
        let mut own: Vec<_> = self.attributes.iter().collect();
        own.sort_by_key(|(name, _)| *name);
        let copy = |(name, value): (&String, &SqsMessageAttribute)| {
            let data_type = value.data_type.as_deref().unwrap_or(STRING);
            let copy = MessageAttributeValue::builder()
                .data_type(data_type)
                .set_string_value(value.string_value.clone())
                .set_binary_value(value.binary_value.as_ref().map(|binary| Blob::new(binary.0.clone())));
            Ok((name.clone(), copy.build()?))
        };
        own.into_iter().map(copy).collect()
    }

    /// The message as it goes into another queue.
    pub(super) fn letter(&self) -> Result<Letter<'_>, BuildError> {
        Ok(Letter {
            body: &self.body,
            message_id: Cow::Borrowed(&self.message_id),
            group_id: self.group_id(),
            attributes: self.own_attributes()?,
        })
    }

    /// Its group, which standard queues deal fairly by.
    pub(super) fn group_id(&self) -> Option<String> {
        self.system_attributes.get("MessageGroupId").cloned()
    }

    /// How long the message has been in its queue; nothing, where that is not known.
    pub fn age(&self, now: SystemTime) -> Duration {
        since(self.sent(), now)
    }

    /// How long the message has been in its queue with all that it was sent anew for; nothing, where that is not known.
    pub fn waiting(&self, now: SystemTime) -> Duration {
        since(self.waiting_since(), now)
    }

    /// When it first was sent, in milliseconds since the epoch.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        self.attribute(WAITING_SINCE).and_then(|first| first.parse().ok()).or_else(|| self.sent())
    }

    fn sent(&self) -> Option<u64> {
        self.system_attributes.get("SentTimestamp")?.parse().ok()
    }

    pub(super) async fn queue_url(&self) -> Result<String, QueueError> {
        let arn = self.source_arn.as_deref().unwrap_or_default();
        queue_url(arn).await.ok_or(QueueError::Unaddressed("eventSourceARN"))
    }
}

/// The time since a moment in milliseconds since the epoch; nothing, where it is not known or lies ahead.
fn since(moment: Option<u64>, now: SystemTime) -> Duration {
    let moment = moment.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    moment.and_then(|moment| now.duration_since(moment).ok()).unwrap_or_default()
}

/// The URL of the queue with this ARN, `arn:{partition}:sqs:{region}:{account}:{name}`. Which suffix a partition has is
/// known to the SDK, by its region.
async fn queue_url(arn: &str) -> Option<String> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", _partition, "sqs", region, account, name] = parts.as_slice() else {
        return None;
    };
    if [region, account, name].iter().any(|part| part.is_empty()) {
        return None;
    }
    let params = Params::builder().region(*region).build().ok()?;
    let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.ok()?;
    Some(format!("{}/{account}/{name}", endpoint.url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_its_body_and_its_attributes_over_without_a_copy() {
        let mut message = SqsMessage::default();
        message.message_id = Some("m-1".into());
        message.body = Some("a body".into());
        message.attributes.insert("AWSTraceHeader".into(), "Root=1".into());
        let before = (message.body.as_deref().map(str::as_ptr), message.attributes["AWSTraceHeader"].as_ptr());
        let record = Record::try_from(message).unwrap();
        assert_eq!((Some(record.body.as_ptr()), record.system_attributes["AWSTraceHeader"].as_ptr()), before);
    }

    #[tokio::test]
    async fn the_queue_url_follows_from_the_source_arn_in_the_suffix_of_its_partition() {
        for (partition, region, suffix) in [
            ("aws", "eu-west-1", "amazonaws.com"),
            ("aws", "us-east-1", "amazonaws.com"),
            ("aws-cn", "cn-north-1", "amazonaws.com.cn"),
            ("aws-us-gov", "us-gov-west-1", "amazonaws.com"),
            ("aws-eusc", "eusc-de-east-1", "amazonaws.eu"),
            ("aws-iso", "us-iso-east-1", "c2s.ic.gov"),
            ("aws-iso-b", "us-isob-east-1", "sc2s.sgov.gov"),
            ("aws-iso-e", "eu-isoe-west-1", "cloud.adc-e.uk"),
            ("aws-iso-f", "us-isof-south-1", "csp.hci.ic.gov"),
        ] {
            let url = queue_url(&format!("arn:{partition}:sqs:{region}:123456789012:payment-failed")).await;
            assert_eq!(url, Some(format!("https://sqs.{region}.{suffix}/123456789012/payment-failed")));
        }
        for arn in ["arn:aws:sns:eu-west-1:123456789012:topic", "arn:aws:sqs:eu-west-1::q", ""] {
            assert_eq!(queue_url(arn).await, None, "{arn}");
        }
    }

    #[test]
    fn the_names_of_a_trace_may_be_written_in_capitals() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let record = |attributes: &[(&str, &str)]| {
            let mut message = SqsMessage::default();
            message.message_id = Some("m-1".into());
            for (name, value) in attributes {
                let mut attribute = SqsMessageAttribute::default();
                attribute.string_value = Some((*value).to_owned());
                message.message_attributes.insert((*name).to_owned(), attribute);
            }
            Record::try_from(message).unwrap()
        };
        let context = record(&[("TraceParent", PARENT), ("Baggage", "k=v")]).producer(&[None], &[None]);
        assert_eq!((context.traceparent.as_deref(), context.baggage.as_deref()), (Some(PARENT), Some("k=v")));
        let context = record(&[("Baggage", "k=capital"), ("baggage", "k=small")]).producer(&[], &[]);
        assert_eq!(context.baggage.as_deref(), Some("k=small"), "the standard's own spelling comes first");
    }

    #[test]
    fn a_message_without_an_id_is_no_record() {
        assert_eq!(Record::try_from(SqsMessage::default()).unwrap_err(), MissingMessageId);
        let mut blank = SqsMessage::default();
        blank.message_id = Some(" ".into());
        assert_eq!(Record::try_from(blank).unwrap_err(), MissingMessageId);
    }
}
