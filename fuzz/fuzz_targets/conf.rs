//! libFuzzer's way to the law `conf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::conf(data));
