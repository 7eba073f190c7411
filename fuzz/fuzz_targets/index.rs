//! libFuzzer's way to the law `index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::index(data));
