//! Why nothing could be shown or sent. Each text says what to do about it.

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use shared::failure::chain;

use crate::terminal::harmless;

/// Why nothing could be shown or sent.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// There is no queue of this name.
    #[error(
        "no queue is named {0}\n\
         Is --stack the name of the CloudFormation stack, and do profile and region point to it? A queue with another \
         name is chosen by --dlq-url URL, and where to send to by --queue-url URL."
    )]
    NoQueue(String),
    /// No queue's redrive policy names the dead-letter queue.
    #[error("no queue has {0} as its dead-letter queue; say where to send by --queue-url URL")]
    NoSource(String),
    /// Several redrive policies do.
    #[error("more than one queue has {url} as its dead-letter queue; choose one by --queue-url:\n  {}", .sources.join("\n  "))]
    Sources {
        /// The dead-letter queue.
        url: String,
        /// The queues before it.
        sources: Vec<String>,
    },
    /// SQS was asked for the source queue, and refused.
    #[error("{0}\nWithout that answer, say where to send by --queue-url URL.")]
    SourceUnknown(Box<RedriveError>),
    /// SQS refused a call.
    #[error("{action}: {reason}")]
    Refused {
        /// What was asked.
        action: String,
        /// What SQS said.
        reason: String,
    },
    /// SQS gave no answer.
    #[error(
        "{action}: {reason}\n\
         SQS gave no answer: there are no credentials, there is no region, or it could not be reached. A profile with \
         SSO needs this first:\n  eval \"$(aws configure export-credentials --format env)\""
    )]
    NoAnswer {
        /// What was asked.
        action: String,
        /// The chain of causes.
        reason: String,
    },
}

/// A call that did not do what was asked.
pub(super) fn failed<E, R>(action: impl Into<String>, error: &SdkError<E, R>) -> RedriveError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let (action, reason) = (action.into(), reason(error));
    match error.code() {
        Some(_) => RedriveError::Refused { action, reason },
        None => RedriveError::NoAnswer { action, reason },
    }
}

/// What SQS says where it answered, and the chain of causes where it did not.
pub(super) fn reason<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let reason = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => chain(error),
    };
    harmless(&reason).into_owned() // One line, whatever the other side wrote.
}
