//! libFuzzer's way to the law `master`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::master(data));
