//! How the services of the stack delay their answers: so long after a request's arrival, whatever the work on it took.

use std::time::{Duration, Instant};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::yield_now,
    time::sleep,
};

/// How much later a sleep may end than it was asked to: Tokio rounds up to its own millisecond, and so does the system's wait.
const ROUNDING: Duration = Duration::from_micros(2_500);

/// When a request arrived. Whatever else arrived with it is stamped before any of it is worked on: services that stand on
/// machines of their own would not wait for each other either.
pub(crate) async fn arrival() -> Instant {
    let arrived = Instant::now();
    yield_now().await;
    arrived
}

/// Waits until `latency` has passed since `arrived`.
///
/// Four calls in a row that are each late by up to two milliseconds would be the greater part of what `cargo bench` measures,
/// so the end of the wait is spent looking at the clock. A runtime of several threads only sleeps: there a task that spins
/// would take a core from the functions, and nobody measures single calls.
pub(crate) async fn wait(arrived: Instant, latency: Duration) {
    let exact = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
    let rounding = if exact { ROUNDING } else { Duration::ZERO };
    let left = latency.saturating_sub(arrived.elapsed());
    if left > rounding {
        sleep(left - rounding).await;
    }
    while arrived.elapsed() < latency {
        yield_now().await; // Which looks for requests too, so that nobody else waits for this one.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(6);

    #[tokio::test]
    async fn no_wait_is_too_short() {
        for passed in [Duration::ZERO, LATENCY / 2, LATENCY * 2] {
            let arrived = Instant::now() - passed;
            wait(arrived, LATENCY).await;
            assert!(arrived.elapsed() >= LATENCY);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nor_is_one_that_only_sleeps() {
        let arrived = Instant::now();
        wait(arrived, LATENCY).await;
        assert!(arrived.elapsed() >= LATENCY);
    }
}
