//! libFuzzer's way to the law `program`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::program(data));
