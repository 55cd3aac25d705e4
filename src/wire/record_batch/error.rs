//! The reasons that a batch is rejected, with the error codes of a broker.

/// The reason that a batch is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The batch is missing or incomplete.
    #[error("incomplete record batch")]
    Truncated,
    /// More than one batch: a partition of a Produce request may have only one.
    #[error("more than one record batch: expected one")]
    Multiple,
    /// A format before v2.
    #[error("unsupported magic {0}: expected 2")]
    OldMagic(u8),
    /// A format that does not exist.
    #[error("unknown magic {0}: expected 2")]
    Magic(u8),
    /// A length below the minimum.
    #[error("the batch length is too small")]
    Length,
    /// A length that overflows a broker's arithmetic.
    #[error("the batch length is too large")]
    Overflow,
    /// The checksum does not match the bytes.
    #[error("the checksum does not match")]
    Crc,
    /// The batch is larger than the topic's limit.
    #[error("batch of {0} bytes exceeds max.message.bytes")]
    TooLarge(usize),
    /// A base offset other than 0: producers do not assign offsets.
    #[error("invalid base offset {0}: expected 0")]
    BaseOffset(i64),
    /// The record count and the last offset delta contradict each other, or are not positive.
    #[error(
        "invalid record count {records} with last offset delta {last_offset_delta}: expected delta + 1"
    )]
    Count {
        /// The record count in the header.
        records: i32,
        /// The last offset delta in the header.
        last_offset_delta: i32,
    },
    /// A control batch: only coordinators write them.
    #[error("control batch from a client")]
    Control,
    /// A producer id with a negative epoch or sequence.
    #[error("producer id with a negative epoch or sequence")]
    Sequence,
    /// A codec that does not exist.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// zstd in a Produce version before KIP-110.
    #[error("zstd requires Produce version 7 or later")]
    ZstdTooEarly,
}

impl BatchError {
    /// Returns whether a broker detects the error only when it appends, and so returns the log
    /// start offset as well.
    pub fn is_log_error(self) -> bool {
        matches!(
            self,
            Self::BaseOffset(_)
                | Self::Codec(_)
                | Self::Count { .. }
                | Self::Sequence
                | Self::Control
        )
    }

    /// Returns the Kafka error code that a broker returns (observed on 4.3.1).
    pub fn error_code(self) -> i16 {
        const UNKNOWN_SERVER_ERROR: i16 = -1;
        const CORRUPT_MESSAGE: i16 = 2;
        const MESSAGE_TOO_LARGE: i16 = 10;
        const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
        const INVALID_RECORD: i16 = 87;
        match self {
            Self::Magic(_) | Self::Length | Self::Crc => CORRUPT_MESSAGE,
            Self::TooLarge(_) => MESSAGE_TOO_LARGE,
            Self::Codec(_) | Self::Overflow => UNKNOWN_SERVER_ERROR,
            Self::ZstdTooEarly => UNSUPPORTED_COMPRESSION_TYPE,
            Self::Truncated
            | Self::Multiple
            | Self::OldMagic(_)
            | Self::BaseOffset(_)
            | Self::Count { .. }
            | Self::Control
            | Self::Sequence => INVALID_RECORD,
        }
    }
}
