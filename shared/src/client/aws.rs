//! The one way in which this crate sets up AWS clients: region and credentials once, few and short tries.

pub mod http;
pub mod table;

use std::{error::Error, time::Duration};

use aws_config::{
    BehaviorVersion, SdkConfig, retry::RetryConfig, stalled_stream_protection::StalledStreamProtectionConfig,
    timeout::TimeoutConfig,
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::failure::{chain, quoted};

/// How often one AWS call is tried. A second try bridges a dead connection or a throttled moment; more would retry in
/// two layers at once, and the queue is the layer that waits.
pub const TRIES: u32 = 2;

/// How long one try may take.
pub const TRY_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest that one AWS call takes, all its tries and the pause between them included. A record's time budget is
/// made of these.
pub const CALL_TIMEOUT: Duration = TRY_TIMEOUT.saturating_mul(TRIES);

/// Region, credentials and endpoint from the environment, with the timeouts above. `AWS_ENDPOINT_URL` points it at a
/// local stack.
pub async fn sdk_config() -> SdkConfig {
    let retries = RetryConfig::standard().with_max_attempts(TRIES).with_initial_backoff(Duration::from_millis(50));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(TRY_TIMEOUT)
        .operation_attempt_timeout(TRY_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http::client())
        .retry_config(retries)
        .timeout_config(timeouts)
        // It watches long transfers. Ours are a kilobyte, and each try ends after a second.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await
}

/// Why a call failed, for people. An answer without a code of AWS's comes from somebody between us and AWS, such as a proxy,
/// and its status and its start tell who. What came with a success is not quoted, because a secret may be in it.
pub fn fault<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let text = chain(error);
    let Some(answer) = error.raw_response().filter(|_| error.code().is_none()) else { return text };
    let status = answer.status().as_u16();
    let page = answer.body().bytes().filter(|_| !answer.status().is_success()).unwrap_or_default();
    let start = String::from_utf8_lossy(&page[..page.len().min(1_000)]);
    format!("{text}: an answer {status} that is not from AWS: {}", quoted(&start))
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_page_in_place_of_an_answer_is_told_by_its_status_and_its_start() {
        const ANSWER: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 27\r\n\r\n<h1>Denied by the proxy</h1";
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.readable().await.unwrap();
                while stream.try_read(&mut [0; 4_096]).is_err() {
                    tokio::task::yield_now().await;
                }
                stream.try_write(ANSWER).unwrap();
            }
        });
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .region(Region::from_static("eu-west-1"))
            .endpoint_url(format!("http://{address}"))
            .http_client(http::client())
            .build();
        let call = aws_sdk_sqs::Client::from_conf(config).send_message().queue_url("q").message_body("b");
        let error = call.send().await.unwrap_err();
        assert!(!chain(&error).contains("403"), "the causes alone do not tell: {}", chain(&error));
        let text = fault(&error);
        assert!(text.contains("403") && text.contains("<h1>Denied by the proxy"), "{text}");
    }
}
