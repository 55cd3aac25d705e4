//! A partition log as a checkpoint stores it.

use std::collections::BTreeMap;

use super::PartitionLog;
use crate::log::batch::Run;
use crate::log::checkpoint::CheckpointPartition;
use crate::log::ids::TopicPartition;
use crate::log::producer_state::Producers;

impl PartitionLog {
    /// Returns the counters and the producers.
    pub fn checkpoint(&self, partition: TopicPartition) -> CheckpointPartition {
        CheckpointPartition {
            partition,
            log_start_offset: self.log_start_offset,
            high_watermark: self.high_watermark,
            clock_ms: self.producers.clock_ms(),
            producers: self
                .producers
                .iter(i64::MIN)
                .map(|(id, entry)| (id, entry.clone()))
                .collect(),
        }
    }

    /// Returns the runs whose base offset is at least `offset`, in offset order.
    pub fn runs_from(&self, offset: i64) -> impl Iterator<Item = &Run> {
        self.index.range(offset..).map(|(_, run)| run)
    }

    /// Restores a log from its counters and from runs, of which those below the log start offset
    /// are dropped. Returns `None` if the runs do not reach from the log start offset to the high
    /// watermark without a gap.
    pub fn restore(
        counters: CheckpointPartition,
        runs: impl IntoIterator<Item = Run>,
    ) -> Option<Self> {
        let start = counters.log_start_offset;
        let index: BTreeMap<i64, Run> = runs
            .into_iter()
            .filter(|run| run.end_offset() > start)
            .map(|run| (run.base_offset, run))
            .collect();
        let first = index.first_key_value().map_or(counters.high_watermark, |(base, _)| *base);
        let mut end = first;
        for run in index.values() {
            if run.base_offset != end {
                return None;
            }
            end = run.end_offset();
        }
        if first > start || end != counters.high_watermark {
            return None;
        }
        Some(Self {
            log_start_offset: start,
            high_watermark: counters.high_watermark,
            bytes: index.values().map(|run| run.bytes).sum(),
            index,
            producers: Producers::restore(counters.clock_ms, counters.producers),
        })
    }
}
