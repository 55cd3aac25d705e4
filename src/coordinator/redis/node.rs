//! One server, and how it is connected to.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo};

/// A server.
#[derive(Clone)]
pub(super) struct Node {
    /// `host:port` in a Cluster; empty for the only master.
    pub(super) address: String,
    pub(super) client: Client,
}

/// Returns the configuration of a connection to one server.
pub(super) fn node_config(connect: Duration, response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect))
        .set_response_timeout(Some(response))
}

/// Sends small requests at once.
pub(super) fn without_delay(info: ConnectionInfo) -> ConnectionInfo {
    info.set_tcp_settings(TcpSettings::default().set_nodelay(true))
}
