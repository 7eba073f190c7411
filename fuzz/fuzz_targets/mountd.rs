//! libFuzzer's way to the law `mountd`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::mountd(data));
