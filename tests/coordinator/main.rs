//! The batch coordinator on real Redis servers, compared with the reference model.
//!
//! The tests fail if Redis is not installed; `ODRADEK_SKIP_REDIS=1` skips them.

mod cluster;
mod cluster_changes;
mod events;
mod failover;
mod isolation;
mod load;
mod loss_detection;
mod memory_limit;
mod metadata_loss;
mod missing_keys;
mod recovery;
mod redis_server;
mod script_length;
mod setup;
mod topologies;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use metadata_loss::one_batch;
use odradek::clock::ManualClock;
use odradek::coordinator::CoordinatorExt as _;
use odradek::coordinator::conformance::{PlainHarness, check_cases, check_random};
use odradek::coordinator::memory::MemoryCoordinator;
use odradek::coordinator::redis::{RedisCoordinator, RedisSettings, SHARDS_DEFAULT};
use odradek::coordinator::{CommitOutcome, Coordinator, CoordinatorEvent};
use odradek::entropy::Entropy;
use redis_server::RedisServer;

fn settings(url: &str, cluster: &str) -> RedisSettings {
    RedisSettings {
        url: url.to_owned(),
        cluster: cluster.to_owned(),
        shards: SHARDS_DEFAULT,
        metadata_id: None,
        timeout: Duration::from_secs(5),
        replica: "replica".to_owned(),
        may_verify: true,
        lease: Duration::from_secs(10),
        replicas: 0,
        position_store: None,
        clock: None,
    }
}

fn connect(settings: RedisSettings) -> Arc<RedisCoordinator> {
    Arc::new(RedisCoordinator::new(&Entropy::from_os(), settings).expect("a good URL"))
}

/// Returns the harness of a coordinator whose clock the suite sets.
fn harness_of(settings: RedisSettings) -> PlainHarness {
    let clock = Arc::new(ManualClock::default());
    let settings = RedisSettings { clock: Some(Arc::clone(&clock) as _), ..settings };
    PlainHarness::with_clock(connect(settings), clock)
}

#[tokio::test]
async fn model_passes_the_conformance_cases() {
    let clock = Arc::new(ManualClock::default());
    let model = MemoryCoordinator::new("model").with_clock(Arc::clone(&clock) as _);
    check_cases(&mut PlainHarness::with_clock(Arc::new(model), clock)).await;
}

#[tokio::test]
async fn redis_passes_the_conformance_cases() {
    let Some(server) = RedisServer::start() else { return };
    for shards in [1, SHARDS_DEFAULT] {
        let settings = RedisSettings { shards, ..settings(&server.url(), &format!("c{shards}")) };
        check_cases(&mut harness_of(settings)).await;
    }
}

#[tokio::test]
async fn redis_equals_the_model() {
    let Some(server) = RedisServer::start() else { return };
    for seed in 0..8 {
        let settings = settings(&server.url(), &format!("seed-{seed}"));
        check_random(&mut harness_of(settings), seed, 600).await;
    }
}

#[tokio::test]
async fn two_replicas_share_one_order() {
    let Some(server) = RedisServer::start() else { return };
    let (a, b) = (connect(settings(&server.url(), "c")), connect(settings(&server.url(), "c")));
    let first = a.attach("cluster", "zone-a").await.unwrap();
    let second = b.attach("cluster", "zone-b").await.unwrap();
    assert_eq!((second.zone_index, &second.metadata_id), (1, &first.metadata_id));
    let mut events = b.subscribe().await.unwrap();
    for sequence in 0..10 {
        let replica = if sequence % 2 == 0 { &a } else { &b };
        let outcome = replica.commit_all(&one_batch(sequence, 0)).await.unwrap()[0].batches[0];
        let base_offset = i64::from(sequence);
        assert_eq!(outcome, CommitOutcome::Committed { base_offset });
        let event = events.recv().await;
        let Some(CoordinatorEvent::Committed { runs, .. }) = event else { panic!("{event:?}") };
        assert_eq!(runs[0].base_offset, base_offset);
        // A repeated commit returns the stored outcome, also from another replica.
        let again = b.commit_all(&one_batch(sequence, 0)).await.unwrap()[0].batches[0];
        assert_eq!(again, outcome);
    }
}
