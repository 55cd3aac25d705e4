//! The coordinator behind Sentinels and on a Redis Cluster.

use odradek::coordinator::CoordinatorExt as _;
use std::net::TcpListener;

use odradek::coordinator::conformance::{PlainHarness, check_cases, check_random};
use odradek::coordinator::{CommitOutcome, Coordinator};

use crate::metadata_loss::one_batch;
use crate::redis_server::{RedisServer, wait_until};
use crate::{connect, settings};

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
async fn cluster_equals_the_model() {
    let Some(nodes) = cluster_of_three() else { return };
    let hosts: Vec<_> = nodes.iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    let url = format!("redis-cluster://{}", hosts.join(","));
    check_cases(&mut PlainHarness::new(connect(settings(&url, "cases")))).await;
    check_random(&mut PlainHarness::new(connect(settings(&url, "random"))), 99, 500).await;
    let sizes: Vec<i64> = nodes.iter().map(|node| node.query(&["DBSIZE"])).collect();
    assert!(sizes.iter().filter(|size| **size > 0).count() > 1, "one node has it all: {sizes:?}");
}

/// Three masters that share the slots.
fn cluster_of_three() -> Option<Vec<RedisServer>> {
    let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
    let mut nodes = Vec::new();
    for (first, last) in [(0, 5_460), (5_461, 10_922), (10_923, 16_383)] {
        let node = RedisServer::start_on(port_with_a_bus(), &options)?;
        node.query::<String>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        nodes.push(node);
    }
    for node in &nodes[1..] {
        nodes[0].query::<String>(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
    }
    let is_whole = |node: &RedisServer| {
        let info: String = node.query(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
    };
    wait_until("every node knows every slot", || nodes.iter().all(is_whole));
    Some(nodes)
}

/// A node also listens on its port plus 10,000.
fn port_with_a_bus() -> u16 {
    (0..1_000)
        .map(|_| crate::redis_server::free_port())
        .find(|port| {
            port.checked_add(10_000)
                .is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok())
        })
        .expect("a port whose bus port is free")
}
