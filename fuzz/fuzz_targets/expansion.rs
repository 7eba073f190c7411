//! libFuzzer's way to the law `expansion`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::expansion(data));
