//! The metadata as a checkpoint stores it.

use std::collections::BTreeMap;

use super::MetadataState;
use crate::coordinator::TopicType;
use crate::log::batch::Run;
use crate::log::checkpoint::{CheckpointState, CheckpointTopic, PartitionRuns};
use crate::log::ids::TopicPartition;
use crate::log::partition_log::PartitionLog;

impl MetadataState {
    /// Returns the state, without the zones' numbers of nodes.
    pub(in crate::coordinator) fn checkpoint(&self) -> CheckpointState {
        let topics = self.bindings.values().map(|binding| CheckpointTopic {
            topic: binding.topic,
            name: binding.name.clone(),
            topic_type: match binding.topic_type {
                TopicType::Classic => b'c',
                TopicType::Diskless => b'd',
                TopicType::Migrating => b'm',
            },
        });
        CheckpointState {
            cluster_id: self.cluster_id.clone(),
            zones: self.zones.iter().map(|zone| (zone.clone(), 0)).collect(),
            topics: topics.collect(),
            deleted: self.deleted.iter().copied().collect(),
            partitions: self.partitions.iter().map(|(p, log)| log.checkpoint(*p)).collect(),
        }
    }

    /// Returns the runs from these offsets on; of a partition that is not named, all.
    pub(in crate::coordinator) fn runs_from(
        &self,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Vec<PartitionRuns> {
        let of = |(partition, log): (&TopicPartition, &PartitionLog)| {
            let from = offsets.get(partition).copied().unwrap_or(i64::MIN);
            let runs: Vec<Run> = log.runs_from(from).copied().collect();
            (!runs.is_empty()).then_some(PartitionRuns { partition: *partition, runs })
        };
        self.partitions.iter().filter_map(of).collect()
    }

    /// Restores the partitions of a checkpoint. Returns the first whose runs have a gap.
    pub(in crate::coordinator) fn restore_partitions(
        &mut self,
        state: CheckpointState,
        mut runs: BTreeMap<TopicPartition, Vec<Run>>,
    ) -> Result<(), TopicPartition> {
        for counters in state.partitions {
            let partition = counters.partition;
            let runs = runs.remove(&partition).unwrap_or_default();
            let log = PartitionLog::restore(counters, runs).ok_or(partition)?;
            self.partitions.insert(partition, log);
        }
        Ok(())
    }
}
