//! Odradek: a Kafka-protocol proxy that makes topics of a stock cluster diskless.
//!
//! The layers in their order; each imports only those before it (`tests/tidy.rs` checks it):
//!
//! `log` ← `wire` ← {`store`, `coordinator`} ← `engine` ← {`zone_cache`, `proxy`} ← `admin` ←
//! `app` ← `doctor` ← `commands` ← `main`.

/// The output of `odradek --version`: the release, and the commit that it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ODRADEK_COMMIT"), ")");

pub mod accept;
pub mod clock;
pub mod entropy;
pub mod logging;
pub mod metrics;
pub mod retry;
pub mod sasl;
pub mod tasks;

pub mod log;
pub mod wire;

pub mod coordinator;
pub mod store;

pub mod engine;

pub mod zone_cache;

pub mod cost;
pub mod topic_rules;

pub mod config;

pub mod proxy;

pub mod admin;

pub mod app;
pub mod doctor;

pub mod cli;
pub mod commands;
