//! What the matrix does point by point, by chance: many events and customers at once, whose calls go wrong and whose functions
//! are killed. Both wait most of the time, for leases and back-offs, while the matrix has the processor.

use local_stack::soak::{self, Options, customers};

use crate::binaries;

/// `cargo soak`, in small.
#[tokio::test(flavor = "multi_thread")]
async fn a_soak_loses_nothing_and_does_nothing_twice() {
    let options = Options { events: 150, share: 0.2, environments: 1, seed: 1 };
    let report = soak::run(options, binaries(), |_waiting| {}).await.expect("it runs to its end");
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    let faults: usize = report.network.iter().flat_map(|(_, counts)| counts.faults.values()).sum();
    assert!(report.events >= 150 && report.messages > report.events && faults >= 100, "{report:#?}");
}

/// The sale of `cargo soak`, in small.
#[tokio::test(flavor = "multi_thread")]
async fn customers_of_a_sale_whose_functions_are_killed_are_told_one_thing_and_get_it() {
    let options = customers::Options { customers: 24, at_once: 12, share: 0.2, seed: 1 };
    let report = customers::run(options, binaries(), |_done| {}).await.expect("it comes to its end");
    assert!(report.breaches.is_empty(), "{report:#?}");
    // Somebody asked for everything once, and with the share of a fifth some of it went wrong.
    assert!(report.requests >= options.customers && report.killed > 0 && report.faults > 0, "{report:#?}");
}
