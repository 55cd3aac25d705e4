#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| odradek::wire::fuzz::response(data));
