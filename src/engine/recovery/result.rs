//! The result of a recovery.

use std::collections::BTreeMap;

use futures::future::join_all;

use crate::coordinator::{Coordinator, FindFrom, FindRequest};
use crate::log::ids::TopicPartition;

/// The result of a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of objects.
    pub objects: usize,
    /// The number of parts that the coordinator knows now.
    pub parts: usize,
    /// The number of parts below the fence of the process: they were decided long ago.
    pub fenced: usize,
    /// The number of parts that were answered with an error.
    pub withdrawn: usize,
    /// The number of parts that were acknowledged at other offsets than they have now.
    pub moved: usize,
    /// The shards of the coordinator to which not everything could be committed, and why.
    pub failed: BTreeMap<u16, String>,
    /// The partitions of other shards whose metadata is lost, and why.
    pub lost: BTreeMap<TopicPartition, String>,
}

impl Recovery {
    /// Returns whether everything is committed.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.lost.is_empty()
    }

    /// Returns whether one of the shards and partitions to which not everything could be committed
    /// responds now.
    pub(super) async fn can_continue(&self, coordinator: &dyn Coordinator) -> bool {
        let checks = self.failed.keys().map(|shard| coordinator.check_shard(*shard));
        if join_all(checks).await.iter().any(Result::is_ok) {
            return true;
        }
        let requests = self.lost.keys().map(|partition| probe(*partition)).collect();
        coordinator.find(requests).await.iter().any(Result::is_ok)
    }
}

/// Returns a query whose result tells whether a partition has its metadata.
pub(super) fn probe(partition: TopicPartition) -> FindRequest {
    FindRequest { partition, from: FindFrom::Offset(0), bytes_max: 1, runs_max: 1 }
}
