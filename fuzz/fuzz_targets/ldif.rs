#![no_main]

#[path = "../bodies/ldif.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
