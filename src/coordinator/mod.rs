//! The batch coordinator: assigns offsets, stores the index, binds topic ids to topic types.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::log::batch::{Part, Run};
use crate::log::ids::{ObjectId, ProcessIdentity, TopicId, TopicPartition};
use crate::log::object_format::ShardPosition;

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod embedded;
#[cfg(any(test, feature = "test-util"))]
pub mod faulty;
pub mod gated;
mod lost_partitions;
pub mod measured;
mod membership;
pub mod memory;
pub mod redis;

pub use crate::log::commit_outcome::{CommitOutcome, Refusal};
pub use crate::log::partition_log::FindFrom;
pub use membership::{LEASE_MAX, Member, Membership, ZoneRecord};

/// The type of a topic, by the place where its records are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicType {
    /// On the brokers; requests are forwarded.
    Classic,
    /// In object storage; the brokers have an empty placeholder.
    Diskless,
    /// A classic topic without records that becomes diskless. Writes are refused until every
    /// replica knows of the migration and the logs were found empty.
    Migrating,
}

/// A topic id bound to a topic type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicBinding {
    /// The topic id.
    pub topic: TopicId,
    /// The name that the topic had when it was bound; informational.
    pub name: String,
    /// The topic type; see [`BindRule`] for its changes.
    pub topic_type: TopicType,
}

/// The rule of [`Coordinator::register`] for an id that is bound already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindRule {
    /// The existing binding stays.
    FirstWins,
    /// One step of a migration: a classic topic becomes [`TopicType::Migrating`], and a migrating
    /// topic becomes diskless, or classic again. Any other request leaves the binding as it is: a
    /// diskless topic never changes, and a classic one does not become diskless in one step.
    ///
    /// The caller ensures that, between the two steps, every replica knows of the first step and
    /// forwards no writes, and that the broker's logs are empty afterwards.
    Migrate,
}

/// A request to bind a topic id to a topic type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    /// The requested binding.
    pub binding: TopicBinding,
    /// The rule for an id that is bound already.
    pub rule: BindRule,
}

/// The result of [`Coordinator::attach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The permanent index of the replica's zone; 0 for the first zone.
    pub zone_index: u16,
    /// All zones, by index.
    pub zones: Vec<String>,
    /// Identifies the metadata; differs only if the metadata was created again.
    pub metadata_id: String,
}

/// A request to commit parts of an object whose bytes are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The object.
    pub object: ObjectId,
    /// The seal time of the object in milliseconds since the Unix epoch. It is the only clock of
    /// producer expiry, so that a replay has the same outcomes.
    pub sealed_ms: i64,
    /// The lowest sequence of the process whose commit in the same shard is not decided yet; at
    /// most the sequence of `object`. The coordinator may forget the outcomes of lower sequences,
    /// and refuses their commits from now on.
    pub lowest_undecided: u32,
    /// The parts in the order of their index; never empty.
    pub parts: Vec<Part>,
}

/// The outcome of the commit of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOutcome {
    /// The index of the part in the object.
    pub index: u32,
    /// One outcome for each batch, in order.
    pub batches: Vec<CommitOutcome>,
    /// The partition's log start offset after the commit.
    pub log_start_offset: i64,
    /// The seal time that counted, in milliseconds: that of the commit, moved to within
    /// [`CLOCK_TOLERANCE_MS`] of the coordinator's clock. A replay uses it.
    pub sealed_ms: i64,
}

/// A request for runs of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FindRequest {
    /// The partition.
    pub partition: TopicPartition,
    /// The start of the search.
    pub from: FindFrom,
    /// The search ends once the runs have at least this many bytes; the first run is always
    /// returned.
    pub bytes_max: u64,
    /// The greatest number of runs.
    pub runs_max: u32,
}

/// The bounds of a partition; all 0 for a partition that was never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watermarks {
    /// The first offset that can be read.
    pub log_start_offset: i64,
    /// The offset after the last record.
    pub high_watermark: i64,
    /// The bytes of the runs in the index.
    pub bytes: u64,
}

/// The result of [`Coordinator::find`] for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The bounds of the partition, read atomically with the runs.
    pub watermarks: Watermarks,
    /// Contiguous runs in offset order; each ends above the log start offset.
    pub runs: Vec<Run>,
}

/// The state of one idempotent producer in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerSnapshot {
    /// The producer id.
    pub id: i64,
    /// The newest epoch.
    pub epoch: i16,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The greatest timestamp of its last batch, in milliseconds.
    pub last_timestamp: i64,
}

/// The part of the events that an interruption concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventScope {
    /// Every event.
    All,
    /// Bindings and deletions of topics.
    Topics,
    /// Commits and trims of the partitions of a shard, as [`Coordinator::shard`] numbers them.
    Shard(u16),
}

/// A change of the metadata, for subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorEvent {
    /// Batches were appended and are readable.
    Committed {
        /// The partition.
        partition: TopicPartition,
        /// The appended runs, in offset order.
        runs: Vec<Run>,
    },
    /// The log start offset was raised.
    Trimmed {
        /// The partition.
        partition: TopicPartition,
        /// The new log start offset.
        log_start_offset: i64,
    },
    /// A topic was bound to a topic type, or its topic type changed.
    Bound(TopicBinding),
    /// A topic was deleted.
    TopicDeleted(TopicId),
    /// The events of a scope no longer arrive: until its [`CoordinatorEvent::Gap`], state derived
    /// from them may be out of date, and a query tells whether the coordinator can be reached.
    Disconnected(EventScope),
    /// Events of a scope may have been missed, and arrive from now on: state derived from them
    /// must be queried again.
    Gap(EventScope),
}

/// A result of the coordinator.
pub type CoordinatorResult<T> = Result<T, CoordinatorError>;

/// A failed call of the coordinator, or a failed item of a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The call had no effect: it was not sent, or was rejected.
    #[error("the batch coordinator is unavailable: {0}")]
    Unavailable(String),
    /// The call may have had an effect: repeat it with the same ids.
    #[error("the outcome of the call to the batch coordinator is unknown: {0}")]
    Unknown(String),
    /// The metadata belongs to another Kafka cluster.
    #[error("the metadata is bound to Kafka cluster `{bound}`, not to `{requested}`")]
    OtherCluster {
        /// The cluster id that the metadata is bound to.
        bound: String,
        /// The cluster id of the caller.
        requested: String,
    },
    /// The commit is below the fence of its process: another process has taken over its objects,
    /// or it was decided before. It had no effect.
    #[error("the object is below the fence of its process: {0}")]
    Fenced(String),
    /// The metadata is missing, or lacks acknowledged changes: it must not be served.
    #[error("the batch coordinator lost metadata: {0}")]
    MetadataLost(String),
    /// Stored bytes are damaged.
    #[error("the batch coordinator has data that cannot be decoded: {0}")]
    Corrupt(String),
    /// Stored data has a format version that this program does not know.
    #[error("{0}")]
    UnsupportedVersion(String),
}

/// The greatest distance, in milliseconds, of a seal time from the coordinator's clock; a greater
/// one is shortened, so that the clock of no replica ends the idempotence of producers. The embedded
/// coordinator has no clock besides that of its only replica.
pub const CLOCK_TOLERANCE_MS: i64 = 300_000;

/// The order in which a coordinator accepts commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOrder {
    /// Any order: parts without a required order among them commit once their bytes are durable.
    Independent,
    /// Whole objects in the order of their ids: the order is the only record of the offsets.
    ///
    /// The objects are those of one process, with the sequences 0, 1, 2, …. Any object but the next
    /// one fails with [`CoordinatorError::Unavailable`], except for a repeated commit, which returns
    /// the stored outcome. A PUT must be repeated until it succeeds, because no sequence can be
    /// skipped.
    ByObject,
}

/// The batch coordinator.
///
/// # Guarantees
/// Every operation is one atomic transition per partition. Partitions belong to shards, which
/// fail independently: [`Coordinator::commit`], [`Coordinator::find`] and [`Coordinator::trim`]
/// return one result for each item. Offsets are dense and never assigned
/// twice. [`Coordinator::commit`] repeated with the same object and part returns the stored outcome
/// and appends nothing, whenever that is: outcomes are stored until the fence of the process passes
/// them ([`Commit::lowest_undecided`]), and below the fence nothing is appended. Idempotence (KIP-98) is decided inside the commit.
///
/// # Errors
/// Every operation returns [`CoordinatorError`]: [`CoordinatorError::Unavailable`] when it had no
/// effect, [`CoordinatorError::Unknown`] when it may have had one.
///
/// # Cancel safety
/// Dropping a future leaves the outcome unknown, as [`CoordinatorError::Unknown`] does.
#[async_trait]
pub trait Coordinator: Send + Sync + Debug {
    /// Returns the order in which the caller must commit.
    fn commit_order(&self) -> CommitOrder;

    /// Returns the shard of a partition. Partitions of one shard fail together; a call with
    /// partitions of several shards is as slow as the slowest of them.
    fn shard(&self, partition: TopicPartition) -> u16;

    /// Checks that a shard responds and has its metadata. Where one of its partitions has lost its
    /// metadata, this tells whether the loss is that of the whole shard.
    async fn check_shard(&self, _shard: u16) -> Result<(), CoordinatorError> {
        Ok(())
    }

    /// Returns a position of the partition's shard at or after every change of it that this process
    /// made, for journals.
    fn position(&self, partition: TopicPartition) -> ShardPosition {
        ShardPosition { shard: u32::from(self.shard(partition)), ..ShardPosition::default() }
    }

    /// Binds new metadata to the Kafka cluster, checks the cluster otherwise, and assigns the zone
    /// its permanent index. Precedes every other operation, and may be repeated.
    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError>;

    /// Binds topic ids to topic types; returns the resulting bindings, in the order of the requests.
    /// The result for a deleted id is `None`, and the id stays deleted: Kafka uses no id twice, so
    /// the caller has it from a broker that lags behind.
    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError>;

    /// Returns every binding, in the order of the topic ids.
    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError>;

    /// Deletes a topic with its index and its producers; later commits to it are refused.
    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError>;

    /// Assigns offsets to parts of a durable object; returns one result for each part, in order.
    /// Parts of one partition are committed in their order: none after one that failed with
    /// [`CoordinatorError::Unavailable`] or [`CoordinatorError::Unknown`].
    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>>;

    /// Raises the fence of a process in all shards, on behalf of another process: objects with
    /// sequences below `lowest` can no longer be committed ([`CoordinatorError::Fenced`]), and their
    /// outcomes are forgotten. [`u32::MAX`] lets it commit nothing from now on. Never lowers it.
    async fn raise_fence(
        &self,
        process: ProcessIdentity,
        lowest: u32,
    ) -> Result<(), CoordinatorError>;

    /// Finds runs; returns one result for each request, in order.
    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>>;

    /// Raises log start offsets, at most to the high watermark, and never lowers them; returns the
    /// resulting watermarks, one result for each partition, in order. Runs that end at or below
    /// the new start leave the index.
    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>>;

    /// Returns the producers of a partition, by producer id.
    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError>;

    /// Subscribes to changes from now on. The events of one partition arrive in the order in which
    /// they happened; the events of different partitions, or of a topic and its partitions, in any
    /// order. The channel is bounded: a subscriber that is too slow for it gets
    /// [`CoordinatorEvent::Gap`]. When the connection to a shard breaks, or cannot be made at the
    /// beginning, it gets [`CoordinatorEvent::Disconnected`] and, once the events arrive again,
    /// `Gap`; the other shards are not affected. The channel stays open as long as the coordinator
    /// exists.
    async fn subscribe(&self) -> Result<mpsc::Receiver<CoordinatorEvent>, CoordinatorError>;

    /// Takes or renews the lease of a replica for `ttl` (at most [`LEASE_MAX`]), or ends it if `ttl`
    /// is zero; returns all members with a valid lease, all zones, and all running processes. Taking a lease raises the
    /// zone's number of nodes to the number that the member requests; nothing lowers it. Time is the
    /// coordinator's. Of two processes with one name the newer one, by incarnation, has the lease.
    /// The older one gets the same result, and so does a member without nodes, which never has a
    /// lease. All of them count as running for `ttl`, which a shorter one does not shorten; a member
    /// without nodes whose `ttl` is zero does not any more.
    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError>;
}

/// Calls that need every item, or a single one.
#[async_trait]
pub trait CoordinatorExt: Coordinator {
    /// Commits parts; returns all outcomes, or the first error.
    async fn commit_all(&self, commit: &Commit) -> CoordinatorResult<Vec<PartOutcome>> {
        self.commit(commit).await.into_iter().collect()
    }

    /// Finds runs; returns all results, or the first error.
    async fn find_all(&self, requests: Vec<FindRequest>) -> CoordinatorResult<Vec<Found>> {
        self.find(requests).await.into_iter().collect()
    }

    /// Finds runs of one partition.
    async fn find_one(&self, request: FindRequest) -> CoordinatorResult<Found> {
        let missing = || CoordinatorError::Corrupt("a result is missing".to_owned());
        self.find(vec![request]).await.pop().ok_or_else(missing)?
    }

    /// Raises log start offsets; returns all watermarks, or the first error.
    async fn trim_all(
        &self,
        starts: Vec<(TopicPartition, i64)>,
    ) -> CoordinatorResult<Vec<Watermarks>> {
        self.trim(starts).await.into_iter().collect()
    }
}

impl<C: Coordinator + ?Sized> CoordinatorExt for C {}
