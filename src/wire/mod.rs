//! Kafka's bytes: frames, headers, record batches, the guard that bounds what is decoded.
//!
//! Invariant: pure, like [`crate::log`]; no input makes it panic or reserve memory that the
//! input does not itself fill.

pub mod fetch_response;
pub mod frame;
#[cfg(any(test, feature = "test-util"))]
pub mod fuzz;
pub mod guard;
pub mod header;
pub mod record_batch;
pub mod records;
pub mod varint;
