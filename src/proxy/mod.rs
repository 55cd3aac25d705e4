//! The Kafka protocol: client connections, and what happens to each request.
//!
//! [`apis`] is the table of what happens to which API; [`connection`] serves one client connection;
//! `handlers` contains a module for each API; [`topics`] knows the type of every topic.

mod announced_client;
pub mod apis;
pub mod audit;
pub(crate) mod broker;
pub mod classic_memory;
mod client_addresses;
pub mod client_telemetry;
pub mod connection;
pub mod context;
pub mod differences;
pub mod endpoint;
pub mod error_code;
pub mod fetch_sessions;
pub mod handlers;
pub mod listener;
pub(crate) mod request;
pub mod response;
pub mod routing;
mod socket;
pub mod topics;
pub mod upstream;
pub mod validation;

pub use context::{ConnectionLimits, Proxy, ProxySettings};
