//! The coordinator behind Sentinels and on a Redis Cluster.

use odradek::coordinator::conformance::{check_cases, check_random};
use odradek::coordinator::{
    CommitOutcome, Coordinator as _, CoordinatorError, CoordinatorExt as _,
};

use crate::cluster::RedisCluster;
use crate::metadata_loss::one_batch;
use crate::redis_server::{RedisServer, wait_until};
use crate::{connect, harness_of, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_names_the_new_master_after_a_failover() {
    let Some(master) = RedisServer::start() else { return };
    let of_master = ["--replicaof", "127.0.0.1", &master.port().to_string()];
    let Some(replica) = RedisServer::start_with(&of_master) else { return };
    let Some(sentinel) = RedisServer::start_with(&["--sentinel"]) else { return };
    let port = master.port().to_string();
    sentinel.query::<String>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]);
    sentinel.query::<String>(&["SENTINEL", "SET", "main", "down-after-milliseconds", "500"]);
    let in_sync = |server: &RedisServer| {
        server.query::<String>(&["INFO", "replication"]).contains("master_link_status:up")
    };
    wait_until("the replica follows", || in_sync(&replica));
    let knows_replica = || sentinel.query::<String>(&["INFO", "sentinel"]).contains("slaves=1");
    wait_until("the sentinel knows the replica", knows_replica);
    let url = format!("redis-sentinel://127.0.0.1:{}/main/0", sentinel.port());
    let coordinator = connect(settings(&url, "c"));
    coordinator.attach("cluster", "a").await.unwrap();
    coordinator.commit_all(&one_batch(0, 0)).await.unwrap();
    // WAIT would wait for the writes of its own connection only.
    let has_it = || {
        (0..4).any(|shard| {
            replica.query::<i64>(&["XLEN", &format!("odradek:{{c:{shard}}}:events")]) > 0
        })
    };
    wait_until("the replica has the commit", has_it);
    drop(master);
    let outcome = loop {
        match coordinator.commit_all(&one_batch(1, 0)).await {
            Ok(outcomes) => break outcomes[0].batches[0],
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    };
    assert_eq!(outcome, CommitOutcome::Committed { base_offset: 1 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_that_found_no_server_is_unavailable() {
    let Some(server) = RedisServer::start() else { return };
    server.pause();
    let address = format!("127.0.0.1:{}", server.port());
    for url in [server.url(), format!("redis-cluster://{address}")] {
        let attached = connect(settings(&url, "c")).attach("cluster", "a").await;
        let is_unavailable = matches!(attached, Err(CoordinatorError::Unavailable(_)));
        assert!(is_unavailable, "{url}: {attached:?}");
    }
    server.resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_equals_the_model() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let url = cluster.url();
    check_cases(&mut harness_of(settings(&url, "cases"))).await;
    check_random(&mut harness_of(settings(&url, "random")), 99, 500).await;
    let sizes: Vec<i64> = cluster.nodes.iter().map(|node| node.query(&["DBSIZE"])).collect();
    assert!(sizes.iter().filter(|size| **size > 0).count() > 1, "one node has it all: {sizes:?}");
}
