//! A master and its replica: a failover that loses commits is detected, and WAIT prevents the loss.

use std::sync::Arc;
use std::time::Duration;

use odradek::coordinator::CoordinatorExt as _;
use odradek::coordinator::redis::RedisCoordinator;
use odradek::coordinator::{CommitOutcome, Coordinator, CoordinatorError, CoordinatorEvent};
use tokio::time::{Instant, sleep, timeout};

use crate::load::Load;
use crate::metadata_loss::{assert_lost, one_batch};
use crate::redis_server::{RedisServer, wait_until};
use crate::{RedisSettings, connect, settings};

/// A master with one replica, and a Sentinel that monitors both.
struct SentinelSetup {
    master: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
}

/// The time without a response after which the Sentinel takes a master for down.
const FAILOVER: &str = "2000";
/// Also a busy machine, or a master whose password the Sentinel does not know, is not failed over.
const NO_FAILOVER: &str = "600000";

impl SentinelSetup {
    fn start(down_after_ms: &str) -> Option<Self> {
        let master = RedisServer::start()?;
        let of_master = ["--replicaof", "127.0.0.1", &master.port().to_string()];
        let replica = RedisServer::start_with(&of_master)?;
        let sentinel = RedisServer::start_with(&["--sentinel"])?;
        let port = master.port().to_string();
        sentinel.query::<String>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]);
        let down_after = ["SENTINEL", "SET", "main", "down-after-milliseconds", down_after_ms];
        sentinel.query::<String>(&down_after);
        let setup = Self { master, replica, sentinel };
        setup.wait_until_in_sync();
        let knows = || setup.sentinel.query::<String>(&["INFO", "sentinel"]).contains("slaves=1");
        wait_until("the sentinel knows the replica", knows);
        Some(setup)
    }

    fn wait_until_in_sync(&self) {
        let in_sync = || {
            let info = self.replica.query::<String>(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        };
        wait_until("the replica follows", in_sync);
    }

    /// Disconnects the replica: the password of the master is changed.
    fn disconnect_replica(&self) {
        // With a wrong password it stops at AUTH. Without any it would go on to PSYNC and, where
        // that is refused, to SYNC, whose offsets no WAIT can compare.
        self.replica.query::<String>(&["CONFIG", "SET", "masterauth", "wrong"]);
        self.master.query::<String>(&["CONFIG", "SET", "requirepass", "secret"]);
        self.master_as_root(&["CLIENT", "KILL", "TYPE", "replica"]);
    }

    fn reconnect_replica(&self) {
        self.master_as_root(&["CONFIG", "SET", "requirepass", ""]);
        self.replica.query::<String>(&["CONFIG", "SET", "masterauth", ""]);
        self.wait_until_in_sync();
    }

    fn master_as_root(&self, command: &[&str]) {
        let url = format!("redis://:secret@127.0.0.1:{}/", self.master.port());
        let client = redis::Client::open(url).expect("a good URL");
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        cmd.query::<redis::Value>(&mut client.get_connection().expect("it listens"))
            .expect("the command succeeds");
    }

    fn connect(&self, replica: &str, replicas: u8) -> Arc<RedisCoordinator> {
        let replica = replica.to_owned();
        connect(RedisSettings { replica, replicas, shards: 1, ..settings(&self.url(), "c") })
    }

    fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/main/0", self.sentinel.port())
    }
}

async fn commit(of: &RedisCoordinator, sequence: u32) -> Result<i64, CoordinatorError> {
    match of.commit_all(&one_batch(sequence, 0)).await?[0].batches[0] {
        CommitOutcome::Committed { base_offset } => Ok(base_offset),
        other => panic!("{other:?}"),
    }
}

async fn commit_until_known(of: &RedisCoordinator, sequence: u32) -> Result<i64, CoordinatorError> {
    let start = Instant::now();
    loop {
        match commit(of, sequence).await {
            Err(CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_)) => {
                assert!(start.elapsed() < Duration::from_secs(40), "the outcome stayed unknown");
                sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_is_rejected_only_if_it_lost_commits() {
    for loses in [true, false] {
        let Some(mut setup) = SentinelSetup::start(FAILOVER) else { return };
        let coordinator = setup.connect("a", 0);
        coordinator.attach("cluster", "a").await.unwrap();
        assert_eq!(commit(&coordinator, 0).await.unwrap(), 0);
        let caught_up = || {
            let length: i64 = setup.replica.query(&["XLEN", "odradek:{c:0}:events"]);
            length == 1
        };
        wait_until("the replica has it", caught_up);
        if loses {
            setup.disconnect_replica();
            assert_eq!(commit(&coordinator, 1).await.unwrap(), 1);
        }
        setup.master.kill9();
        let after = commit_until_known(&coordinator, 2).await;
        if loses {
            assert_lost(after);
            assert_lost(setup.connect("b", 0).attach("cluster", "a").await);
        } else {
            assert_eq!(after.unwrap(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_acknowledged_and_visible_only_once_replicated() {
    let Some(setup) = SentinelSetup::start(NO_FAILOVER) else { return };
    let (a, b) = (setup.connect("a", 1), setup.connect("b", 1));
    a.attach("cluster", "a").await.unwrap();
    b.attach("cluster", "a").await.unwrap();
    let mut events = b.subscribe().await.unwrap();
    assert_eq!(commit(&a, 0).await.unwrap(), 0);
    assert!(matches!(events.recv().await, Some(CoordinatorEvent::Committed { .. })));
    setup.disconnect_replica();
    for _ in 0..2 {
        // Also when the call is repeated, although nothing is written then.
        let result = commit(&a, 1).await;
        assert!(matches!(result, Err(CoordinatorError::Unknown(_))), "{result:?}");
    }
    let partition = one_batch(0, 0).parts[0].partition;
    let find = || b.producers(partition);
    assert!(matches!(find().await, Err(CoordinatorError::Unknown(_))));
    let shown = timeout(Duration::from_millis(500), async {
        while let Some(event) = events.recv().await {
            let is_interruption =
                matches!(event, CoordinatorEvent::Disconnected(_) | CoordinatorEvent::Gap(_));
            assert!(is_interruption, "{event:?}");
        }
    });
    shown.await.unwrap_err();
    setup.reconnect_replica();
    assert_eq!(commit_until_known(&a, 1).await.unwrap(), 1, "committed once");
    assert_eq!(commit_until_known(&a, 2).await.unwrap(), 2);
    // After the gap, the subscriber gets further events.
    let mut sequence = 3;
    loop {
        commit_until_known(&a, sequence).await.unwrap();
        sequence += 1;
        if let Ok(Some(CoordinatorEvent::Committed { .. })) =
            timeout(Duration::from_millis(200), events.recv()).await
        {
            break;
        }
        assert!(sequence < 100, "no further events");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_to_an_up_to_date_replica_loses_nothing() {
    let Some(mut setup) = SentinelSetup::start(FAILOVER) else { return };
    let a = setup.connect("a", 1);
    a.attach("cluster", "a").await.unwrap();
    for sequence in 0..5 {
        assert_eq!(commit(&a, sequence).await.unwrap(), i64::from(sequence));
    }
    setup.disconnect_replica();
    // Its outcome is unknown, and it is lost with the master: it was not acknowledged.
    assert!(matches!(commit(&a, 5).await, Err(CoordinatorError::Unknown(_))));
    setup.master.kill9();
    let without_wait = setup.connect("b", 0);
    let attached = async {
        while let Err(error) = without_wait.attach("cluster", "a").await {
            assert!(!matches!(error, CoordinatorError::MetadataLost(_)), "{error}");
            // The replica that observed most reports too.
            assert_not_lost(a.check().await);
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), attached).await.expect("it is verified");
    assert_eq!(commit_until_known(&without_wait, 6).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_by_hand_under_load_loses_nothing_acknowledged() {
    let Some(setup) = SentinelSetup::start(NO_FAILOVER) else { return };
    let coordinator = setup.connect("a", 1);
    coordinator.attach("cluster", "a").await.unwrap();
    let load = Load::start(&coordinator, &[0]);
    load.wait_for(20).await;
    // The old master stays alive and accepts writes until it follows the new one.
    let failover = || setup.sentinel.try_query::<String>(&["SENTINEL", "FAILOVER", "main"]);
    wait_until("the failover began", || failover().is_ok());
    let has_role = |server: &RedisServer, role: &str| {
        server.query::<String>(&["INFO", "replication"]).contains(&format!("role:{role}"))
    };
    wait_until("the replica is the master", || has_role(&setup.replica, "master"));
    load.wait_for(20).await;
    wait_until("the old master follows", || has_role(&setup.master, "slave"));
    load.wait_for(20).await;
    load.end().await;
}

/// The volume of the master is lost and it is back before the Sentinel notices: its replicas copy
/// the emptiness.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_that_returns_empty_is_rejected_although_replicas_follow_it() {
    let Some(mut setup) = SentinelSetup::start(NO_FAILOVER) else { return };
    let coordinator = setup.connect("a", 1);
    let attached = coordinator.attach("cluster", "a").await.unwrap();
    assert_eq!(commit(&coordinator, 0).await.unwrap(), 0);
    setup.master.restart_empty();
    let is_empty = || setup.replica.query::<i64>(&["DBSIZE"]) == 0;
    wait_until("the replica has copied it", is_empty);
    setup.wait_until_in_sync();
    assert_lost(commit_until_known(&coordinator, 1).await);
    assert_lost(commit_until_known(&coordinator, 0).await);
    let mut later = settings(&setup.url(), "c");
    later.metadata_id = Some(attached.metadata_id);
    assert_lost(connect(later).attach("cluster", "a").await);
    assert_eq!(setup.master.query::<i64>(&["DBSIZE"]), 0, "no new metadata was created");
}

fn assert_not_lost(result: Result<(), CoordinatorError>) {
    assert!(!matches!(result, Err(CoordinatorError::MetadataLost(_))), "{result:?}");
}
