//! Metadata of other format versions is refused by name.

use std::time::Duration;

use odradek::coordinator::{Coordinator, CoordinatorError, Member};
use odradek::log::ids::ProcessIdentity;

use crate::isolation::{commit, find, partitions_of_shards};
use crate::loss_detection::member;
use crate::redis_server::RedisServer;
use crate::{connect, settings};

fn assert_unsupported<T: std::fmt::Debug>(result: Result<T, CoordinatorError>, what: &str) {
    match result {
        Err(CoordinatorError::UnsupportedVersion(detail)) => {
            assert!(detail.contains(what), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_other_versions_are_refused_and_left_alone() {
    let Some(server) = RedisServer::start() else { return };
    let registry = "odradek:{c:registry}:meta";
    connect(settings(&server.url(), "c")).attach("cluster", "a").await.unwrap();
    let before: Vec<String> = server.query(&["LRANGE", "odradek:{c:registry}:zones", "0", "-1"]);
    server.query::<i64>(&["HSET", registry, "format", "9"]);
    let newer = connect(settings(&server.url(), "c")).attach("cluster", "b").await;
    assert_unsupported(newer, "format version 9, and this replica knows version 2");
    server.query::<i64>(&["HDEL", registry, "format"]);
    let older = connect(settings(&server.url(), "c")).attach("cluster", "b").await;
    assert_unsupported(older, "before the first release");
    let after: Vec<String> = server.query(&["LRANGE", "odradek:{c:registry}:zones", "0", "-1"]);
    assert_eq!(after, before, "no zone was added");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shard_of_another_version_is_refused_by_a_process_that_runs() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(settings(&server.url(), "c"));
    coordinator.attach("cluster", "a").await.unwrap();
    let partitions = partitions_of_shards(&coordinator, 4);
    let meta = "odradek:{c:2}:meta";
    assert_eq!(server.query::<String>(&["HGET", meta, "format"]), "2");
    server.query::<i64>(&["HSET", meta, "format", "9"]);
    let before: Vec<String> = server.query(&["HGETALL", meta]);
    for (shard, partition) in (0..).zip(partitions) {
        let committed = commit(&coordinator, shard, partition).await;
        if shard == 2 {
            assert_unsupported(committed, "format version 9, and this replica knows version 2");
            assert_unsupported(find(&coordinator, partition).await, "format version 9");
        } else {
            assert_eq!(committed.unwrap(), 0);
        }
    }
    assert_eq!(server.query::<Vec<String>>(&["HGETALL", meta]), before);
    // A shard of metadata from before shards named a version has that of the registry.
    server.query::<i64>(&["HDEL", meta, "format"]);
    coordinator.check().await.unwrap();
}

/// Stores the record of a member of a newer program under a key.
fn store_newer(server: &RedisServer, key: &str, field: &str, mut row: Vec<u8>, at: usize) {
    row[at] = 9;
    let client = redis::Client::open(server.url()).expect("a good URL");
    let mut connection = client.get_connection().expect("it listens");
    let mut cmd = redis::cmd("HSET");
    cmd.arg(key).arg(field).arg(row).exec(&mut connection).expect("it is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_of_a_newer_version_hides_no_other() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(settings(&server.url(), "c"));
    coordinator.attach("cluster", "a").await.unwrap();
    let lease = Duration::from_secs(10);
    coordinator.renew(&member("old"), lease).await.unwrap();
    coordinator.renew(&member("other"), lease).await.unwrap();
    let members = "odradek:{c:registry}:members";
    let row: Vec<u8> = server.query(&["HGET", members, "old"]);
    let mut newer = row.clone();
    newer[9..21].copy_from_slice(&ProcessIdentity { incarnation: 8, process_id: 8 }.to_bytes());
    store_newer(&server, members, "new", newer, 8);
    let last_members = "odradek:{c:registry}:last_members";
    let guest = Member { nodes: 0, ..member("guest") };
    let row: Vec<u8> = server.query(&["HGET", last_members, "0"]);
    store_newer(&server, last_members, "0", row, 0);
    let membership = coordinator.renew(&guest, lease).await.unwrap();
    assert_eq!(membership.members, [member("old"), member("other")]);
    assert_eq!(membership.zones[0].last, None);
    assert_eq!(membership.zones[0].nodes, 1);
    // It runs, whatever its record says.
    assert_eq!(membership.unreadable_members, 1);
    assert!(membership.processes.contains(&ProcessIdentity { incarnation: 8, process_id: 8 }));
}
