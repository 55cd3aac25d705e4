//! How large topics are, and how far the tail index lags behind the coordinator: asked for while
//! somebody looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::log::ids::{TopicId, TopicPartition};
use crate::proxy::Proxy;
use crate::tasks;

/// Between two looks.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// Partitions of one question to the coordinator.
const PER_QUESTION: usize = 256;

/// One topic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Size {
    /// Bytes of its records in the index.
    pub(super) bytes: u64,
    /// Records that the coordinator has and the tail index of this replica has not, in the
    /// partitions that it follows.
    pub(super) lag_records: Option<u64>,
}

/// All topics, as they were last seen.
#[derive(Debug, Default)]
pub(super) struct Sizes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    known: HashMap<TopicId, Size>,
}

impl Sizes {
    /// What is known of a topic.
    pub(super) fn known(&self) -> HashMap<TopicId, Size> {
        self.lock().known.clone()
    }

    /// Begins to look again, unless what is known is fresh.
    pub(super) fn refresh(self: &Arc<Self>, proxy: &Arc<Proxy>) {
        let mut state = self.lock();
        if state.looked.is_some_and(|looked| looked.elapsed() < FRESH_FOR) {
            return;
        }
        state.looked = Some(Instant::now());
        let (sizes, proxy) = (Arc::clone(self), Arc::clone(proxy));
        tasks::spawn("sizes", async move {
            let known = look(&proxy).await;
            sizes.lock().known = known;
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

async fn look(proxy: &Proxy) -> HashMap<TopicId, Size> {
    let partitions: Vec<TopicPartition> = proxy
        .topics
        .diskless()
        .iter()
        .flat_map(|topic| {
            let count = i32::try_from(topic.leader_epochs.len()).unwrap_or(0);
            let topic = topic.id;
            (0..count).map(move |partition| TopicPartition { topic, partition })
        })
        .collect();
    let mut sizes: HashMap<TopicId, Size> = HashMap::new();
    for asked in partitions.chunks(PER_QUESTION) {
        // The page shows no size of what could not be asked for.
        let Ok(found) = proxy.lookup.watermarks(asked).await else { continue };
        for (partition, watermarks) in asked.iter().zip(found) {
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
