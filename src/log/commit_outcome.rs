//! The outcome of the commit of one batch.

/// The outcome of the commit of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommitOutcome {
    /// Appended at this offset.
    Committed {
        /// The offset of its first record.
        base_offset: i64,
    },
    /// A repetition of one of the producer's last five batches; nothing was appended.
    Duplicate {
        /// The offset of the first record of the batch that was appended.
        base_offset: i64,
        /// The greatest timestamp of that batch, in milliseconds.
        max_timestamp: i64,
    },
    /// Not appended.
    Refused(Refusal),
}

/// The reason why a batch was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The sequence neither continues the producer's last batch nor repeats one of its last five.
    OutOfOrderSequence,
    /// The producer's epoch is older than the newest one of the partition.
    InvalidProducerEpoch,
    /// The topic was deleted.
    TopicDeleted,
}
