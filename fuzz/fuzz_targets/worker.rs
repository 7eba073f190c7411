//! libFuzzer's way to the law `worker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::worker(data));
