//! The kinds of ports at which clients connect.

use crate::metrics::EndpointKind;

/// The port to which a client connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The bootstrap port: any broker behind it.
    Bootstrap,
    /// The classic endpoint of one broker.
    Broker(i32),
    /// Diskless node `k` of this zone.
    Node(u16),
}

impl Endpoint {
    /// Returns the label of the endpoint in metrics.
    pub(super) fn kind(self) -> EndpointKind {
        match self {
            Self::Bootstrap => EndpointKind::bootstrap,
            Self::Broker(_) => EndpointKind::classic,
            Self::Node(_) => EndpointKind::diskless,
        }
    }
}
