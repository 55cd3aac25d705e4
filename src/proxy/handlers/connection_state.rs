//! The state that handlers keep for a connection between its requests.

use std::sync::Arc;

use super::fetch_partitions::FetchedPartitions;
use crate::engine::memory::ConnectionQuota;
use crate::proxy::context::Proxy;
use crate::proxy::fetch_sessions::OwnedSessions;

/// The state of a connection between its requests.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// [`TopicRegistry::migrations`] at the last check of the connection's fetch sessions.
    pub(super) migrations: u64,
    /// The fetch sessions that the client opened on this connection.
    pub(super) fetch_sessions: Box<OwnedSessions>,
    /// Partitions that the client fetched from this replica on this connection.
    pub(super) fetched: Arc<FetchedPartitions>,
    /// The connection's quota of the memory for Fetch responses.
    pub(super) responses: Arc<ConnectionQuota>,
}

impl ConnectionState {
    pub(crate) fn new(proxy: &Proxy) -> Self {
        let responses = proxy.fetch_memory.quota(proxy.settings.response_bytes_max);
        let migrations = proxy.topics.registry.migrations();
        let fetch_sessions = Box::new(OwnedSessions::new(Arc::clone(&proxy.fetch_sessions)));
        Self { migrations, fetch_sessions, fetched: Arc::default(), responses: Arc::new(responses) }
    }
}
