//! Hands every input of libFuzzer to the adapter of an HTTP API, and judges what it answers.

#![no_main]

mod exchange;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    exchange::judge(&String::from_utf8_lossy(bytes));
});
