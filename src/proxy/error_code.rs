//! Maps errors to Kafka's error codes (`Errors.java`). No other module does.

use crate::coordinator::{CommitOutcome, CoordinatorError, Refusal};
use crate::engine::fetch::FetchError;
use crate::engine::list_offsets::ListOffsetsError;
use crate::engine::produce::AppendOutcome;
use crate::wire::record_batch::BatchError;
use crate::wire::records::RecordsError;

/// A Kafka error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i16);

#[expect(missing_docs, reason = "the names are Kafka's")]
impl ErrorCode {
    pub const UNKNOWN_SERVER_ERROR: Self = Self(-1);
    pub const NONE: Self = Self(0);
    pub const OFFSET_OUT_OF_RANGE: Self = Self(1);
    pub const UNKNOWN_TOPIC_OR_PARTITION: Self = Self(3);
    pub const LEADER_NOT_AVAILABLE: Self = Self(5);
    pub const NOT_LEADER_OR_FOLLOWER: Self = Self(6);
    pub const REQUEST_TIMED_OUT: Self = Self(7);
    pub const MESSAGE_TOO_LARGE: Self = Self(10);
    pub const INVALID_TOPIC_EXCEPTION: Self = Self(17);
    pub const INVALID_REQUIRED_ACKS: Self = Self(21);
    pub const TOPIC_AUTHORIZATION_FAILED: Self = Self(29);
    pub const CLUSTER_AUTHORIZATION_FAILED: Self = Self(31);
    pub const UNSUPPORTED_VERSION: Self = Self(35);
    pub const INVALID_TIMESTAMP: Self = Self(32);
    pub const INVALID_CONFIG: Self = Self(40);
    pub const INVALID_REQUEST: Self = Self(42);
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: Self = Self(45);
    pub const INVALID_PRODUCER_EPOCH: Self = Self(47);
    pub const INVALID_TXN_STATE: Self = Self(48);
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Self = Self(53);
    pub const SASL_AUTHENTICATION_FAILED: Self = Self(58);
    pub const OPERATION_NOT_ATTEMPTED: Self = Self(55);
    pub const KAFKA_STORAGE_ERROR: Self = Self(56);
    pub const FETCH_SESSION_ID_NOT_FOUND: Self = Self(70);
    pub const INVALID_FETCH_SESSION_EPOCH: Self = Self(71);
    pub const UNSUPPORTED_COMPRESSION_TYPE: Self = Self(76);
    pub const INVALID_RECORD: Self = Self(87);
    pub const UNKNOWN_TOPIC_ID: Self = Self(100);
    pub const FETCH_SESSION_TOPIC_ID_ERROR: Self = Self(106);
    pub const UNKNOWN_SUBSCRIPTION_ID: Self = Self(117);
    pub const TELEMETRY_TOO_LARGE: Self = Self(118);
    pub const REBOOTSTRAP_REQUIRED: Self = Self(129);
}

/// Returns the error code for the outcome of a batch.
pub fn for_outcome(outcome: &CommitOutcome) -> ErrorCode {
    match outcome {
        CommitOutcome::Committed { .. } | CommitOutcome::Duplicate { .. } => ErrorCode::NONE,
        CommitOutcome::Refused(Refusal::OutOfOrderSequence) => {
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        }
        CommitOutcome::Refused(Refusal::InvalidProducerEpoch) => ErrorCode::INVALID_PRODUCER_EPOCH,
        CommitOutcome::Refused(Refusal::TopicDeleted) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

/// Returns the error code for a batch without a decision of the coordinator: retriable, unless the
/// store accepts no object with the batch.
pub fn for_undecided(outcome: &AppendOutcome) -> ErrorCode {
    match outcome {
        AppendOutcome::Decided { outcome, .. } => for_outcome(outcome),
        AppendOutcome::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
        AppendOutcome::MetadataLost | AppendOutcome::ShardFailing | AppendOutcome::StoreRefused => {
            ErrorCode::KAFKA_STORAGE_ERROR
        }
    }
}

/// Returns the error code for a failed fetch: only codes that the Java consumer handles.
pub fn for_fetch(error: FetchError) -> ErrorCode {
    match error {
        FetchError::OffsetOutOfRange => ErrorCode::OFFSET_OUT_OF_RANGE,
        FetchError::Storage | FetchError::IndexEntryMissing => ErrorCode::KAFKA_STORAGE_ERROR,
        FetchError::TopicDeleted => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

/// Returns the error code for a failure of the coordinator: always retriable, because the failure
/// may be transient.
pub fn for_coordinator(error: &CoordinatorError) -> ErrorCode {
    match error {
        CoordinatorError::Unknown(_) => ErrorCode::REQUEST_TIMED_OUT,
        CoordinatorError::Unavailable(_)
        | CoordinatorError::OtherCluster { .. }
        | CoordinatorError::Fenced(_)
        | CoordinatorError::MetadataLost(_)
        | CoordinatorError::UnsupportedVersion(_)
        | CoordinatorError::Corrupt(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// Returns the error code for a failed offset lookup.
pub fn for_lookup(error: &ListOffsetsError) -> ErrorCode {
    match error {
        ListOffsetsError::Coordinator(error) => for_coordinator(error),
        ListOffsetsError::Store(_) | ListOffsetsError::Corrupt(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// Returns the error code for an invalid batch, as a broker does.
pub fn for_batch(error: &BatchError) -> ErrorCode {
    ErrorCode(error.error_code())
}

/// Returns the error code for invalid records, as a broker does.
pub fn for_records(error: &RecordsError) -> ErrorCode {
    match error {
        RecordsError::Malformed => ErrorCode::INVALID_RECORD,
        RecordsError::Refused(faults) if faults.timestamps => ErrorCode::INVALID_TIMESTAMP,
        RecordsError::Refused(_) => ErrorCode::INVALID_RECORD,
        RecordsError::TooLarge | RecordsError::BatchTooLarge(_) => ErrorCode::MESSAGE_TOO_LARGE,
        RecordsError::Codec(_)
        | RecordsError::Unreadable(_)
        | RecordsError::Negative
        | RecordsError::OffsetOrder => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}
