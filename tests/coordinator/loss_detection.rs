//! A Redis that begins to live anew is believed once everyone has told what he has seen of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use odradek::coordinator::redis::RedisCoordinator;
use odradek::coordinator::redis::floors::{ObservedPositionStore, ObservedPositions};
use odradek::coordinator::{BatchOutcome, Coordinator, CoordinatorError, Member};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::metadata_loss::{is_lost, one_batch};
use crate::redis_server::RedisServer;
use crate::{RedisSettings, connect, settings};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(700);

type Kept = Arc<Mutex<BTreeMap<String, ObservedPositions>>>;

/// Floors that outlive every process of the test.
#[derive(Debug)]
struct SharedPositions {
    replica: String,
    kept: Kept,
}

#[async_trait]
impl ObservedPositionStore for SharedPositions {
    async fn keep(&self, floors: &ObservedPositions) -> Result<(), String> {
        self.kept.lock().insert(self.replica.clone(), floors.clone());
        Ok(())
    }

    async fn all(&self) -> Result<Vec<ObservedPositions>, String> {
        Ok(self.kept.lock().values().cloned().collect())
    }
}

/// A cluster of replicas of one Redis, of one shard.
struct Cluster {
    server: RedisServer,
    kept: Kept,
    lease: Duration,
}

impl Cluster {
    fn start(lease: Duration) -> Option<Self> {
        Some(Self { server: RedisServer::start()?, kept: Kept::default(), lease })
    }

    /// A process; it remembers nothing but what is kept.
    fn process(&self, replica: &str) -> Arc<RedisCoordinator> {
        let kept = Arc::clone(&self.kept);
        let floors = Some(Arc::new(SharedPositions { replica: replica.to_owned(), kept }) as _);
        connect(RedisSettings { floors, ..self.without_floors(replica) })
    }

    fn without_floors(&self, replica: &str) -> RedisSettings {
        let (replica, lease) = (replica.to_owned(), self.lease);
        RedisSettings { shards: 1, replica, lease, ..settings(&self.server.url(), "c") }
    }

    /// One that is attached and a member.
    async fn member(&self, replica: &str) -> Arc<RedisCoordinator> {
        let process = self.process(replica);
        process.attach("cluster", "a").await.expect("it answers");
        process.renew(&member(replica), Duration::from_secs(10)).await.expect("it answers");
        process
    }
}

fn member(replica: &str) -> Member {
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
    match of.commit(&one_batch(sequence, 0)).await?[0].batches[0] {
        BatchOutcome::Committed { base_offset } => Ok(base_offset),
        other => panic!("{other:?}"),
    }
}

/// Repeats what a client would: until it is done, or certainly lost.
async fn committed(of: &RedisCoordinator, sequence: u32) -> i64 {
    let begun = Instant::now();
    loop {
        match commit(of, sequence).await {
            Ok(offset) => return offset,
            Err(CoordinatorError::MetadataLost(detail)) => panic!("lost: {detail}"),
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
    }
}

async fn is_waiting(of: &RedisCoordinator, sequence: u32) {
    let answer = commit(of, sequence).await;
    let waits =
        matches!(answer, Err(CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_)));
    assert!(waits, "{answer:?}");
}

/// Asks until the connection that broke is replaced.
async fn checked(of: &RedisCoordinator) -> Result<(), CoordinatorError> {
    let begun = Instant::now();
    loop {
        match of.check().await {
            Err(CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_)) => {
                assert!(begun.elapsed() < Duration::from_secs(20), "never sure");
                sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_kept_everything_goes_on_once_all_have_told() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    assert_eq!(committed(&a, 0).await, 0);
    let now = cluster.server.snapshot();
    cluster.server.restore(&now);
    // Not before the other one, who may have seen more.
    is_waiting(&a, 1).await;
    is_waiting(&a, 1).await;
    checked(&b).await.unwrap();
    assert_eq!(committed(&a, 1).await, 1);
    assert_eq!((a.verifications(), b.verifications()), (2, 2));
    // Once settled, a third one need not ask the others.
    assert_eq!(committed(&*cluster.member("c").await, 2).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_alone_goes_on_at_once() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    assert_eq!(committed(&a, 0).await, 0);
    let b = cluster.member("b").await;
    // Who left in order is not waited for.
    b.renew(&member("b"), Duration::ZERO).await.unwrap();
    let now = cluster.server.snapshot();
    cluster.server.restore(&now);
    assert_eq!(committed(&a, 1).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_tell_is_waited_for_as_long_as_a_lease() {
    let Some(mut cluster) = Cluster::start(SHORT) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    assert_eq!(committed(&a, 0).await, 0);
    drop(b);
    let now = cluster.server.snapshot();
    cluster.server.restore(&now);
    let begun = Instant::now();
    assert_eq!(committed(&a, 1).await, 1);
    assert!(begun.elapsed() >= SHORT, "nobody was waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_of_two_has_seen_holds_for_both() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    assert_eq!(committed(&a, 0).await, 0);
    let before = cluster.server.snapshot();
    assert_eq!(committed(&b, 1).await, 1);
    let whole = cluster.server.snapshot();
    cluster.server.restore(&before);
    // This one has not seen the commit that is missing, and must not give its offset away.
    is_waiting(&a, 2).await;
    is_lost(checked(&b).await);
    is_lost(commit(&a, 2).await);
    // A mark, not a number: a process that never saw more is refused as well.
    is_lost(connect(cluster.without_floors("c")).attach("cluster", "a").await);
    // The right one comes back, and nothing has to be told to anybody.
    cluster.server.restore(&whole);
    let (first, second) = tokio::join!(committed(&a, 2), committed(&b, 3));
    assert_eq!(first.min(second), 2);
    assert_eq!(first.max(second), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_is_heard_however_far_the_others_went_on() {
    let Some(mut cluster) = Cluster::start(SHORT) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    assert_eq!(committed(&a, 0).await, 0);
    let before = cluster.server.snapshot();
    assert_eq!(committed(&b, 1).await, 1);
    cluster.server.restore(&before);
    // The other one is silent for longer than a lease, and its floor was not kept.
    for sequence in 2..6 {
        committed(&a, sequence).await;
    }
    is_lost(checked(&b).await);
    is_lost(commit(&a, 6).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_is_refused_by_processes_that_never_saw_more() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    assert_eq!(committed(&a, 0).await, 0);
    let before = cluster.server.snapshot();
    assert_eq!(committed(&a, 1).await, 1);
    a.save_observed_positions(true).await.unwrap();
    let whole = cluster.server.snapshot();
    drop(a);
    cluster.server.restore(&before);
    is_lost(cluster.process("a").attach("cluster", "a").await);
    is_lost(cluster.process("b").attach("cluster", "a").await);
    cluster.server.restore(&whole);
    let b = cluster.process("b");
    b.attach("cluster", "a").await.unwrap_err();
    // The replica that is gone was a member, and is waited for until it is back.
    let a = cluster.process("a");
    a.attach("cluster", "a").await.unwrap();
    b.attach("cluster", "a").await.unwrap();
    assert_eq!(committed(&b, 2).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floors_are_kept_when_there_is_more_and_not_too_often() {
    let Some(cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    let kept = || cluster.kept.lock().get("a").map(|floors| floors.tags.clone());
    committed(&a, 0).await;
    a.save_observed_positions(false).await.unwrap();
    let first = kept().unwrap();
    assert_eq!(first[1].as_ref().unwrap().sequence, 1);
    committed(&a, 1).await;
    a.save_observed_positions(false).await.unwrap();
    assert_eq!(kept().unwrap(), first, "so soon again");
    a.save_observed_positions(true).await.unwrap();
    assert_eq!(kept().unwrap()[1].as_ref().unwrap().sequence, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_heard_in_the_stream_counts_as_seen() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let (a, b) = (cluster.member("a").await, cluster.member("b").await);
    let mut heard = a.subscribe().await.unwrap();
    let before = cluster.server.snapshot();
    committed(&b, 0).await;
    heard.recv().await.unwrap();
    // The one that committed dies, and takes along what it knew.
    b.renew(&member("b"), Duration::ZERO).await.unwrap();
    drop(b);
    cluster.server.restore(&before);
    is_lost(checked(&a).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_is_recognised_although_its_numbers_are_greater() {
    let Some(mut cluster) = Cluster::start(SHORT) else { return };
    let a = cluster.member("a").await;
    committed(&a, 0).await;
    let before = cluster.server.snapshot();
    for sequence in 1..6 {
        committed(&a, sequence).await;
    }
    let longer = cluster.server.snapshot();
    drop(a);
    // Nobody is left who knows of these five: the window that is left.
    cluster.server.restore(&before);
    let b = cluster.member("b").await;
    assert_eq!(committed(&b, 10).await, 1);
    cluster.server.restore(&longer);
    is_lost(checked(&b).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_its_disk_is_refused() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    committed(&a, 0).await;
    let whole = cluster.server.snapshot();
    cluster.server.restart_empty();
    is_lost(checked(&a).await);
    is_lost(a.attach("cluster", "a").await);
    cluster.server.restore(&whole);
    assert_eq!(committed(&a, 1).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_zone_gets_a_number_that_was_given_and_forgotten() {
    let Some(mut cluster) = Cluster::start(LONG) else { return };
    let a = cluster.member("a").await;
    let before = cluster.server.snapshot();
    let b = cluster.process("b");
    assert_eq!(b.attach("cluster", "zone-b").await.unwrap().zone_index, 1);
    b.save_observed_positions(true).await.unwrap();
    drop((a, b));
    cluster.server.restore(&before);
    is_lost(cluster.process("c").attach("cluster", "zone-c").await);
    let zones: Vec<String> =
        cluster.server.ask(&["LRANGE", "odradek:{c:registry}:zones", "0", "-1"]);
    assert_eq!(zones, ["a"], "no number was given");
}

/// It has no store, so it knows nothing of what those who died had seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_without_a_writer_waits_until_another_has_settled_the_life() {
    let Some(cluster) = Cluster::start(SHORT) else { return };
    let sidecar = connect(RedisSettings { may_verify: false, ..cluster.without_floors("sidecar") });
    let Err(CoordinatorError::Unavailable(detail)) = sidecar.attach("cluster", "a").await else {
        panic!("it settled what it knows nothing of");
    };
    assert!(detail.contains("a replica with a writer"), "{detail}");
    sleep(SHORT * 2).await;
    assert!(sidecar.attach("cluster", "a").await.is_err(), "however long it waits");
    let _writer = cluster.member("a").await;
    sidecar.attach("cluster", "a").await.expect("now it is settled");
    checked(&sidecar).await.expect("and it may ask");
}
