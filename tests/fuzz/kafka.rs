//! Hands every input of libFuzzer to a function as an event of Kafka, and judges what becomes of each record.

#![no_main]

mod topic;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    topic::judge(&String::from_utf8_lossy(bytes));
});
