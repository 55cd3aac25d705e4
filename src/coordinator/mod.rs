//! The batch coordinator: assigns offsets, keeps the index, binds topic ids to their kind.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::log::batch::{Part, Run};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod embedded;
#[cfg(any(test, feature = "test-util"))]
pub mod faulty;
pub mod measured;
mod membership;
pub mod memory;
pub mod redis;

pub use membership::{LEASE_MAX, Member, Membership, ZoneRecord};

/// Whether a topic's records lie on the brokers or in object storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicType {
    /// The brokers keep it; requests pass through.
    Classic,
    /// Odradek keeps it; the broker holds an empty placeholder.
    Diskless,
    /// It was classic, and nobody has written to it yet, so that it may become diskless: for the
    /// moment nobody may write to it at all, until all have heard so and its logs were looked at.
    Migrating,
}

/// A topic id bound to its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicBinding {
    /// The id that is bound.
    pub topic: TopicId,
    /// The name it had when it was bound; for people, never for decisions.
    pub name: String,
    /// The kind; see [`BindRule`] for how it may change.
    pub topic_type: TopicType,
}

/// What [`Coordinator::register`] does with an id that is bound already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindRule {
    /// The first binding stays, whatever is asked now.
    FirstWins,
    /// One step of a switch: a classic topic becomes [`TopicType::Migrating`], and from there
    /// diskless or classic again. Every other request leaves what is bound: a diskless topic never
    /// becomes another, and no classic one becomes diskless at one stroke.
    ///
    /// The caller sees to it that between the two steps every replica has heard of the first one
    /// and relays nothing, and that the broker's logs are empty after that.
    Migrate,
}

/// A request to bind a topic id to a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    /// The binding that is asked for.
    pub binding: TopicBinding,
    /// What to do when the id is bound already.
    pub rule: BindRule,
}

/// What a replica learns when it attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The permanent index of the replica's zone, 0 for the first zone ever seen.
    pub zone_index: u16,
    /// Every zone ever seen, by index.
    pub zones: Vec<String>,
    /// Names this life of the metadata; changes only when the metadata is rebuilt.
    pub metadata_id: String,
}

/// A request to commit parts of an object whose bytes are durable already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The object.
    pub object: ObjectId,
    /// When the object was sealed, in milliseconds since the Unix epoch. Producer expiry reads
    /// this and no other clock, so that a replay decides as the first run did.
    pub sealed_ms: i64,
    /// Parts in the order of their index; never empty.
    pub parts: Vec<Part>,
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchOutcome {
    /// Appended at this offset.
    Committed {
        /// Offset of its first record.
        base_offset: i64,
    },
    /// One of the producer's last five batches again: nothing was appended.
    Duplicate {
        /// The offset that the batch was given the first time.
        base_offset: i64,
        /// The greatest timestamp that the first one had, in milliseconds.
        max_timestamp: i64,
    },
    /// Not appended.
    Refused(Refusal),
}

/// Why a batch was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The sequence neither continues the producer's last batch nor repeats one of its last five.
    OutOfOrderSequence,
    /// The producer's epoch is older than one already seen.
    InvalidProducerEpoch,
    /// The topic was deleted.
    TopicDeleted,
}

/// What became of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOutcome {
    /// The part's index in the object.
    pub index: u32,
    /// One outcome for each batch, in order.
    pub batches: Vec<BatchOutcome>,
    /// The partition's log start offset after the commit.
    pub log_start_offset: i64,
}

/// Where [`Coordinator::find`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindFrom {
    /// The run that contains this offset, or the first one after it.
    Offset(i64),
    /// The first run, in offset order, whose greatest timestamp is at least this (milliseconds).
    Timestamp(i64),
    /// The first run, in offset order, that holds the partition's greatest timestamp.
    MaxTimestamp,
}

/// Asks for runs of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindRequest {
    /// The partition.
    pub partition: TopicPartition,
    /// Where to begin.
    pub from: FindFrom,
    /// Stop once the runs found hold at least this many bytes; one run is always given.
    pub bytes_max: u64,
    /// Never give more runs than this.
    pub runs_max: u32,
}

/// Where a partition begins and ends. A partition never written begins and ends at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watermarks {
    /// The first offset that can be read.
    pub log_start_offset: i64,
    /// The offset after the last record.
    pub high_watermark: i64,
    /// Bytes of the runs in the index.
    pub bytes: u64,
}

/// What [`Coordinator::find`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The partition's bounds, read in the same transition as the runs.
    pub watermarks: Watermarks,
    /// Runs in offset order, each beginning where the one before ends; none lies wholly below the
    /// log start offset.
    pub runs: Vec<Run>,
}

/// An idempotent producer that a partition remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerSnapshot {
    /// Producer id.
    pub id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// The sequence of the last record it wrote.
    pub last_sequence: i32,
    /// The greatest timestamp of its last batch, in milliseconds.
    pub last_timestamp: i64,
}

/// A change that followers are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Batches were appended and can be read.
    Committed {
        /// The partition.
        partition: TopicPartition,
        /// What was appended, in offset order.
        runs: Vec<Run>,
    },
    /// The log start offset rose.
    Trimmed {
        /// The partition.
        partition: TopicPartition,
        /// The new log start offset.
        log_start_offset: i64,
    },
    /// A topic was bound to a kind, or changed it.
    Bound(TopicBinding),
    /// A topic was forgotten.
    TopicDeleted(TopicId),
    /// Events may have been missed: whatever was derived from them must be asked for again.
    Gap,
}

/// Why a coordinator's answer is missing.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// It certainly did not happen: the request never left, or was turned down.
    #[error("the batch coordinator is unavailable: {0}")]
    Unavailable(String),
    /// It may have happened: repeat it with the same ids.
    #[error("the batch coordinator did not answer: {0}")]
    Unknown(String),
    /// The metadata belongs to another Kafka cluster.
    #[error("the metadata is bound to Kafka cluster {bound}, not to {asked}")]
    OtherCluster {
        /// The cluster id that the metadata is bound to.
        bound: String,
        /// The cluster id of the cluster at hand.
        asked: String,
    },
    /// The metadata is gone or older than what was acknowledged: nothing may be served from it.
    #[error("the batch coordinator lost its metadata: {0}")]
    MetadataLost(String),
    /// Stored bytes that this version cannot read.
    #[error("the batch coordinator holds what this version cannot read: {0}")]
    Corrupt(String),
}

/// In which order a coordinator takes commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOrder {
    /// Any order: parts that owe each other no order commit as soon as their bytes are durable.
    Independent,
    /// Whole objects in the order of their ids: the order is the only record of the offsets.
    ///
    /// The objects are those of one process, their sequences 0, 1, 2, …; any other than the next
    /// one is [`CoordinatorError::Unavailable`], and a repeat is answered as ever. So a PUT must
    /// be repeated until it succeeds: no sequence can be left out.
    ByObject,
}

/// The batch coordinator.
///
/// # Guarantees
/// Every verb is one atomic transition per partition. Offsets are dense and never given twice.
/// [`Coordinator::commit`] repeated with the same object and part gives the stored outcome and
/// appends nothing, for at least an hour. Idempotence (KIP-98) is decided inside the commit.
///
/// # Cancel safety
/// A dropped future leaves the outcome unknown, as [`CoordinatorError::Unknown`] does.
#[async_trait]
pub trait Coordinator: Send + Sync + Debug {
    /// In which order the caller must commit.
    fn commit_order(&self) -> CommitOrder;

    /// Binds the metadata to the Kafka cluster at first sight, checks it afterwards, and gives the
    /// zone its permanent index. Comes before every other verb, and may be repeated.
    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError>;

    /// Binds topic ids to kinds; answers with the bindings that hold, in the order asked. A
    /// forgotten id stays forgotten and is answered `None`: Kafka gives no id twice, so whoever
    /// asks has heard of it from a broker that lags behind.
    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError>;

    /// Every binding, in the order of the topic ids.
    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError>;

    /// Forgets a deleted topic, its index and its producers; its late commits are refused.
    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError>;

    /// Assigns offsets to parts of a durable object; one outcome for each part, in order.
    async fn commit(&self, commit: &Commit) -> Result<Vec<PartOutcome>, CoordinatorError>;

    /// Finds runs; one answer for each request, in order.
    async fn find(&self, requests: Vec<FindRequest>) -> Result<Vec<Found>, CoordinatorError>;

    /// Raises log start offsets (never lowers them; the high watermark is the limit); answers with
    /// the watermarks that hold, in order. Runs wholly below the new start leave the index.
    async fn trim(
        &self,
        starts: Vec<(TopicPartition, i64)>,
    ) -> Result<Vec<Watermarks>, CoordinatorError>;

    /// The producers that a partition remembers, by producer id.
    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError>;

    /// Follows changes from now on. The events of one partition come in the order in which they
    /// happened; those of two partitions, or of a topic and its partitions, in any. The channel
    /// is bounded; a follower too slow for it, or one
    /// whose connection broke, is told [`Event::Gap`]. It never ends while the coordinator lives.
    async fn subscribe(&self) -> Result<mpsc::Receiver<Event>, CoordinatorError>;

    /// Takes or renews the lease of a replica for `ttl` (at most [`LEASE_MAX`]), or ends it when
    /// that is zero; answers with everyone whose lease holds now, and with every zone ever seen.
    /// Taking it raises the zone's number of nodes to what the member asks for; nothing lowers
    /// it. Time is the coordinator's own. Of two processes with one name the newer one (by
    /// incarnation) has the lease; the older one is answered all the same, and so is who hosts no
    /// nodes, which never has a lease.
    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError>;
}
