use crate::coordinator::CoordinatorExt as _;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::clock::ManualClock;
use crate::coordinator::conformance::{Harness, check_cases, check_random};
use crate::coordinator::memory::MemoryCoordinator;
use crate::coordinator::{BindRule, CommitOutcome, FindFrom, TopicType};
use crate::log::batch::{BatchMetadata, Part, ProducerSequence};
use crate::log::object_format::{Footer, HEADER, encode_footer, wal_key};
use crate::store::{Certainty, ObjectMeta, PutMode, StoreError, StoreErrorKind};

mod checkpoints;
mod many_objects;
mod takeover;

/// A minimal store, which counts the rows of its listings and its reads of objects.
#[derive(Debug, Default)]
struct TestStore(Mutex<BTreeMap<String, Bytes>>, AtomicUsize);

impl TestStore {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock()
    }

    /// Returns the work since the last call: rows listed and objects read.
    fn take_work(&self) -> usize {
        self.1.swap(0, Ordering::Relaxed)
    }
}

fn failed(kind: StoreErrorKind, operation: &'static str, key: &str) -> StoreError {
    let (certainty, detail) = (Certainty::Determinate, String::new());
    StoreError { kind, certainty, operation, key: key.to_owned(), detail }
}

#[async_trait]
impl Store for TestStore {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        let mut objects = self.objects();
        if mode == PutMode::Create && objects.contains_key(key) {
            return Err(failed(StoreErrorKind::AlreadyExists, "put", key));
        }
        objects.insert(key.to_owned(), body.concat().into());
        Ok(())
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let missing = || failed(StoreErrorKind::NotFound, "get", key);
        let whole = self.objects().get(key).cloned().ok_or_else(missing)?;
        let Some(range) = range else { return Ok(whole) };
        let (start, end) =
            (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        if start >= whole.len() {
            return Err(failed(StoreErrorKind::InvalidRange, "get", key));
        }
        Ok(whole.slice(start..end.min(whole.len())))
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        Ok(self.get(key, None).await?.len() as u64)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let objects = self.objects();
        let rows = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        let rows = rows.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let meta = |(key, body): (&String, &Bytes)| ObjectMeta {
            key: key.clone(),
            size: body.len() as u64,
        };
        let rows: Vec<_> = rows.take(limit).map(meta).collect();
        self.1.fetch_add(rows.len(), Ordering::Relaxed);
        Ok(rows)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects().remove(key);
        Ok(())
    }
}

async fn open(store: &Arc<TestStore>) -> Result<EmbeddedCoordinator, CoordinatorError> {
    let (clock, entropy) = (ManualClock::new(1_000), Entropy::from_seed(7));
    EmbeddedCoordinator::open(&clock, &entropy, Arc::<TestStore>::clone(store)).await
}

async fn put_object(store: &TestStore, commit: &Commit) {
    let footer = Footer::wal(commit.object, "test", commit.sealed_ms, commit.parts.clone());
    let data: u32 = commit.parts.iter().flat_map(|p| &p.batches).map(|b| b.bytes).sum();
    let data = Bytes::from(vec![0; data as usize]);
    let body = vec![Bytes::from_static(&HEADER), data, encode_footer(&footer)];
    store.put(&wal_key(commit.object), body, PutMode::Create).await.unwrap();
}

struct EmbeddedHarness {
    store: Arc<TestStore>,
    subject: Arc<EmbeddedCoordinator>,
    next: u32,
}

impl EmbeddedHarness {
    async fn new() -> Self {
        let store = Arc::new(TestStore::default());
        let subject = Arc::new(open(&store).await.unwrap());
        Self { store, subject, next: 0 }
    }
}

#[async_trait]
impl Harness for EmbeddedHarness {
    fn subject(&self) -> Arc<dyn Coordinator> {
        Arc::<EmbeddedCoordinator>::clone(&self.subject)
    }

    fn next_object(&mut self) -> ObjectId {
        let sequence = self.next;
        self.next += 1;
        let (incarnation, process_id) = (self.subject.incarnation(), self.subject.process_id());
        ObjectId { incarnation, process_id, sequence }
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        None
    }

    async fn put(&mut self, commit: &Commit) {
        put_object(&self.store, commit).await;
    }

    async fn restart(&mut self) -> bool {
        self.subject = Arc::new(open(&self.store).await.unwrap());
        self.next = 0;
        true
    }
}

#[tokio::test]
async fn passes_the_conformance_cases() {
    check_cases(&mut EmbeddedHarness::new().await).await;
}

#[tokio::test]
async fn equals_the_model_across_restarts() {
    for seed in 0..10 {
        check_random(&mut EmbeddedHarness::new().await, seed, 800).await;
    }
}

fn topic_partition() -> TopicPartition {
    TopicPartition { topic: TopicId([1; 16]), partition: 0 }
}

/// Returns an object with one batch of two records, the producer's batch number `position`.
fn object(coordinator: &EmbeddedCoordinator, sequence: u32, position: i32) -> Commit {
    let producer = Some(ProducerSequence { id: 1, epoch: 0, base_sequence: 2 * position });
    let batch = BatchMetadata { bytes: 50, offset_count: 2, max_timestamp: 9, producer };
    let part = Part { index: 0, partition: topic_partition(), start: 8, batches: vec![batch] };
    let (incarnation, process_id) = (coordinator.incarnation(), coordinator.process_id());
    let object = ObjectId { incarnation, process_id, sequence };
    Commit { object, sealed_ms: 5_000, lowest_undecided: 0, parts: vec![part] }
}

async fn high_watermark(coordinator: &EmbeddedCoordinator) -> i64 {
    let from = FindFrom::Offset(0);
    let request =
        FindRequest { partition: topic_partition(), from, bytes_max: u64::MAX, runs_max: u32::MAX };
    coordinator.find_all(vec![request]).await.unwrap()[0].watermarks.high_watermark
}

#[tokio::test]
async fn objects_written_after_a_restart_are_never_replayed() {
    const OBJECTS: u32 = 5;
    for written in 0..=OBJECTS {
        let store = Arc::new(TestStore::default());
        let first = open(&store).await.unwrap();
        let objects: Vec<_> = (0..OBJECTS).map(|n| object(&first, n, n.cast_signed())).collect();
        for commit in &objects[..written as usize] {
            put_object(&store, commit).await;
        }
        // An object after a gap is not part of the log either.
        if written + 1 < OBJECTS {
            put_object(&store, &objects[written as usize + 1]).await;
        }
        let second = open(&store).await.unwrap();
        assert!(second.incarnation() > first.incarnation());
        assert_eq!(high_watermark(&second).await, i64::from(written) * 2);
        for (n, commit) in objects.iter().enumerate().skip(written as usize) {
            let is_written = n == written as usize + 1 && written + 1 < OBJECTS;
            if n > written as usize && !is_written {
                put_object(&store, commit).await;
            }
        }
        let next = object(&second, 0, written.cast_signed());
        put_object(&store, &next).await;
        let outcome = second.commit_all(&next).await.unwrap()[0].batches[0];
        assert_eq!(outcome, CommitOutcome::Committed { base_offset: i64::from(written) * 2 });
        for _ in 0..2 {
            let later = open(&store).await.unwrap();
            assert_eq!(high_watermark(&later).await, i64::from(written) * 2 + 2);
        }
    }
}

#[tokio::test]
async fn objects_must_be_committed_whole_and_in_order() {
    let store = Arc::new(TestStore::default());
    let coordinator = open(&store).await.unwrap();
    let refused = |result: Result<_, CoordinatorError>| {
        assert!(matches!(result, Err(CoordinatorError::Unavailable(_))), "{result:?}");
    };
    refused(coordinator.commit_all(&object(&coordinator, 1, 0)).await);
    let mut part = object(&coordinator, 0, 0);
    part.parts[0].index = 1;
    refused(coordinator.commit_all(&part).await);
    let mut of_other_process = object(&coordinator, 0, 0);
    of_other_process.object.process_id ^= 1;
    refused(coordinator.commit_all(&of_other_process).await);
    coordinator.commit_all(&object(&coordinator, 0, 0)).await.unwrap();
    refused(coordinator.commit_all(&object(&coordinator, 2, 1)).await);
    coordinator.commit_all(&object(&coordinator, 1, 1)).await.unwrap();
    assert_eq!(high_watermark(&coordinator).await, 4);
}

#[tokio::test]
async fn damaged_objects_are_named_and_offsets_never_restart() {
    let store = Arc::new(TestStore::default());
    let coordinator = open(&store).await.unwrap();
    for sequence in 0..3 {
        put_object(&store, &object(&coordinator, sequence, sequence.cast_signed())).await;
    }
    open(&store).await.unwrap();
    let whole = store.objects().clone();
    let key = wal_key(object(&coordinator, 1, 1).object);
    let lost = |result: Result<_, CoordinatorError>, what: &str| match result {
        Err(CoordinatorError::MetadataLost(detail)) => assert!(detail.contains(what), "{detail}"),
        other => panic!("{other:?}"),
    };
    store.objects().remove(&key);
    lost(open(&store).await, &key);
    *store.objects() = whole.clone();
    store.objects().retain(|key, _| !key.starts_with("embedded/"));
    lost(open(&store).await, "embedded/ is gone");
    for damage in [0, 10] {
        *store.objects() = whole.clone();
        let body = store.objects()[&key].slice(..damage);
        store.objects().insert(key.clone(), body);
        match open(&store).await {
            Err(CoordinatorError::Corrupt(detail)) => assert!(detail.contains(&key), "{detail}"),
            other => panic!("{other:?}"),
        }
    }
    *store.objects() = whole.clone();
    let other = store.objects()[&wal_key(object(&coordinator, 0, 0).object)].clone();
    store.objects().insert(key.clone(), other);
    assert!(matches!(open(&store).await, Err(CoordinatorError::Corrupt(_))), "a copy of another");
}

#[tokio::test]
async fn bindings_zones_and_metadata_id_survive_a_restart() {
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    let attached = first.attach("cluster", "zone-a").await.unwrap();
    first.attach("cluster", "zone-b").await.unwrap();
    let binding = TopicBinding {
        topic: TopicId([3; 16]),
        name: "clicks".to_owned(),
        topic_type: TopicType::Diskless,
    };
    let registration = Registration { binding: binding.clone(), rule: BindRule::FirstWins };
    first.register(vec![registration]).await.unwrap();
    let second = open(&store).await.unwrap();
    assert_eq!(second.topics().await.unwrap(), [binding]);
    let again = second.attach("cluster", "zone-b").await.unwrap();
    assert_eq!((again.zone_index, &again.metadata_id), (1, &attached.metadata_id));
    let other = second.attach("other", "zone-b").await;
    assert!(matches!(other, Err(CoordinatorError::OtherCluster { .. })));
}

#[tokio::test]
async fn number_of_nodes_of_a_zone_survives_restarts() {
    let store = Arc::new(TestStore::default());
    let member = |nodes| Member {
        replica: "only".to_owned(),
        incarnation: 1,
        process_id: 1,
        zone: 0,
        zone_name: "zone-a".to_owned(),
        peer: None,
        advertised_host: "h".to_owned(),
        node_ports: 9300,
        broker_ports: 9100,
        nodes,
        version: String::new(),
        settings: 3,
    };
    for (requested, expected) in [(4, 4), (7, 7), (3, 7), (1, 7)] {
        let coordinator = open(&store).await.unwrap();
        coordinator.attach("cluster", "zone-a").await.unwrap();
        let ttl = Duration::from_secs(6);
        let membership = coordinator.renew(&member(requested), ttl).await.unwrap();
        assert_eq!(membership.zones[0].nodes, expected, "requested {requested}");
        assert_eq!(membership.zones[0].last, Some(member(requested)));
    }
}

#[tokio::test]
async fn thousands_of_objects_are_replayed() {
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    let model = MemoryCoordinator::new("model");
    for sequence in 0..3_000 {
        let commit = object(&first, sequence, sequence.cast_signed());
        put_object(&store, &commit).await;
        model.commit_all(&commit).await.unwrap();
    }
    let second = open(&store).await.unwrap();
    assert_eq!(high_watermark(&second).await, 6_000);
    let producers =
        (second.producers(topic_partition()).await, model.producers(topic_partition()).await);
    assert_eq!(producers.0.unwrap(), producers.1.unwrap());
}
