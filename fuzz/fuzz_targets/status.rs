//! libFuzzer's way to the law `status`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::status(data));
