//! What a record batch claims of itself, and where a run of batches lies.

use super::ids::{ObjectId, TopicPartition};

/// The idempotent producer's claim on a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerSequence {
    /// Producer id, 0 or above.
    pub id: i64,
    /// Producer epoch, 0 or above.
    pub epoch: i16,
    /// Sequence of the first record, 0 or above; sequences wrap from `i32::MAX` to 0.
    pub base_sequence: i32,
}

/// What a checked batch brings to the batch coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchMetadata {
    /// Size of the whole batch in bytes, its 12-byte prefix included.
    pub bytes: u32,
    /// Offsets that the batch takes: its last offset delta plus one; at least 1.
    pub offset_count: i32,
    /// The greatest timestamp among its records, in milliseconds; the append time for topics with
    /// `message.timestamp.type=LogAppendTime`; −1 when there is none.
    pub max_timestamp: i64,
    /// `None` for a producer without idempotence.
    pub producer: Option<ProducerSequence>,
}

impl BatchMetadata {
    /// The sequence of the last record, wrapped as Kafka does; `None` without a producer.
    pub fn last_sequence(&self) -> Option<i32> {
        self.producer.map(|p| add_sequence(p.base_sequence, self.offset_count - 1))
    }
}

/// `sequence + increment`, wrapping from `i32::MAX` to 0 (`DefaultRecordBatch.incrementSequence`).
pub fn add_sequence(sequence: i32, increment: i32) -> i32 {
    if sequence > i32::MAX - increment {
        increment - (i32::MAX - sequence) - 1
    } else {
        sequence + increment
    }
}

/// A run of one connection's batches for one partition inside one object: the unit of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Position of the part among the object's parts; with the object id it names the commit.
    pub index: u32,
    /// Where its batches go.
    pub partition: TopicPartition,
    /// Position of its first byte in the object.
    pub start: u64,
    /// The batches in the order in which they lie and were sent; never empty.
    pub batches: Vec<BatchMetadata>,
}

/// Contiguous batches of one partition inside one object: the unit of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offsets that the run takes; at least 1.
    pub offset_count: i64,
    /// The object that holds the bytes.
    pub object: ObjectId,
    /// Position of the first byte in the object.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// The greatest timestamp of its batches, in milliseconds; −1 when there is none.
    pub max_timestamp: i64,
}

impl Run {
    /// The offset after the last record.
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
