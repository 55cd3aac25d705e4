//! Odradek end to end: real brokers, a real Redis, a real S3 server, stock clients.
//! `make setup` gets what is needed; a missing tool fails the test that needs it.
#![expect(clippy::disallowed_methods, reason = "the tests wait for real processes in real time")]

mod authorization;
mod console;
mod cost;
mod demo;
mod doctor;
mod kill_nine;
mod matrix;
mod observability;
mod raw;
mod running;
mod zones;
