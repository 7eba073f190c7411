//! libFuzzer's way to the law `mountinfo`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::mountinfo(data));
