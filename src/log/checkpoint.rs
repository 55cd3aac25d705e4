//! The bytes of a checkpoint, version 1; `docs/checkpoint-format.md` is the specification.
//!
//! A checkpoint describes the metadata of one shard up to one position. It consists of a manifest,
//! one object with the state, and objects with runs, most of which it shares with the checkpoint
//! before it.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::crc32_iscsi;

use super::batch::Run;
use super::encoding::{BytesReader, FormatError};
use super::format_version::check_version;
use super::ids::{TopicId, TopicPartition};
use super::object_format::ShardPosition;
use super::producer_state::ProducerEntry;

mod manifest;
mod runs;
mod state;

pub use manifest::{decode_manifest, encode_manifest};
pub use runs::{decode_runs, encode_runs};
pub use state::{decode_state, encode_state};

/// The version of the format.
pub const CHECKPOINT_VERSION: u8 = 1;

/// The first bytes of every object of a checkpoint, before the version.
const MAGIC: [u8; 7] = *b"ODRCKPT";

/// The checksum after the sections.
const CHECKSUM_BYTES: usize = 4;

/// Names the objects of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The id of the metadata.
    pub metadata_id: String,
    /// The position up to which the checkpoint describes the shard.
    pub position: ShardPosition,
    /// The time at which it was written, in milliseconds since the Unix epoch; informational.
    pub written_ms: i64,
    /// The object with the state.
    pub state: PartReference,
    /// The objects with runs, in the order in which they were written.
    pub runs: Vec<PartReference>,
}

/// An object of a checkpoint, and how to recognise its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReference {
    /// The key in the object store.
    pub key: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The CRC-32C of all bytes.
    pub checksum: u32,
}

impl PartReference {
    /// Returns the reference to an object with these bytes.
    pub fn new(key: String, body: &[u8]) -> Self {
        Self { key, bytes: body.len() as u64, checksum: crc32_iscsi(body) }
    }

    /// Returns whether these are the bytes of the object.
    pub fn matches(&self, body: &[u8]) -> bool {
        self.bytes == body.len() as u64 && self.checksum == crc32_iscsi(body)
    }
}

/// The state of a shard, without its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointState {
    /// The Kafka cluster, if one is bound.
    pub cluster_id: Option<String>,
    /// The zones by index: name and number of diskless nodes.
    pub zones: Vec<(String, u16)>,
    /// The topic bindings.
    pub topics: Vec<CheckpointTopic>,
    /// The ids of deleted topics.
    pub deleted: Vec<TopicId>,
    /// The partitions.
    pub partitions: Vec<CheckpointPartition>,
}

/// The binding of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointTopic {
    /// The topic.
    pub topic: TopicId,
    /// Its name.
    pub name: String,
    /// Its topic type: `c` classic, `d` diskless, `m` migrating.
    pub topic_type: u8,
}

/// The counters and the producers of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset that can be read.
    pub log_start_offset: i64,
    /// The offset after the last record.
    pub high_watermark: i64,
    /// The greatest seal time of the committed objects, in milliseconds; `None` before the first.
    pub clock_ms: Option<i64>,
    /// The producers, by id.
    pub producers: Vec<(i64, ProducerEntry)>,
}

/// Runs of a partition, by offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRuns {
    /// The partition.
    pub partition: TopicPartition,
    /// The runs.
    pub runs: Vec<Run>,
}

/// Encodes an object of a checkpoint from its sections.
fn seal(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::from(&MAGIC[..]);
    out.put_u8(CHECKPOINT_VERSION);
    write(&mut out);
    let checksum = crc32_iscsi(&out);
    out.put_u32(checksum);
    out.freeze()
}

/// Checks the frame of an object of a checkpoint, and returns a reader of its sections.
fn open(bytes: &[u8]) -> Result<BytesReader<'_>, FormatError> {
    let (magic, rest) = bytes.split_first_chunk::<7>().ok_or(FormatError::Truncated)?;
    if *magic != MAGIC {
        return Err(FormatError::Magic);
    }
    let (version, rest) = rest.split_first().ok_or(FormatError::Truncated)?;
    check_version("the checkpoint", u32::from(*version), u32::from(CHECKPOINT_VERSION))
        .map_err(FormatError::Version)?;
    let (sections, checksum) =
        rest.split_last_chunk::<CHECKSUM_BYTES>().ok_or(FormatError::Truncated)?;
    let (checked, _) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    if crc32_iscsi(checked) != u32::from_be_bytes(*checksum) {
        return Err(FormatError::Checksum);
    }
    Ok(BytesReader::new(sections))
}

#[cfg(test)]
mod tests;
