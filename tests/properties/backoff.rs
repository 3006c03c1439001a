//! The wait between two deliveries.

use std::time::Duration;

use proptest::prelude::*;
use shared::{
    backoff::{Backoff, LONGEST_WAIT},
    failure::Wait,
};

use crate::cases;

/// Waits as they are configured, in milliseconds: mostly sensible ones.
fn wait() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => 1..10_000_u64, 2 => 1..100_000_000_u64, 1 => 1..=u64::MAX].prop_map(Duration::from_millis)
}

/// What a failure may say of the next delivery.
fn hint() -> impl Strategy<Value = Wait> {
    prop_oneof![
        Just(Wait::BackOff),
        wait().prop_map(Wait::Asked),
        wait().prop_map(Wait::Claimed),
        wait().prop_map(Wait::Due),
    ]
}

fn receive_count() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0..40_u32, 1 => any::<u32>()]
}

/// SQS counts in seconds, and nothing waits longer than the longest wait.
fn rounded(wait: Duration) -> Duration {
    let wait = wait.min(LONGEST_WAIT);
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

proptest! {
    #![proptest_config(cases(5_000))]

    #[test]
    fn a_back_off_stays_within_its_bounds(
        base in wait(),
        cap in wait(),
        receive_count in receive_count(),
        hint in hint(),
    ) {
        let (base, cap) = (base.min(cap), base.max(cap));
        let wait = Backoff::try_new(base, cap).unwrap().wait(receive_count, hint);
        // Counted without the code's own arithmetic: doubled one receive at a time, until the cap stops it.
        let full = (1..receive_count).try_fold(base, |full, _| {
            let doubled = full.saturating_mul(2);
            if doubled < cap { Ok(doubled) } else { Err(cap) }
        });
        let full = full.unwrap_or_else(|cap| cap);
        let hint = match hint {
            Wait::BackOff => Duration::ZERO,
            Wait::Asked(asked) => asked.min(cap),
            Wait::Claimed(rest) => rest,
            // What is due at a time comes then, whatever the back-off.
            Wait::Due(rest) => {
                prop_assert_eq!(wait, rounded(rest));
                return Ok(());
            }
        };
        prop_assert_eq!(wait.subsec_nanos(), 0);
        prop_assert!(wait >= Duration::from_secs(1));
        prop_assert!(wait <= rounded(full.max(hint)), "{wait:?} is more than {full:?} and {hint:?}");
        // The factor is a float: half a second of slack is more than its error below the longest wait.
        let least = (full / 2).min(LONGEST_WAIT).saturating_sub(Duration::from_millis(500));
        prop_assert!(wait >= least, "{wait:?} is less than half of {full:?}");
        prop_assert!(wait >= hint.min(LONGEST_WAIT), "{wait:?} is less than {hint:?}");
    }
}
