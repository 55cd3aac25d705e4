//! The Kafka cluster behind the proxy: what is known of it, and connections of our own to brokers.

pub mod cluster;
pub mod codec;
pub mod connection;
pub mod error;
pub mod sasl;
mod scram;
mod silent;
