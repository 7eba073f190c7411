//! libFuzzer's way to the law `nsswitch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::nsswitch(data));
