//! libFuzzer's way to the law `options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::options(data));
