//! A Redis Cluster that changes under load: failovers, and slots that move to another master.

use std::time::Duration;

use odradek::coordinator::Coordinator as _;
use testbed::cluster_proxy;
use tokio::time::sleep;

use crate::cluster::RedisCluster;
use crate::isolation::partitions_of_shards;
use crate::load::Load;
use crate::redis_server::{RedisServer, wait_until};
use crate::{RedisSettings, connect, settings};

fn role(server: &RedisServer) -> String {
    let info = server.query::<String>(&["INFO", "replication"]);
    info.lines().find_map(|line| line.strip_prefix("role:")).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_of_a_master_under_load_loses_nothing_acknowledged() {
    // One replica is left for WAIT after the master is gone.
    let Some(mut cluster) = RedisCluster::start(2) else { return };
    let (replicas, timeout) = (1, Duration::from_secs(2));
    let settings = RedisSettings { replicas, timeout, ..settings(&cluster.url(), "c") };
    let coordinator = connect(settings);
    coordinator.attach("cluster", "a").await.unwrap();
    let load = Load::start(&coordinator, &partitions_of_shards(&coordinator, 4));
    load.wait_for(20).await;
    // By hand: the master waits for the replica.
    let master = cluster.master_of("{c:0}");
    let promoted = master + 3;
    cluster.nodes[promoted].query::<String>(&["CLUSTER", "FAILOVER"]);
    wait_until("the replica is the master", || role(&cluster.nodes[promoted]) == "master");
    load.wait_for(20).await;
    // And because it died: one of the others is elected.
    cluster.nodes[promoted].kill9();
    load.wait_for(20).await;
    let left = [master, master + 6];
    let masters = left.iter().filter(|index| role(&cluster.nodes[**index]) == "master");
    assert_eq!(masters.count(), 1);
    load.end().await;
}

/// Moves the slot of a hash tag as `redis-cli --cluster reshard` does, with pauses in between.
async fn migrate(from: &RedisServer, to: &RedisServer, other: &RedisServer, hash_tag: &str) {
    let slot: u16 = from.query(&["CLUSTER", "KEYSLOT", hash_tag]);
    let slot = slot.to_string();
    let (from_id, to_id): (String, String) =
        (from.query(&["CLUSTER", "MYID"]), to.query(&["CLUSTER", "MYID"]));
    to.query::<String>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    from.query::<String>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    sleep(Duration::from_millis(200)).await;
    let port = to.port().to_string();
    loop {
        let keys: Vec<String> = from.query(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
        let Some(key) = keys.first() else { break };
        from.query::<String>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        sleep(Duration::from_millis(if key.contains(":o:") { 0 } else { 200 })).await;
    }
    for node in [to, from, other] {
        node.query::<String>(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
}

/// Returns the three masters, beginning with the one that has the hash tag.
fn beginning_with<'a>(cluster: &'a RedisCluster, hash_tag: &str) -> [&'a RedisServer; 3] {
    let first = cluster.master_of(hash_tag);
    [0, 1, 2].map(|index| &cluster.nodes[(first + index) % 3])
}

/// Moves a shard away, back again, and then the registry, while all shards are written.
async fn migrate_under_load(cluster: &RedisCluster, url: &str) {
    let timeout = Duration::from_secs(2);
    let coordinator = connect(RedisSettings { timeout, ..settings(url, "c") });
    coordinator.attach("cluster", "a").await.expect("the call succeeds");
    let load = Load::start(&coordinator, &partitions_of_shards(&coordinator, 4));
    load.wait_for(10).await;
    let [from, to, other] = beginning_with(cluster, "{c:1}");
    migrate(from, to, other, "{c:1}").await;
    load.wait_for(10).await;
    migrate(to, from, other, "{c:1}").await;
    load.wait_for(10).await;
    let [from, to, other] = beginning_with(cluster, "{c:registry}");
    migrate(from, to, other, "{c:registry}").await;
    load.wait_for(10).await;
    load.end().await;
    coordinator.check().await.expect("the call succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_lose_nothing() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    migrate_under_load(&cluster, &cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_lose_nothing_where_ask_is_followed() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let proxy = cluster_proxy::start(cluster.nodes[0].port());
    migrate_under_load(&cluster, &format!("redis://127.0.0.1:{proxy}/")).await;
}
