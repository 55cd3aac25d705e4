//! The pure domain: ids, batches, producer state, partition logs, the object format.
//!
//! Invariant: nothing here does IO, awaits, reads a clock or draws a random number, and no
//! input makes it panic.

pub mod batch;
pub mod checkpoint;
pub mod commit_outcome;
pub mod encoding;
pub mod format_version;
pub mod hash;
pub mod ids;
pub mod object_format;
pub mod partition_log;
pub mod producer_state;
