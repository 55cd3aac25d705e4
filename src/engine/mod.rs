//! The use cases: produce, fetch and ListOffsets.
//!
//! Invariant: depends on the [`crate::store::Store`] and [`crate::coordinator::Coordinator`] ports,
//! never on an adapter, a socket or a Kafka request.

pub mod cache;
pub mod fetch;
pub(crate) mod latency;
pub mod list_offsets;
pub mod memory;
pub mod processes;
pub mod produce;
pub mod recovery;

use std::sync::Arc;

use crate::clock::WallClock;
use crate::coordinator::Coordinator;
use crate::entropy::Entropy;
use crate::retry::{Delays, RetryPolicy};
use crate::store::Store;

/// Dependencies of the engine.
#[derive(Clone, Debug)]
pub struct Components {
    /// Object storage, with retries of transient errors.
    pub store: Arc<dyn Store>,
    /// The same without retries: uploads have deadlines, retries and hedges of their own.
    pub uploads: Arc<dyn Store>,
    /// The batch coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// Wall clock, for append times and the age of objects.
    pub clock: Arc<dyn WallClock>,
    /// Source of randomness, for jitter and ids.
    pub entropy: Arc<Entropy>,
}

impl Components {
    /// Returns the delays between the attempts of one upload or commit.
    pub(crate) fn retry_delays(&self) -> Delays {
        RetryPolicy::DATA_PATH.delays(&self.entropy)
    }
}
