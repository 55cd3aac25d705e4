//! The contents of a footer.

use super::layout::HEADER;
use crate::log::batch::Part;
use crate::log::commit_outcome::CommitOutcome;
use crate::log::ids::{ObjectId, TopicPartition};

/// The description of an object that is stored in the object itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The id of the object. It differs from the key if the object was copied.
    pub object: ObjectId,
    /// The purpose of the object.
    pub kind: ObjectKind,
    /// The name of the replica that wrote the object; informational.
    pub replica: String,
    /// The seal time in milliseconds since the Unix epoch, by the replica's clock.
    pub sealed_ms: i64,
    /// The lowest sequence of the process with a part that had no outcome when this object was
    /// sealed; at most the object's own.
    pub lowest_undecided: u32,
    /// The parts: `index` counts from 0, the byte ranges ascend and do not overlap.
    pub parts: Vec<Part>,
    /// For [`ObjectKind::Segment`], one for each part; empty otherwise.
    pub placements: Vec<Placement>,
    /// Earlier changes of the metadata that the writer knows.
    pub journal: Vec<JournalEntry>,
}

impl Footer {
    /// Returns the footer of a WAL object without a journal.
    pub fn wal(object: ObjectId, replica: &str, sealed_ms: i64, parts: Vec<Part>) -> Self {
        Self {
            object,
            kind: ObjectKind::Wal,
            replica: replica.to_owned(),
            sealed_ms,
            lowest_undecided: object.sequence,
            parts,
            placements: Vec::new(),
            journal: Vec::new(),
        }
    }
}

/// The purpose of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Batches as the clients sent them. Their offsets are known only to the coordinator.
    Wal,
    /// Batches with their final offsets, merged from other objects. It has no header.
    Segment,
    /// A journal without batches.
    Journal,
}

impl ObjectKind {
    /// Returns the position of the first byte that may belong to a part.
    pub fn data_start(self) -> u64 {
        match self {
            Self::Wal | Self::Journal => HEADER.len() as u64,
            Self::Segment => 0,
        }
    }
}

/// The place of a part of a segment in its partition, and the origin of its batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The offset of the first record, 0 or above.
    pub base_offset: i64,
    /// The runs that the part was merged from, in the order of their offsets.
    pub sources: Vec<SourceRun>,
}

/// A run that a part of a segment was merged from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRun {
    /// The object.
    pub object: ObjectId,
    /// The position of the run's first byte in it.
    pub start: u64,
    /// The length of the run in bytes.
    pub bytes: u64,
    /// The number of offsets of the run; at least 1.
    pub offset_count: i64,
    /// The number of records of the run.
    pub records: u64,
    /// The CRC-32C over the checksum fields of the run's batches, which no change of an offset or a
    /// leader epoch affects.
    pub checksum: u32,
}

/// A change of the metadata that a later object reports, so that the objects alone describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEntry {
    /// Parts of an object were committed.
    Commit(JournaledCommit),
    /// The log start offset of a partition was raised.
    Trim(JournaledTrim),
    /// An entry of a later version; only a rebuild needs to understand it.
    Unknown {
        /// The kind of the entry.
        kind: u64,
    },
}

/// A position in the order of the changes of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShardPosition {
    /// The shard; 0 for a coordinator without shards.
    pub shard: u32,
    /// Identifies the history of the shard that the sequence belongs to (the replication id of
    /// Redis); empty for a coordinator that has only one.
    pub epoch: String,
    /// The sequence of the shard after the change. For a commit that was repeated, a later one.
    pub sequence: u64,
}

/// The outcomes of parts of one object in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournaledCommit {
    /// The object.
    pub object: ObjectId,
    /// The position of the commit.
    pub position: ShardPosition,
    /// The seal time that the coordinator used, in milliseconds since the Unix epoch: that of the
    /// object, unless it was limited to the coordinator's own clock.
    pub sealed_ms: i64,
    /// The parts, by their index.
    pub parts: Vec<JournaledPart>,
}

/// The outcomes of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournaledPart {
    /// The index of the part in the object.
    pub part: u32,
    /// One outcome for each batch, in order.
    pub outcomes: Vec<JournalOutcome>,
}

/// A log start offset that was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournaledTrim {
    /// The partition.
    pub partition: TopicPartition,
    /// The new log start offset, 0 or above.
    pub log_start_offset: i64,
    /// The position of the change.
    pub position: ShardPosition,
}

/// The part of a [`CommitOutcome`] that the journal stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalOutcome {
    /// Appended at this offset, 0 or above.
    Committed(i64),
    /// A duplicate of a batch at this offset, 0 or above.
    Duplicate(i64),
    /// Not appended.
    Refused,
}

impl From<CommitOutcome> for JournalOutcome {
    fn from(outcome: CommitOutcome) -> Self {
        match outcome {
            CommitOutcome::Committed { base_offset } => Self::Committed(base_offset),
            CommitOutcome::Duplicate { base_offset, .. } => Self::Duplicate(base_offset),
            CommitOutcome::Refused(_) => Self::Refused,
        }
    }
}
