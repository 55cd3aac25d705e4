//! Kafka's bytes: frames, headers, record batches, the guard that bounds what is decoded.
//!
//! Invariant: pure, like [`crate::log`]; no input makes it panic or reserve memory that the
//! input does not itself fill.
