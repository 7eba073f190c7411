//! libFuzzer's way to the law `loopback`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::loopback(data));
