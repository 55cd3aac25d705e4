//! Reasons that a topic cannot become diskless.

use crate::coordinator::CoordinatorError;
use crate::proxy::upstream::error::UpstreamError;

/// An error of making a topic diskless.
#[derive(Debug, thiserror::Error)]
pub enum MakeDisklessError {
    /// The brokers' log of the topic is not empty.
    #[error(
        "topic {0} cannot become diskless: its broker log holds records; create a new topic \
         with diskless.enable=true and copy them"
    )]
    HasRecords(String),
    /// The topic is compacted.
    #[error(
        "topic {0} cannot become diskless: cleanup.policy=compact is not supported; use delete"
    )]
    Compacted(String),
    /// The topic is internal to Kafka.
    #[error("topic {0} cannot become diskless: it is internal to Kafka")]
    Internal(String),
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    Unknown(String),
    /// The brokers could not be asked.
    #[error("topic {0} cannot become diskless now, try again: {1}")]
    Upstream(String, UpstreamError),
    /// The coordinator could not be asked.
    #[error("topic {0} cannot become diskless now, try again: {1}")]
    Coordinator(String, CoordinatorError),
}
