//! libFuzzer's way to the law `line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::line(data));
