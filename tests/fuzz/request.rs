//! Hands every input of libFuzzer to what reads the requests of the reservation API, and judges what becomes of it.

#![no_main]

mod wish;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wish::judge(bytes);
});
