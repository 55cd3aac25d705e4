//! The number of shards is decided when a cluster is set up; a Redis that evicts is found.

use odradek::coordinator::Coordinator as _;
use odradek::coordinator::redis::{SHARDS_CLUSTER, SHARDS_DEFAULT, default_shards};

use crate::cluster::RedisCluster;
use crate::redis_server::RedisServer;
use crate::{RedisSettings, connect, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn number_of_shards_is_that_of_the_first_attach() {
    let Some(server) = RedisServer::start() else { return };
    let first = connect(RedisSettings { shards: 7, ..settings(&server.url(), "c") });
    assert_eq!(first.shards(), None);
    first.attach("cluster", "a").await.unwrap();
    let later = connect(RedisSettings { shards: 16, ..settings(&server.url(), "c") });
    later.attach("cluster", "a").await.unwrap();
    assert_eq!((first.shards(), later.shards()), (Some(7), Some(7)));
    assert_eq!(default_shards(&server.url()), SHARDS_DEFAULT);
    assert_eq!(default_shards("redis-cluster://a:7000"), SHARDS_CLUSTER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_master_that_evicts_is_found() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let coordinator = connect(settings(&cluster.url(), "c"));
    let problems = async || {
        let policies = coordinator.eviction_policies().await.unwrap();
        assert_eq!(policies.len(), 3);
        policies.iter().filter_map(|policy| policy.problem()).collect::<Vec<_>>()
    };
    assert_eq!(problems().await, [""; 0]);
    let evicting = &cluster.nodes[1];
    evicting.query::<String>(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    let found = problems().await;
    assert_eq!(found.len(), 1);
    assert!(found[0].contains(&format!("127.0.0.1:{} is `volatile-lru`", evicting.port())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_does_not_tell_its_policy_is_known() {
    let Some(server) = RedisServer::start() else { return };
    let denied = ["ACL", "SETUSER", "default", "-info", "-config"];
    server.query::<String>(&denied);
    let policies = connect(settings(&server.url(), "c")).eviction_policies().await.unwrap();
    assert_eq!((policies.len(), policies[0].policy.as_deref()), (1, None));
    assert_eq!(policies[0].problem(), None);
}
