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

/// Returns the port of broker `id` on a replica whose brokers begin at port `brokers` and whose
/// diskless nodes begin at port `nodes`, 0 if it hosts none; `None` if there is none. Brokers have
/// the ports up to the nodes', because others may listen above.
pub(crate) fn broker_port(brokers: u16, nodes: u16, id: i32) -> Option<u16> {
    let port = u16::try_from(i32::from(brokers).checked_add(id)?).ok()?;
    let is_below_nodes = nodes <= brokers || port < nodes;
    (id >= 0 && port != 0 && is_below_nodes).then_some(port)
}
