//! What handlers remember of a connection between its requests.

use std::sync::Arc;

use super::fetch_partitions::FetchedPartitions;
use crate::engine::memory::ConnectionQuota;
use crate::proxy::context::Proxy;

/// What is remembered of a connection between its requests.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// [`TopicRegistry::migrations`] when the connection's fetch sessions were last checked whole.
    pub(super) migrations: u64,
    /// Partitions that the client fetched from this replica on this connection.
    pub(super) fetched: Arc<FetchedPartitions>,
    /// The connection's share of the memory for answers to fetches.
    pub(super) responses: Arc<ConnectionQuota>,
}

impl ConnectionState {
    pub(crate) fn new(proxy: &Proxy) -> Self {
        let responses = proxy.fetch_memory.quota(proxy.settings.response_bytes_max);
        let migrations = proxy.topics.registry.migrations();
        Self { migrations, fetched: Arc::default(), responses: Arc::new(responses) }
    }
}
