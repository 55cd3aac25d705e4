//! What the pipeline tells of itself.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::buffer::SealedObject;
use crate::log::ids::TopicId;
use crate::metrics::{Metrics, ProduceStage};

/// An object was sealed: how large it is, and which topics have how much of it.
pub(super) fn sealed(metrics: &Metrics, object: &SealedObject) {
    let mut topics: BTreeMap<TopicId, (u64, u64)> = BTreeMap::new();
    for sealed in &object.parts {
        let (bytes, batches) = topics.entry(sealed.part.partition.topic).or_default();
        *bytes += sealed.part.batches.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>();
        *batches += sealed.part.batches.len() as u64;
    }
    let all: u64 = topics.values().map(|(bytes, _)| bytes).sum();
    let batches: u64 = topics.values().map(|(_, batches)| batches).sum();
    for (topic, (bytes, batches)) in &topics {
        metrics.topics.get(*topic).record_written(*bytes, *batches, all);
    }
    metrics.produce.object_size.observe(object.bytes.len() as f64);
    metrics.produce.object_batches.observe(batches as f64);
    metrics.produce.object_partitions.observe(object.parts.len() as f64);
}

/// A request was answered now; one whose object is not durable was refused, and went no way whose
/// stages could be told.
pub(super) fn answered(
    metrics: &Metrics,
    taken_in: Instant,
    sealed: Instant,
    durable: Option<Instant>,
) {
    let Some(durable) = durable else { return };
    let stages = [
        (ProduceStage::buffer, sealed - taken_in),
        (ProduceStage::upload, durable - sealed),
        (ProduceStage::commit, durable.elapsed()),
    ];
    for (stage, took) in stages {
        metrics.produce.stage(stage).observe(took);
    }
}
