//! The partitions whose metadata is lost while their shard is served, for operators.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::CoordinatorError;
use crate::log::ids::TopicPartition;
use crate::metrics::Metrics;

/// The least time between two log messages.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The time after which a partition that is not used any more, because its topic was deleted, does not count.
const RETENTION: Duration = Duration::from_secs(300);
/// The number of partitions that are told apart; more are logged, and not counted.
const PARTITIONS_MAX: usize = 10_000;

/// The partitions of which the last call reported lost metadata, in the last five minutes.
#[derive(Debug, Default)]
pub(super) struct LostPartitions(Mutex<LostState>);

#[derive(Debug, Default)]
struct LostState {
    /// When the last call failed.
    partitions: BTreeMap<TopicPartition, Instant>,
    logged_at: Option<Instant>,
}

impl LostPartitions {
    /// Records the results of one call, one for each partition.
    pub(super) fn note<'a>(
        &self,
        metrics: &Metrics,
        results: impl Iterator<Item = (TopicPartition, Option<&'a CoordinatorError>)>,
    ) {
        let mut state = self.0.lock();
        let (before, now) = (state.partitions.len(), Instant::now());
        let mut detail = None;
        for (partition, error) in results {
            match error {
                Some(CoordinatorError::MetadataLost(lost)) => {
                    detail = Some((partition, lost));
                    if before < PARTITIONS_MAX {
                        state.partitions.insert(partition, now);
                    }
                }
                // Unavailable metadata is neither lost nor complete.
                Some(_) => {}
                None => {
                    state.partitions.remove(&partition);
                }
            }
        }
        state.partitions.retain(|_, at| now - *at < RETENTION);
        let count = state.partitions.len();
        metrics.coordinator.lost_partitions.set(i64::try_from(count).unwrap_or(i64::MAX));
        if let Some((partition, detail)) = detail
            && state.logged_at.is_none_or(|at| now - at >= LOG_INTERVAL)
        {
            state.logged_at = Some(now);
            tracing::error!(
                %partition,
                detail,
                count,
                "partitions lack metadata and are not served: restore the Redis that has it, or \
                 delete their topics"
            );
        }
        if before > 0 && count == 0 {
            state.logged_at = None;
            tracing::info!("no partition that is in use lacks metadata any longer");
        }
    }
}
