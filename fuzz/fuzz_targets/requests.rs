//! libFuzzer's way to the law `requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::requests(data));
