//! Settings of the batch coordinator in Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::loss_detection::observed_position::ObservedPositionStore;
use crate::clock::WallClock;

/// The default number of shards of new metadata in one Redis, whose core they share.
pub const SHARDS_DEFAULT: u16 = 4;
/// The default number of shards of new metadata in a Redis Cluster, which distributes them over its
/// masters.
pub const SHARDS_CLUSTER: u16 = 16;
/// The greatest number of shards.
pub const SHARDS_MAX: u16 = 256;

/// Returns the default number of shards of new metadata at a URL.
pub fn default_shards(url: &str) -> u16 {
    if url.starts_with("redis-cluster://") { SHARDS_CLUSTER } else { SHARDS_DEFAULT }
}

/// The address of a Redis, and how it is used.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://`, `redis-sentinel://host:port,host:port/master[/db]` or
    /// `redis-cluster://host:port,host:port`.
    pub url: String,
    /// The name of the cluster in Odradek; part of every key.
    pub cluster: String,
    /// The number of shards. Used by the first attach only; later ones use the stored number.
    pub shards: u16,
    /// The expected metadata id: other metadata is [`CoordinatorError::MetadataLost`]. `None`
    /// accepts any, and lets an empty Redis begin new metadata.
    ///
    /// [`CoordinatorError::MetadataLost`]: crate::coordinator::CoordinatorError::MetadataLost
    pub metadata_id: Option<String>,
    /// The time limit of one call; after it the outcome of the call is unknown.
    pub timeout: Duration,
    /// The name of this replica among the members.
    pub replica: String,
    /// True if this replica may verify a Redis. A replica that cannot read the stored positions
    /// of other replicas may not: it waits until another one has verified it.
    pub may_verify: bool,
    /// The time that a verification waits for the observed positions of other replicas.
    pub lease: Duration,
    /// The number of replicas of Redis that must have a change before it is acknowledged. With
    /// fewer of them the outcome of the change is unknown.
    pub replicas: u8,
    /// The store of the observed positions of all replicas; with `None` they are lost with the
    /// process.
    pub position_store: Option<Arc<dyn ObservedPositionStore>>,
    /// A clock in place of Redis' own, for tests.
    pub clock: Option<Arc<dyn WallClock>>,
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may contain a password.
        f.debug_struct("RedisSettings")
            .field("cluster", &self.cluster)
            .field("shards", &self.shards)
            .field("metadata_id", &self.metadata_id)
            .field("timeout", &self.timeout)
            .field("replica", &self.replica)
            .field("may_verify", &self.may_verify)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}
