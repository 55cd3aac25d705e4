//! Metrics of the produce path.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::sealed::SealedObject;
use crate::log::ids::TopicId;
use crate::metrics::{Metrics, ProduceStage};

/// Records the size of a sealed object and each topic's share of it.
pub(super) fn record_sealed(metrics: &Metrics, object: &SealedObject) {
    let mut topics: BTreeMap<TopicId, (u64, u64)> = BTreeMap::new();
    for sealed in object.parts() {
        let (bytes, batches) = topics.entry(sealed.part.partition.topic).or_default();
        *bytes += sealed.part.batches.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>();
        *batches += sealed.part.batches.len() as u64;
    }
    let total_bytes: u64 = topics.values().map(|(bytes, _)| bytes).sum();
    let total_batches: u64 = topics.values().map(|(_, batches)| batches).sum();
    for (topic, (bytes, batches)) in &topics {
        metrics.topics.get(*topic).record_written(*bytes, *batches, total_bytes);
    }
    metrics.produce.object_size.observe(object.bytes.len() as f64);
    metrics.produce.object_batches.observe(total_batches as f64);
    metrics.produce.object_partitions.observe(object.parts().count() as f64);
}

/// Records the duration of each stage of an append that has completed. An append whose object is
/// not durable was aborted and has no stages.
pub(super) fn record_completed(
    metrics: &Metrics,
    received: Instant,
    sealed: Instant,
    durable: Option<Instant>,
) {
    let Some(durable) = durable else { return };
    let stages = [
        (ProduceStage::buffer, sealed - received),
        (ProduceStage::upload, durable - sealed),
        (ProduceStage::commit, durable.elapsed()),
    ];
    for (stage, elapsed) in stages {
        metrics.produce.stage(stage).observe(elapsed);
    }
}
