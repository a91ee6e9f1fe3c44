#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transform::fuzz::pipeline(bytes));
