//! Kafka's wire format: frames, headers, record batches, and the guard that bounds what is decoded.
//!
//! Invariant: pure, like [`crate::log`]; no input causes a panic or an allocation larger than the
//! bytes of the input justify.

pub mod fetch_response;
pub mod frame;
#[cfg(any(test, feature = "test-util"))]
pub mod fuzz;
pub mod guard;
pub mod header;
pub mod proxy_protocol;
pub mod record_batch;
pub mod records;
pub mod varint;
