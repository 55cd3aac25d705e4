//! Errors of requests to brokers.

use crate::wire::frame::FrameError;
use crate::wire::guard::DecodeError;
use crate::wire::header::HeaderError;

/// A failed request to a broker.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The connection could not be opened, or broke.
    #[error("broker {address}: {source}")]
    Io {
        /// The broker's `host:port`.
        address: String,
        /// The cause.
        source: std::io::Error,
    },
    /// No response within the deadline.
    #[error("broker {0} did not respond in time")]
    Timeout(String),
    /// The broker rejected the credentials, or could not prove that it knows the password.
    #[error("broker {address} rejects the user of kafka.sasl: {source}")]
    Sasl {
        /// The broker's `host:port`.
        address: String,
        /// The cause.
        source: SaslError,
    },
    /// The response has the correlation id of another request.
    #[error("broker {0} responded to another request")]
    Correlation(String),
    /// The frame is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The header of the response is malformed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The response is malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The request cannot be expressed in that version.
    #[error("cannot encode request: {0}")]
    Encode(String),
    /// Too many lookups wait for the brokers.
    #[error("lookups for other requests take too long")]
    Busy,
    /// The broker belongs to another cluster than the one that was found first.
    #[error(
        "the brokers of kafka.bootstrapServers belong to cluster {found:?}, not to {expected:?}; \
         they are ignored until the servers of {expected:?} are back"
    )]
    OtherCluster {
        /// The id of the cluster in use.
        expected: String,
        /// The id of the broker's cluster.
        found: String,
    },
    /// No broker is known or reachable.
    #[error("no broker is reachable")]
    NoBroker,
    /// The brokers lack the API, or every version of it that is supported here.
    #[error("the brokers do not serve api key {0} in a supported version")]
    Unsupported(i16),
}

/// A failed authentication.
#[derive(Debug, thiserror::Error)]
pub enum SaslError {
    /// The broker's listener does not offer the mechanism.
    #[error("the broker does not offer kafka.sasl.mechanism; it offers {0}")]
    Mechanism(String),
    /// The broker rejected user or password.
    #[error("{0}")]
    Refused(String),
    /// The broker's message violates SCRAM, or demands too few or too many iterations.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The server does not know the password, so it is not the expected broker.
    #[error("the server could not prove that it knows the password of this user")]
    WrongServer,
}
