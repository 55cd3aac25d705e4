//! Memory limits: requests acquire a permit before their bytes are read.
//!
//! Large frames acquire memory in steps, as their bytes arrive, so that bytes which were announced and
//! never sent hold nothing.

mod arrivals;
mod cover;
mod limiter;

pub use self::limiter::{ConnectionQuota, MemoryLimiter, MemoryPermit, ReaderId, ShuttingDown};
