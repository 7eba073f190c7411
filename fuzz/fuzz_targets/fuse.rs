//! libFuzzer's way to the law `fuse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::fuse(data));
