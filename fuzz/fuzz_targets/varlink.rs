//! libFuzzer's way to the law `varlink`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::varlink(data));
