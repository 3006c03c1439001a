//! Hands every input of libFuzzer to what reads the requests of the reservation API, and the tokens in them, and judges what
//! becomes of it.

#![no_main]

mod admission;
mod wish;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wish::judge(bytes);
    admission::judge(bytes);
});
