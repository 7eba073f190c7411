//! libFuzzer's way to the law `entry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::entry(data));
