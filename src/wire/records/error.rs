//! The reasons that the records of a batch are rejected.

/// The maximum size in bytes to which the records of one batch are decompressed.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;
/// The maximum number of invalid records that are listed; a broker lists all.
pub const INVALID_RECORDS_MAX: usize = 1_000;

/// The reason that the records of a batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// A codec that does not exist.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// The records do not decompress, or end before the record count of the batch.
    #[error("the records cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    /// The records decompress to more than [`DECOMPRESSED_BYTES_MAX`].
    #[error("the records decompress to more than {DECOMPRESSED_BYTES_MAX} bytes")]
    TooLarge,
    /// A record has an invalid length or timestamp, or the number of records differs from the
    /// record count of the batch.
    #[error("malformed record")]
    Malformed,
    /// Records that violate the topic's rules.
    #[error("{} invalid records, the first: {}", .0.rows.len(), first(.0))]
    Refused(InvalidRecords),
    /// The recompressed batch is larger than the topic allows.
    #[error("batch of {0} bytes after recompression exceeds max.message.bytes")]
    BatchTooLarge(usize),
    /// A recompressed batch cannot hold a timestamp below −1.
    #[error("a negative timestamp cannot be recompressed to the topic's codec")]
    Negative,
    /// The records of a compressed batch do not have the offsets 0, 1, 2 and so on.
    #[error("offsets of a compressed batch are out of order")]
    OffsetOrder,
}

fn first(faults: &InvalidRecords) -> String {
    faults.rows.first().map(|(_, fault)| fault.to_string()).unwrap_or_default()
}

/// The reason that a record is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// A missing key on a topic that requires keys.
    #[error("record without a key on a compacted topic")]
    NoKey,
    /// A timestamp out of the topic's bounds.
    #[error("timestamp {0} is out of the topic's bounds")]
    OutOfBounds(i64),
    /// An append time: only brokers set them.
    #[error("timestamp type LogAppendTime set by a producer")]
    AppendTime,
}

/// The invalid records of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvalidRecords {
    /// The first [`INVALID_RECORDS_MAX`]: their index in the batch, and the reason.
    pub rows: Vec<(i32, InvalidRecord)>,
    /// Returns whether any reason is a timestamp.
    pub timestamps: bool,
}
