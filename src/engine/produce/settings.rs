//! Settings of the produce path.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Settings of the produce pipeline.
#[derive(Clone, Debug)]
pub struct ProduceSettings {
    /// Longest linger of a batch: the time between two objects, unless another condition seals
    /// earlier.
    pub interval: Duration,
    /// Size of the buffered batches, in bytes, at which an object is sealed.
    pub object_bytes: usize,
    /// Average number of PUTs per second; `None` for no limit.
    pub puts_per_second_max: Option<f64>,
    /// Batches of one shard whose outcomes the coordinator may store for this process; a shard at
    /// the limit accepts no more.
    pub stored_outcomes_max: usize,
    /// Settings of uploads.
    pub upload: UploadSettings,
    /// Name of the replica, written to objects' footers.
    pub replica: String,
    /// Incarnation of the process, part of object ids: see [`crate::log::ids::ObjectId`].
    pub incarnation: u64,
    /// Random id of the process, part of object ids.
    pub process_id: u32,
}

/// The part of [`ProduceSettings`] that can change while the replica runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlushTuning {
    /// See [`ProduceSettings::interval`].
    pub interval: Duration,
    /// See [`ProduceSettings::object_bytes`].
    pub object_bytes: usize,
    /// See [`ProduceSettings::puts_per_second_max`].
    pub puts_per_second_max: Option<f64>,
}

/// Settings of uploads.
#[derive(Clone, Debug)]
pub struct UploadSettings {
    /// Uploads that may run at once.
    pub parallel_max: usize,
    /// Consecutive uploads that may be hedged.
    pub hedges_burst: u32,
    /// Bounds of the deadline after which an attempt is abandoned and repeated.
    pub deadline: RangeInclusive<Duration>,
}

impl ProduceSettings {
    /// The default of [`ProduceSettings::stored_outcomes_max`]: more than a PUT that is tried again
    /// at its deadline leaves behind, and below 25 MB in Redis.
    pub const STORED_OUTCOMES_MAX: usize = 500_000;
}

impl UploadSettings {
    /// The defaults: 32 uploads, 10 hedges, 5 to 30 s.
    pub const STANDARD: Self = Self {
        parallel_max: 32,
        hedges_burst: 10,
        deadline: Duration::from_secs(5)..=Duration::from_secs(30),
    };
}
