//! The conformance suite of batch coordinators: hand-written cases, and random command sequences
//! whose results and events must equal those of the reference model.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::Receiver;

use super::memory::MemoryCoordinator;
use super::{Attachment, Commit, Coordinator, CoordinatorEvent, FindFrom, FindRequest};
use crate::clock::ManualClock;
use crate::log::batch::{BatchMetadata, Part, ProducerSequence};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};

mod cases;
mod members;
mod random;

pub use cases::check_cases;
pub use random::check_random;

/// The seal time of the suite's first object, in milliseconds since the Unix epoch.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// The time limit for an event to arrive.
const EVENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A coordinator under test and its environment.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Returns the coordinator; another one after [`Harness::restart`].
    fn subject(&self) -> Arc<dyn Coordinator>;

    /// Returns the id of the next object, different from all earlier ones.
    fn next_object(&mut self) -> ObjectId;

    /// Makes an object durable before it is committed.
    async fn put(&mut self, commit: &Commit);

    /// Returns the coordinator's clock if it bounds seal times.
    fn clock(&self) -> Option<Arc<ManualClock>>;

    /// Drops the coordinator and opens it again; returns `false` if its state is not durable.
    async fn restart(&mut self) -> bool;
}

/// A harness for coordinators that accept objects in any order and read none of their bytes.
#[derive(Debug)]
pub struct PlainHarness {
    subject: Arc<dyn Coordinator>,
    clock: Option<Arc<ManualClock>>,
    next: u32,
}

impl PlainHarness {
    /// Returns a harness for a coordinator without metadata and without a clock.
    pub fn new(subject: Arc<dyn Coordinator>) -> Self {
        Self { subject, clock: None, next: 0 }
    }

    /// Returns a harness for a coordinator without metadata, and its clock.
    pub fn with_clock(subject: Arc<dyn Coordinator>, clock: Arc<ManualClock>) -> Self {
        Self { clock: Some(clock), ..Self::new(subject) }
    }
}

#[async_trait]
impl Harness for PlainHarness {
    fn subject(&self) -> Arc<dyn Coordinator> {
        Arc::clone(&self.subject)
    }

    fn next_object(&mut self) -> ObjectId {
        self.next += 1;
        ObjectId { incarnation: 1 << 40, process_id: 0xabcd, sequence: self.next }
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        self.clock.clone()
    }

    async fn put(&mut self, _commit: &Commit) {}

    async fn restart(&mut self) -> bool {
        false
    }
}

fn partition(topic: u8, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition }
}

fn plain(bytes: u32, offset_count: i32, max_timestamp: i64) -> BatchMetadata {
    BatchMetadata { bytes, offset_count, max_timestamp, producer: None }
}

fn idempotent(id: i64, epoch: i16, base_sequence: i32, offset_count: i32) -> BatchMetadata {
    let producer = Some(ProducerSequence { id, epoch, base_sequence });
    let max_timestamp = EPOCH_MS + i64::from(base_sequence);
    BatchMetadata { bytes: 100, offset_count, max_timestamp, producer }
}

/// Returns a commit of contiguous parts.
fn commit_of(
    object: ObjectId,
    sealed_ms: i64,
    parts: Vec<(TopicPartition, Vec<BatchMetadata>)>,
) -> Commit {
    let mut start = 8;
    let parts = (0..).zip(parts).map(|(index, (partition, batches))| {
        let part = Part { index, partition, start, batches };
        start += part.batches.iter().map(|b| u64::from(b.bytes)).sum::<u64>();
        part
    });
    Commit { object, sealed_ms, lowest_undecided: 0, parts: parts.collect() }
}

fn find_all(partition: TopicPartition) -> FindRequest {
    let from = FindFrom::Offset(0);
    FindRequest { partition, from, bytes_max: u64::MAX, runs_max: u32::MAX }
}

/// Returns the subject of an event: events of one subject are ordered, those of two are not.
fn subject_of(event: &CoordinatorEvent) -> (TopicId, i32) {
    match event {
        CoordinatorEvent::Committed { partition, .. }
        | CoordinatorEvent::Trimmed { partition, .. } => (partition.topic, partition.partition),
        CoordinatorEvent::Bound(binding) => (binding.topic, -1),
        CoordinatorEvent::TopicDeleted(topic) => (*topic, -1),
        CoordinatorEvent::Disconnected(_) | CoordinatorEvent::Gap(_) => (TopicId::ZERO, -2),
    }
}

/// Returns the next `count` events, ordered by subject.
async fn next_events(
    receiver: &mut Receiver<CoordinatorEvent>,
    count: usize,
) -> Vec<CoordinatorEvent> {
    let mut events = Vec::with_capacity(count);
    for _ in 0..count {
        let event = tokio::time::timeout(EVENT_TIMEOUT, receiver.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("{} of {count} events arrived", events.len()));
        events.push(event.expect("the channel of a subscription stays open"));
    }
    events.sort_by_key(subject_of);
    events
}

fn assert_no_event(receiver: &mut Receiver<CoordinatorEvent>) {
    if let Ok(event) = receiver.try_recv() {
        panic!("an event that the model does not have: {event:?}");
    }
}

fn assert_attached(attachment: &Attachment, zone_index: u16, zones: &[&str]) {
    assert_eq!(attachment.zone_index, zone_index);
    assert_eq!(attachment.zones, zones);
    assert!(!attachment.metadata_id.is_empty());
}

/// Returns the model for random command sequences, with the shards and the clock of the subject.
async fn model(harness: &dyn Harness) -> MemoryCoordinator {
    let mut model = MemoryCoordinator::new("model").with_shards_of(harness.subject());
    if let Some(clock) = harness.clock() {
        model = model.with_clock(clock);
    }
    model.attach("cluster", "zone-a").await.expect("the model never fails");
    model
}
