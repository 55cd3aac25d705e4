//! The pure layers alone: the parsers of a peer's bytes need neither a runtime nor a client of
//! Redis or S3, and without these the fuzzers build in a fraction of the time.

#![allow(dead_code, reason = "the layers above use the rest")]

#[path = "../../src/log/mod.rs"]
pub mod log;
#[path = "../../src/wire/mod.rs"]
pub mod wire;
