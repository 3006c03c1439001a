//! The one way in which this crate sets up AWS clients: region and credentials once, few and short tries.

pub mod http;

use std::time::Duration;

use aws_config::{
    BehaviorVersion, SdkConfig, retry::RetryConfig, stalled_stream_protection::StalledStreamProtectionConfig,
    timeout::TimeoutConfig,
};

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
