//! A Redis with a new replication id is verified against the observed positions of all replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use odradek::coordinator::CoordinatorExt as _;
use odradek::coordinator::redis::RedisCoordinator;
use odradek::coordinator::redis::loss_detection::observed_position::{
    ObservedPositionStore, ObservedPositions,
};
use odradek::coordinator::{CommitOutcome, Coordinator, CoordinatorError, Member};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::cluster::RedisCluster;
use crate::isolation::partitions_of_shards;
use crate::metadata_loss::{assert_lost, one_batch};
use crate::redis_server::RedisServer;
use crate::{RedisSettings, connect, settings};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(700);

type SavedPositions = Arc<Mutex<BTreeMap<String, ObservedPositions>>>;

/// A store of observed positions that outlives the processes of the test.
#[derive(Debug)]
struct SharedPositions {
    replica: String,
    saved: SavedPositions,
}

#[async_trait]
impl ObservedPositionStore for SharedPositions {
    async fn save(&self, positions: &ObservedPositions) -> Result<(), String> {
        self.saved.lock().insert(self.replica.clone(), positions.clone());
        Ok(())
    }

    async fn load_own(&self) -> Result<Option<ObservedPositions>, String> {
        Ok(self.saved.lock().get(&self.replica).cloned())
    }

    async fn load_all(&self) -> Result<Vec<ObservedPositions>, String> {
        Ok(self.saved.lock().values().cloned().collect())
    }
}

/// A cluster of replicas of one Redis, of one shard.
struct Cluster {
    server: RedisServer,
    saved: SavedPositions,
    lease: Duration,
}

impl Cluster {
    fn start(lease: Duration) -> Option<Self> {
        Some(Self { server: RedisServer::start()?, saved: SavedPositions::default(), lease })
    }

    /// Starts a process, which knows only the saved positions.
    fn process(&self, replica: &str) -> Arc<RedisCoordinator> {
        let saved = Arc::clone(&self.saved);
        let store = SharedPositions { replica: replica.to_owned(), saved };
        let position_store = Some(Arc::new(store) as _);
        connect(RedisSettings { position_store, ..self.without_store(replica) })
    }

    fn without_store(&self, replica: &str) -> RedisSettings {
        let (replica, lease) = (replica.to_owned(), self.lease);
        RedisSettings { shards: 1, replica, lease, ..settings(&self.server.url(), "c") }
    }

    /// Starts a process that is attached and a member.
    async fn member(&self, replica: &str) -> Arc<RedisCoordinator> {
        let process = self.process(replica);
        process.attach("cluster", "a").await.expect("a reply");
        process.renew(&member(replica), Duration::from_secs(10)).await.expect("a reply");
        process
    }
}

pub(crate) fn member(replica: &str) -> Member {
    Member {
        replica: replica.to_owned(),
        incarnation: 1,
        process_id: 1,
        zone: 0,
        zone_name: "a".to_owned(),
        peer: None,
        advertised_host: "localhost".to_owned(),
        node_ports: 9300,
        broker_ports: 9400,
        nodes: 1,
        version: "0.0.0".to_owned(),
        settings: 0,
    }
}

async fn commit(of: &RedisCoordinator, sequence: u32) -> Result<i64, CoordinatorError> {
    match of.commit_all(&one_batch(sequence, 0)).await?[0].batches[0] {
        CommitOutcome::Committed { base_offset } => Ok(base_offset),
        other => panic!("{other:?}"),
    }
}

/// Repeats a commit until it succeeds; panics if metadata is lost.
async fn committed(of: &RedisCoordinator, sequence: u32) -> i64 {
    let start = Instant::now();
    loop {
        match commit(of, sequence).await {
            Ok(offset) => return offset,
            Err(CoordinatorError::MetadataLost(detail)) => panic!("lost: {detail}"),
            Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "{error}"),
        }
    }
}

async fn assert_waiting(of: &RedisCoordinator, sequence: u32) {
    let result = commit(of, sequence).await;
    let waits =
        matches!(result, Err(CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_)));
    assert!(waits, "{result:?}");
}

/// Checks until the lost connection is replaced.
async fn checked(of: &RedisCoordinator) -> Result<(), CoordinatorError> {
    let start = Instant::now();
    loop {
        match of.check().await {
            Err(CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_)) => {
                assert!(start.elapsed() < Duration::from_secs(20), "the outcome stayed unknown");
                sleep(Duration::from_millis(20)).await;
            }
            result => return result,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_without_loss_is_verified_once_all_replicas_reported() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    assert_eq!(committed(&a, 0).await, 0);
    let now = cluster.server.snapshot();
    cluster.server.restore(&now);
    // Not before the other one reported, which may have observed more.
    assert_waiting(&a, 1).await;
    assert_waiting(&a, 1).await;
    checked(&b).await.unwrap();
    assert_eq!(committed(&a, 1).await, 1);
    // The registry and the shard at the start; after the restart, a used only the shard.
    assert_eq!((a.verifications(), b.verifications()), (3, 4));
    // Once it is verified, a third replica does not wait for the others.
    assert_eq!(committed(&*cluster.member("c").await, 2).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_replica_verifies_at_once() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    assert_eq!(committed(&a, 0).await, 0);
    let b = cluster.member("b").await;
    // A replica that left is not waited for.
    b.renew(&member("b"), Duration::ZERO).await.unwrap();
    let now = cluster.server.snapshot();
    cluster.server.restore(&now);
    assert_eq!(committed(&a, 1).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_report_is_waited_for_during_one_lease() {
    let Some(mut cluster) = Cluster::start(SHORT) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    assert_eq!(committed(&a, 0).await, 0);
    drop(b);
    let now = cluster.server.snapshot();
    cluster.server.restore(&now);
    let start = Instant::now();
    assert_eq!(committed(&a, 1).await, 1);
    assert!(start.elapsed() >= SHORT, "it did not wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn position_observed_by_one_replica_counts_for_all() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    assert_eq!(committed(&a, 0).await, 0);
    let before = cluster.server.snapshot();
    assert_eq!(committed(&b, 1).await, 1);
    let whole = cluster.server.snapshot();
    cluster.server.restore(&before);
    // This replica did not observe the missing commit, and must not assign its offset again.
    assert_waiting(&a, 2).await;
    assert_lost(checked(&b).await);
    assert_lost(commit(&a, 2).await);
    // The mark applies to processes that observed nothing too.
    assert_lost(connect(cluster.without_store("c")).attach("cluster", "a").await);
    // A Redis with the data is verified without intervention.
    cluster.server.restore(&whole);
    let (first, second) = tokio::join!(committed(&a, 2), committed(&b, 3));
    assert_eq!(first.min(second), 2);
    assert_eq!(first.max(second), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_report_is_checked_after_further_commits() {
    let Some(mut cluster) = Cluster::start(SHORT) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    assert_eq!(committed(&a, 0).await, 0);
    let before = cluster.server.snapshot();
    assert_eq!(committed(&b, 1).await, 1);
    cluster.server.restore(&before);
    // The other replica is silent for longer than a lease, and its positions were not saved.
    for sequence in 2..6 {
        committed(&a, sequence).await;
    }
    assert_lost(checked(&b).await);
    assert_lost(commit(&a, 6).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_snapshot_is_rejected_by_new_processes() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    assert_eq!(committed(&a, 0).await, 0);
    let before = cluster.server.snapshot();
    assert_eq!(committed(&a, 1).await, 1);
    a.save_observed_positions(true).await.unwrap();
    let whole = cluster.server.snapshot();
    drop(a);
    cluster.server.restore(&before);
    assert_lost(cluster.process("a").attach("cluster", "a").await);
    assert_lost(cluster.process("b").attach("cluster", "a").await);
    cluster.server.restore(&whole);
    let b = cluster.process("b");
    b.attach("cluster", "a").await.unwrap_err();
    // The stopped replica was a member, and is waited for until it is back.
    let a = cluster.process("a");
    a.attach("cluster", "a").await.unwrap();
    b.attach("cluster", "a").await.unwrap();
    assert_eq!(committed(&b, 2).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_saved_when_they_change_but_not_too_often() {
    let Some(cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    let saved = || cluster.saved.lock().get("a").map(|saved| saved.positions.clone());
    committed(&a, 0).await;
    a.save_observed_positions(false).await.unwrap();
    let first = saved().unwrap();
    assert_eq!(first[1].as_ref().unwrap().sequence, 1);
    committed(&a, 1).await;
    a.save_observed_positions(false).await.unwrap();
    assert_eq!(saved().unwrap(), first, "saved again too soon");
    a.save_observed_positions(true).await.unwrap();
    assert_eq!(saved().unwrap()[1].as_ref().unwrap().sequence, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_count_as_observed() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    let mut events = a.subscribe().await.unwrap();
    let before = cluster.server.snapshot();
    committed(&b, 0).await;
    events.recv().await.unwrap();
    // The replica that committed ends, and its observed positions with it.
    b.renew(&member("b"), Duration::ZERO).await.unwrap();
    drop(b);
    cluster.server.restore(&before);
    assert_lost(checked(&a).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fork_with_a_greater_sequence_is_detected() {
    let Some(mut cluster) = Cluster::start(SHORT) else { return };
    let a = cluster.member("a").await;
    committed(&a, 0).await;
    let before = cluster.server.snapshot();
    for sequence in 1..6 {
        committed(&a, sequence).await;
    }
    let longer = cluster.server.snapshot();
    drop(a);
    // No process observed these five and none was saved: this loss is not detected.
    cluster.server.restore(&before);
    let b = cluster.member("b").await;
    assert_eq!(committed(&b, 10).await, 1);
    cluster.server.restore(&longer);
    assert_lost(checked(&b).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_redis_is_rejected() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    committed(&a, 0).await;
    let whole = cluster.server.snapshot();
    cluster.server.restart_empty();
    assert_lost(checked(&a).await);
    assert_lost(a.attach("cluster", "a").await);
    cluster.server.restore(&whole);
    assert_eq!(committed(&a, 1).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_zone_index_is_not_assigned_again() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    let before = cluster.server.snapshot();
    let b = cluster.process("b");
    assert_eq!(b.attach("cluster", "zone-b").await.unwrap().zone_index, 1);
    b.save_observed_positions(true).await.unwrap();
    drop((a, b));
    cluster.server.restore(&before);
    assert_lost(cluster.process("c").attach("cluster", "zone-c").await);
    let zones: Vec<String> =
        cluster.server.query(&["LRANGE", "odradek:{c:registry}:zones", "0", "-1"]);
    assert_eq!(zones, ["a"], "no index was assigned");
}

/// Review D3: a process that observes no change keeps what its predecessor observed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_process_keeps_the_position_of_its_predecessor() {
    for was_saved in [true, false] {
        let Some(mut cluster) = Cluster::start(LONG) else { return };
        let a = cluster.member("a").await;
        committed(&a, 0).await;
        let older = cluster.server.snapshot();
        committed(&a, 1).await;
        if was_saved {
            a.save_observed_positions(true).await.unwrap();
        }
        // The whole Redis restarts, and then the replica.
        let whole = cluster.server.snapshot();
        cluster.server.restore(&whole);
        if was_saved {
            checked(&a).await.unwrap();
        }
        drop(a);
        let a = cluster.member("a").await;
        a.save_observed_positions(true).await.unwrap();
        let saved = cluster.saved.lock()["a"].positions.clone();
        assert_eq!(saved[1].as_ref().map(|position| position.sequence), Some(2));
        cluster.server.restore(&older);
        assert_lost(checked(&a).await);
        assert_lost(commit(&a, 2).await);
    }
}

/// The saved positions are one object, which a process writes as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_starts_without_a_shard_keeps_the_saved_position_of_it() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let saved = SavedPositions::default();
    let process = || {
        let store = SharedPositions { replica: "a".to_owned(), saved: Arc::clone(&saved) };
        let timeout = Duration::from_millis(700);
        let position_store = Some(Arc::new(store) as _);
        connect(RedisSettings { position_store, timeout, ..settings(&cluster.url(), "c") })
    };
    let a = process();
    a.attach("cluster", "a").await.unwrap();
    for (sequence, partition) in (0..).zip(partitions_of_shards(&a, 4)) {
        a.commit_all(&one_batch(sequence, partition)).await.unwrap();
    }
    a.save_observed_positions(true).await.unwrap();
    drop(a);
    let positions = || saved.lock()["a"].clone();
    let before = positions();
    assert_eq!(before.positions[2].as_ref().map(|position| position.sequence), Some(1));
    let away = cluster.master_of("{c:1}");
    assert_ne!(away, cluster.master_of("{c:registry}"));
    cluster.nodes[away].pause();
    let a = process();
    a.attach("cluster", "a").await.unwrap();
    a.save_observed_positions(true).await.unwrap();
    let during = positions();
    assert_eq!(during.positions, before.positions);
    assert_eq!(during.inherited.into_iter().collect::<Vec<_>>(), [2]);
    cluster.nodes[away].resume();
    checked(&a).await.unwrap();
    a.save_observed_positions(true).await.unwrap();
    assert_eq!(positions(), before, "it is verified");
}

/// It has no store, so it does not know the positions of stopped replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_without_writer_waits_for_another_to_verify() {
    let Some(cluster) = Cluster::start(SHORT) else { return };
    let sidecar = connect(RedisSettings { may_verify: false, ..cluster.without_store("sidecar") });
    let Err(CoordinatorError::Unavailable(detail)) = sidecar.attach("cluster", "a").await else {
        panic!("it verified without the stored positions");
    };
    assert!(detail.contains("a replica with a writer"), "{detail}");
    sleep(SHORT * 2).await;
    assert!(sidecar.attach("cluster", "a").await.is_err(), "it verified after a wait");
    let _writer = cluster.member("a").await;
    sidecar.attach("cluster", "a").await.expect("it is verified now");
    checked(&sidecar).await.expect("calls succeed");
}
