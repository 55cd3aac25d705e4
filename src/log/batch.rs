//! Metadata of record batches, and where batches are stored.

use super::ids::{ObjectId, TopicPartition};

/// Producer id, epoch and sequence of a batch of an idempotent producer (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerSequence {
    /// Producer id, 0 or above.
    pub id: i64,
    /// Producer epoch, 0 or above.
    pub epoch: i16,
    /// Sequence of the first record, 0 or above; sequences wrap from `i32::MAX` to 0.
    pub base_sequence: i32,
}

/// The metadata of a validated batch that the batch coordinator needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchMetadata {
    /// The size of the batch in bytes, including its 12-byte prefix.
    pub bytes: u32,
    /// The number of offsets of the batch: its last offset delta plus one; at least 1.
    pub offset_count: i32,
    /// The greatest timestamp among its records, in milliseconds; the append time for topics with
    /// `message.timestamp.type=LogAppendTime`; −1 when there is none.
    pub max_timestamp: i64,
    /// `None` for a producer without idempotence.
    pub producer: Option<ProducerSequence>,
}

impl BatchMetadata {
    /// Returns the sequence of the last record, wrapped as in Kafka; `None` without a producer.
    pub fn last_sequence(&self) -> Option<i32> {
        self.producer.map(|p| add_sequence(p.base_sequence, self.offset_count - 1))
    }
}

/// Returns `sequence + increment`, wrapping from `i32::MAX` to 0 (`DefaultRecordBatch.incrementSequence`).
pub fn add_sequence(sequence: i32, increment: i32) -> i32 {
    if sequence > i32::MAX - increment {
        increment - (i32::MAX - sequence) - 1
    } else {
        sequence + increment
    }
}

/// The batches of one connection for one partition in one object: the unit of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The position of the part among the parts of the object. Object id and index identify the
    /// commit of the part.
    pub index: u32,
    /// The partition of its batches.
    pub partition: TopicPartition,
    /// The position of its first byte in the object.
    pub start: u64,
    /// The batches, in the order in which they were sent and stored; never empty.
    pub batches: Vec<BatchMetadata>,
}

/// Contiguous batches of one partition in one object: the unit of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The offset of the first record.
    pub base_offset: i64,
    /// The number of offsets of the run; at least 1.
    pub offset_count: i64,
    /// The object that contains the bytes.
    pub object: ObjectId,
    /// The position of the first byte in the object.
    pub start: u64,
    /// The length in bytes.
    pub bytes: u64,
    /// The greatest timestamp of its batches, in milliseconds; −1 when there is none.
    pub max_timestamp: i64,
}

impl Run {
    /// Returns the offset after the last record.
    pub fn end_offset(&self) -> i64 {
        self.base_offset + self.offset_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 1, 3), 1);
        assert_eq!(add_sequence(7, 0), 7);
    }
}
