//! Hands every input of libFuzzer to the event parser, and judges what becomes of it.

#![no_main]

mod oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A body is text by the time that a function gets it. Bytes that are none become U+FFFD, so no input is wasted.
    oracle::read(&String::from_utf8_lossy(bytes));
});
