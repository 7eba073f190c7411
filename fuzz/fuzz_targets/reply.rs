//! libFuzzer's way to the law `reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::reply(data));
