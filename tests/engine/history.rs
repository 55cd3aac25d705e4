//! A synthetic history: objects that are made when they are read, and readers of it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use odradek::clock::ManualClock;
use odradek::coordinator::memory::MemoryCoordinator;
use odradek::coordinator::{Commit, Coordinator};
use odradek::engine::Components;
use odradek::engine::cache::{ObjectCache, ObjectSource};
use odradek::engine::fetch::{FetchSpec, FetchedPartition, Fetcher, PartitionFetch};
use odradek::engine::memory::{ConnectionQuota, MemoryLimiter};
use odradek::engine::produce::FlushProfile;
use odradek::entropy::Entropy;
use odradek::log::batch::{BatchMetadata, Part};
use odradek::log::ids::ObjectId;
use odradek::log::object_format::{Footer, HEADER, encode_footer};
use odradek::store::StoreError;
use odradek::store::memory::MemoryStore;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::batches::{Batch, NOW, partition};

/// The shape of a history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) objects: u32,
    /// Size of the only batch of a part, in bytes.
    pub(crate) part_bytes: usize,
    /// Partitions that are in the index.
    pub(crate) partitions: i32,
    /// Partitions with a part in an object.
    pub(crate) parts: fn(sequence: u32) -> Vec<i32>,
}

/// Makes the objects of a [`Shape`], counts GETs, and counts the bytes that are alive.
#[derive(Debug)]
pub(crate) struct HistoryStore {
    shape: Shape,
    /// The batch of every part.
    batch: Bytes,
    metadata: BatchMetadata,
    latency: Duration,
    bytes_per_second: u64,
    gets: Mutex<HashMap<ObjectId, u32>>,
    sent: AtomicI64,
    live: Arc<AtomicI64>,
    most_live: Arc<AtomicI64>,
}

/// A buffer that is counted while it is alive.
struct Counted(Vec<u8>, Arc<AtomicI64>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len() as i64, Ordering::SeqCst);
    }
}

pub(crate) fn object(sequence: u32) -> ObjectId {
    ObjectId { incarnation: 9, process_id: 9, sequence }
}

impl HistoryStore {
    fn parts(&self, sequence: u32) -> Vec<Part> {
        let partitions = (self.shape.parts)(sequence);
        let parts = (0_u32..).zip(partitions).map(|(index, to)| {
            let start = HEADER.len() as u64 + u64::from(index) * self.batch.len() as u64;
            Part { index, partition: partition(to), start, batches: vec![self.metadata] }
        });
        parts.collect()
    }

    fn make(&self, object: ObjectId) -> Vec<u8> {
        let parts = self.parts(object.sequence);
        let mut whole = BytesMut::with_capacity(parts.len() * (self.batch.len() + 64) + 1_000);
        whole.put_slice(&HEADER);
        parts.iter().for_each(|_| whole.put_slice(&self.batch));
        whole.put_slice(&encode_footer(&Footer::wal(object, "r", NOW, parts)));
        whole.into()
    }

    /// Returns bytes that are counted while they are alive, as those of objects that are read.
    pub(crate) fn counted(&self, bytes: Vec<u8>) -> Bytes {
        let length = bytes.len() as i64;
        let live = self.live.fetch_add(length, Ordering::SeqCst) + length;
        self.most_live.fetch_max(live, Ordering::SeqCst);
        Bytes::from_owner(Counted(bytes, Arc::clone(&self.live)))
    }

    pub(crate) fn objects(&self) -> u32 {
        self.shape.objects
    }

    pub(crate) fn gets(&self) -> u32 {
        self.gets.lock().values().sum()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst) as u64
    }

    /// The most bytes of objects that were alive at once.
    pub(crate) fn most_live(&self) -> u64 {
        self.most_live.load(Ordering::SeqCst) as u64
    }
}

#[async_trait]
impl ObjectSource for HistoryStore {
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        *self.gets.lock().entry(object).or_default() += 1;
        sleep(self.latency).await;
        let whole = self.make(object);
        let end = range.end.min(whole.len() as u64);
        let bytes = whole[range.start as usize..end as usize].to_vec();
        sleep(Duration::from_secs_f64(bytes.len() as f64 / self.bytes_per_second as f64)).await;
        self.sent.fetch_add(bytes.len() as i64, Ordering::SeqCst);
        Ok(self.counted(bytes))
    }
}

/// The read path of a cold replica above a history.
pub(crate) struct ColdReplica {
    pub(crate) store: Arc<HistoryStore>,
    pub(crate) cache: Arc<ObjectCache>,
    /// End offsets.
    ends: HashMap<i32, i64>,
    fetcher: Fetcher,
    responses: Arc<MemoryLimiter>,
}

impl ColdReplica {
    pub(crate) async fn new(shape: Shape, cache_bytes: u64, response_bytes: usize) -> Self {
        Self::with(shape, cache_bytes, response_bytes, |cache, _| cache).await
    }

    /// Creates a replica that serves peers, too.
    pub(crate) async fn serving(shape: Shape, cache_bytes: u64, response_bytes: usize) -> Self {
        Self::with(shape, cache_bytes, response_bytes, ObjectCache::with_peer_source).await
    }

    async fn with(
        shape: Shape,
        cache_bytes: u64,
        response_bytes: usize,
        with_peers: fn(ObjectCache, Arc<dyn ObjectSource>) -> ObjectCache,
    ) -> Self {
        let value = "x".repeat(shape.part_bytes - 80);
        let made = Batch::of(&[&value]).to(0, FlushProfile::Fast);
        let store = Arc::new(HistoryStore {
            shape,
            batch: made.batch,
            metadata: made.metadata,
            latency: Duration::from_millis(20),
            bytes_per_second: 1 << 30,
            gets: Mutex::default(),
            sent: AtomicI64::default(),
            live: Arc::default(),
            most_live: Arc::default(),
        });
        let coordinator = Arc::new(MemoryCoordinator::new("model"));
        let mut ends = HashMap::new();
        for sequence in 0..shape.objects {
            let mut parts = store.parts(sequence);
            parts.retain(|part| part.partition.partition < shape.partitions);
            parts.iter().for_each(|part| *ends.entry(part.partition.partition).or_default() += 1);
            let object = object(sequence);
            let commit = Commit { object, sealed_ms: NOW, lowest_undecided: 0, parts };
            let committed = coordinator.commit(&commit).await;
            assert!(committed.iter().all(Result::is_ok));
        }
        let unused = Arc::new(MemoryStore::default());
        let components = Components {
            store: Arc::clone(&unused) as _,
            uploads: unused,
            coordinator,
            clock: Arc::new(ManualClock::new(NOW)),
            entropy: Arc::new(Entropy::from_seed(11)),
        };
        let objects = ObjectCache::new(Arc::clone(&store) as _, cache_bytes);
        let cache = Arc::new(with_peers(objects, Arc::clone(&store) as _));
        let fetcher = Fetcher::new(components, Arc::clone(&cache), Arc::default());
        let responses = MemoryLimiter::new(response_bytes, Arc::default());
        Self { store, cache, ends, fetcher, responses }
    }

    pub(crate) fn quota(&self) -> ConnectionQuota {
        self.responses.quota(usize::MAX)
    }
}

/// A consumer's connection: fetches its partitions in turn, and takes time to process them.
pub(crate) struct Consumer {
    quota: ConnectionQuota,
    /// Partition and next offset; those that had no records are requested first.
    positions: Vec<(i32, i64)>,
    started: Vec<(i32, i64)>,
    pub(crate) partition_bytes: usize,
    pub(crate) response_bytes: usize,
    pub(crate) bytes_per_second: u64,
}

impl Consumer {
    pub(crate) fn new(replica: &ColdReplica, partitions: impl Iterator<Item = i32>) -> Self {
        let positions: Vec<_> = partitions.map(|partition| (partition, 0)).collect();
        Self {
            quota: replica.quota(),
            started: positions.clone(),
            positions,
            partition_bytes: 2 << 20,
            response_bytes: 12 << 20,
            bytes_per_second: 1 << 30,
        }
    }

    /// Starts each partition this many offsets behind the one before it.
    pub(crate) fn spread(&mut self, offsets: i64) {
        for (index, at) in &mut self.positions {
            *at = i64::from(*index) * offsets;
        }
        self.started = self.positions.clone();
    }

    /// Starts all partitions at this offset.
    pub(crate) fn start_at(&mut self, offset: i64) {
        self.positions.iter_mut().for_each(|(_, at)| *at = offset);
    }

    /// Returns the first and the next offset of each partition.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = (i64, i64)> {
        let started = |(index, offset): &(i32, i64)| {
            let started = self.started.iter().find(|(of, _)| of == index).expect("its partitions");
            (started.1, *offset)
        };
        self.positions.iter().map(started)
    }

    fn spec(&self) -> FetchSpec {
        let partitions = self.positions.iter().map(|(index, offset)| PartitionFetch {
            partition: partition(*index),
            offset: *offset,
            bytes_max: self.partition_bytes,
            leader_epoch: 0,
            fresh: false,
        });
        let (bytes_min, bytes_max) = (1, self.response_bytes);
        FetchSpec { partitions: partitions.collect(), bytes_min, bytes_max, wait: Duration::ZERO }
    }

    /// Makes one fetch, and holds the response while it is processed; returns the bytes of its
    /// records.
    pub(crate) async fn poll(&mut self, replica: &ColdReplica) -> u64 {
        let fetched = replica.fetcher.fetch(&self.spec(), &self.quota).await;
        let mut bytes = 0;
        let rows = std::mem::take(&mut self.positions).into_iter().zip(&fetched.partitions);
        let (mut empty, mut served) = (Vec::new(), Vec::new());
        for ((index, offset), result) in rows {
            let FetchedPartition { error, records, .. } = result;
            assert_eq!(*error, None);
            bytes += records.iter().map(|slice| slice.len() as u64).sum::<u64>();
            // Each batch is two slices and has one record.
            let next = (index, offset + records.len() as i64 / 2);
            match records.is_empty() {
                true => empty.push(next),
                false => served.push(next),
            }
        }
        self.positions = empty.into_iter().chain(served).collect();
        // The response is held while it is sent and processed.
        sleep(Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)).await;
        bytes
    }

    /// Reads to the end; returns the bytes of its records.
    pub(crate) async fn replay(mut self, replica: &ColdReplica) -> u64 {
        let mut total = 0;
        while self.positions.iter().any(|(index, offset)| *offset < replica.ends[index]) {
            total += self.poll(replica).await;
        }
        total
    }
}
