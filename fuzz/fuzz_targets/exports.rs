//! libFuzzer's way to the law `exports`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::exports(data));
