//! libFuzzer's way to the law `resolver`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::resolver(data));
