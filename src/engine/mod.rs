//! The use cases: produce, fetch, look offsets up.
//!
//! Invariant: knows the [`crate::store::Store`] and [`crate::coordinator::Coordinator`] ports, never
//! an adapter, a socket or a Kafka request.

pub mod cache;
pub mod fetch;
pub mod list_offsets;
pub mod memory;
pub mod produce;

use std::sync::Arc;

use crate::clock::WallClock;
use crate::coordinator::Coordinator;
use crate::entropy::Entropy;
use crate::retry::{Delays, RetryPolicy};
use crate::store::Store;

/// What the engine works with; all of it is injected.
#[derive(Clone, Debug)]
pub struct Components {
    /// Object storage; calls that meet a passing fault are repeated.
    pub store: Arc<dyn Store>,
    /// The same without repetitions: uploads have deadlines, retries and hedges of their own.
    pub uploads: Arc<dyn Store>,
    /// The batch coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// Wall-clock time, for append times and the age of objects.
    pub clock: Arc<dyn WallClock>,
    /// Randomness, for jitter and ids.
    pub entropy: Arc<Entropy>,
}

impl Components {
    /// Returns the delays between the attempts of one upload or commit.
    pub(crate) fn retry_delays(&self) -> Delays {
        RetryPolicy::DATA_PATH.delays(&self.entropy)
    }
}
