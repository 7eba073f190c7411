//! libFuzzer's way to the law `lexer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| piton_fuzz::lexer(data));
