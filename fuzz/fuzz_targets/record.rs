//! libFuzzer's way to the law `record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::record(data));
