#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| odradek::wire::fuzz::record_batch(data));
