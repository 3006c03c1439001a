//! The files of `events/` keep their promises.

use local_stack::{replay::Replay, scenario, stack::Stack};

use crate::harness::binaries;

#[tokio::test]
async fn every_file_of_events_keeps_its_promise() {
    let files = scenario::load_all(scenario::events_folder()).expect("the files are valid");
    let stack = Stack::start().await.expect("the stack starts");
    let replay = Replay::new(stack.clone(), binaries()).expect("the binaries are there");
    for file in &files {
        let report = replay.file(file).await;
        assert!(report.is_as_promised(), "{}: {report:#?}", file.path.display());
    }
    assert_eq!(stack.inventory.oversold(), [""; 0], "the inventory's audit");
}
