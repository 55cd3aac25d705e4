//! Sizes of topics, and the lag of the tail index behind the coordinator; queried only while the
//! console is open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::log::ids::{TopicId, TopicPartition};
use crate::proxy::Proxy;
use crate::tasks;

/// Maximum age of the cached sizes.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Maximum number of partitions in one request to the coordinator.
const PARTITIONS_PER_REQUEST: usize = 256;

/// The size of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TopicSize {
    /// Bytes of its records in the index.
    pub(super) bytes: u64,
    /// Records that are committed and not yet in the tail index of this replica, in the partitions
    /// that the index contains.
    pub(super) lag_records: Option<u64>,
}

/// Cached sizes of all topics.
#[derive(Debug, Default)]
pub(super) struct TopicSizes(Mutex<TopicSizesState>);

#[derive(Debug, Default)]
struct TopicSizesState {
    refreshed: Option<Instant>,
    cached: HashMap<TopicId, TopicSize>,
}

impl TopicSizes {
    /// Returns the cached sizes.
    pub(super) fn cached(&self) -> HashMap<TopicId, TopicSize> {
        self.lock().cached.clone()
    }

    /// Starts a refresh in the background if the cached sizes are older than [`MAX_AGE`].
    pub(super) fn refresh(self: &Arc<Self>, proxy: &Arc<Proxy>) {
        let mut state = self.lock();
        if state.refreshed.is_some_and(|refreshed| refreshed.elapsed() < MAX_AGE) {
            return;
        }
        state.refreshed = Some(Instant::now());
        let (sizes, proxy) = (Arc::clone(self), Arc::clone(proxy));
        tasks::spawn("sizes", async move {
            let cached = fetch_sizes(&proxy).await;
            sizes.lock().cached = cached;
        });
    }

    fn lock(&self) -> MutexGuard<'_, TopicSizesState> {
        self.0.lock()
    }
}

async fn fetch_sizes(proxy: &Proxy) -> HashMap<TopicId, TopicSize> {
    let partitions: Vec<TopicPartition> = proxy
        .topics
        .registry
        .diskless()
        .iter()
        .flat_map(|topic| {
            let count = i32::try_from(topic.leader_epochs.len()).unwrap_or(0);
            let topic = topic.id;
            (0..count).map(move |partition| TopicPartition { topic, partition })
        })
        .collect();
    let mut sizes: HashMap<TopicId, TopicSize> = HashMap::new();
    for requested in partitions.chunks(PARTITIONS_PER_REQUEST) {
        // The page shows no size for partitions whose request failed.
        let found = proxy.lookup.watermarks(requested).await;
        for (partition, watermarks) in requested.iter().zip(found) {
            let Ok(watermarks) = watermarks else { continue };
            let size = sizes.entry(partition.topic).or_default();
            size.bytes += watermarks.bytes;
            if let Some(end) = proxy.fetcher.cached_high_watermark(*partition) {
                let lag = u64::try_from(watermarks.high_watermark - end).unwrap_or(0);
                *size.lag_records.get_or_insert(0) += lag;
            }
        }
    }
    sizes
}
