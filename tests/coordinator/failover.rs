//! A master and its replica: what a failover loses is noticed, and WAIT loses nothing.

use std::sync::Arc;
use std::time::Duration;

use odradek::coordinator::redis::RedisCoordinator;
use odradek::coordinator::{BatchOutcome, Coordinator, CoordinatorError, Event};
use tokio::time::{Instant, sleep, timeout};

use crate::metadata_loss::{is_lost, one_batch};
use crate::redis_server::{RedisServer, wait_until};
use crate::{RedisSettings, connect, settings};

/// A master with one replica, and a Sentinel that watches both.
struct Watched {
    master: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
}

impl Watched {
    fn start() -> Option<Self> {
        let master = RedisServer::start()?;
        let of_master = ["--replicaof", "127.0.0.1", &master.port().to_string()];
        let replica = RedisServer::start_with(&of_master)?;
        let sentinel = RedisServer::start_with(&["--sentinel"])?;
        let port = master.port().to_string();
        sentinel.ask::<String>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]);
        sentinel.ask::<String>(&["SENTINEL", "SET", "main", "down-after-milliseconds", "2000"]);
        let watched = Self { master, replica, sentinel };
        watched.wait_until_in_sync();
        let knows = || watched.sentinel.ask::<String>(&["INFO", "sentinel"]).contains("slaves=1");
        wait_until("the sentinel knows the replica", knows);
        Some(watched)
    }

    fn wait_until_in_sync(&self) {
        let in_sync = || {
            let info = self.replica.ask::<String>(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        };
        wait_until("the replica follows", in_sync);
    }

    /// Nothing more reaches the replica: it is thrown out and does not know the password.
    fn cut(&self) {
        self.master.ask::<String>(&["CONFIG", "SET", "requirepass", "secret"]);
        self.master_as_root(&["CLIENT", "KILL", "TYPE", "replica"]);
    }

    fn mend(&self) {
        self.master_as_root(&["CONFIG", "SET", "requirepass", ""]);
        self.wait_until_in_sync();
    }

    fn master_as_root(&self, command: &[&str]) {
        let url = format!("redis://:secret@127.0.0.1:{}/", self.master.port());
        let client = redis::Client::open(url).expect("a good URL");
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        cmd.query::<redis::Value>(&mut client.get_connection().expect("it listens"))
            .expect("it obeys");
    }

    fn connect(&self, replica: &str, replicas: u8) -> Arc<RedisCoordinator> {
        let url = format!("redis-sentinel://127.0.0.1:{}/main/0", self.sentinel.port());
        let replica = replica.to_owned();
        connect(RedisSettings { replica, replicas, shards: 1, ..settings(&url, "c") })
    }
}

async fn commit(of: &RedisCoordinator, sequence: u32) -> Result<i64, CoordinatorError> {
    match of.commit(&one_batch(sequence, 0)).await?[0].batches[0] {
        BatchOutcome::Committed { base_offset } => Ok(base_offset),
        other => panic!("{other:?}"),
    }
}

async fn until_sure(of: &RedisCoordinator, sequence: u32) -> Result<i64, CoordinatorError> {
    let begun = Instant::now();
    loop {
        match commit(of, sequence).await {
            Err(CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_)) => {
                assert!(begun.elapsed() < Duration::from_secs(40), "never sure");
                sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_lost_commits_is_refused_and_one_that_lost_none_is_not() {
    for loses in [true, false] {
        let Some(mut watched) = Watched::start() else { return };
        let coordinator = watched.connect("a", 0);
        coordinator.attach("cluster", "a").await.unwrap();
        assert_eq!(commit(&coordinator, 0).await.unwrap(), 0);
        let caught_up = || {
            let length: i64 = watched.replica.ask(&["XLEN", "odradek:{c:0}:log"]);
            length == 1
        };
        wait_until("the replica has it", caught_up);
        if loses {
            watched.cut();
            assert_eq!(commit(&coordinator, 1).await.unwrap(), 1);
        }
        watched.master.kill9();
        let after = until_sure(&coordinator, 2).await;
        if loses {
            is_lost(after);
            is_lost(watched.connect("b", 0).attach("cluster", "a").await);
        } else {
            assert_eq!(after.unwrap(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_or_shown_before_a_replica_of_redis_has_it() {
    let Some(watched) = Watched::start() else { return };
    let (a, b) = (watched.connect("a", 1), watched.connect("b", 1));
    a.attach("cluster", "a").await.unwrap();
    b.attach("cluster", "a").await.unwrap();
    let mut heard = b.subscribe().await.unwrap();
    assert_eq!(commit(&a, 0).await.unwrap(), 0);
    assert!(matches!(heard.recv().await, Some(Event::Committed { .. })));
    // A master that wants a password is down in the Sentinel's eyes: here it is to stay master.
    let patience = ["SENTINEL", "SET", "main", "down-after-milliseconds", "600000"];
    watched.sentinel.ask::<String>(&patience);
    watched.cut();
    for _ in 0..2 {
        // Also when it is asked again, although nothing is written then.
        let answer = commit(&a, 1).await;
        assert!(matches!(answer, Err(CoordinatorError::Unknown(_))), "{answer:?}");
    }
    let partition = one_batch(0, 0).parts[0].partition;
    let find = || b.producers(partition);
    assert!(matches!(find().await, Err(CoordinatorError::Unknown(_))));
    let shown = timeout(Duration::from_millis(500), async {
        while let Some(event) = heard.recv().await {
            assert_eq!(event, Event::Gap);
        }
    });
    shown.await.unwrap_err();
    watched.mend();
    assert_eq!(until_sure(&a, 1).await.unwrap(), 1, "once, however often it was asked");
    assert_eq!(until_sure(&a, 2).await.unwrap(), 2);
    // The gap has the reader ask; from then on it is told again.
    let mut sequence = 3;
    loop {
        until_sure(&a, sequence).await.unwrap();
        sequence += 1;
        if let Ok(Some(Event::Committed { .. })) =
            timeout(Duration::from_millis(200), heard.recv()).await
        {
            break;
        }
        assert!(sequence < 100, "the reader is told nothing more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_replica_that_has_everything_a_failover_loses_nothing() {
    let Some(mut watched) = Watched::start() else { return };
    let a = watched.connect("a", 1);
    a.attach("cluster", "a").await.unwrap();
    for sequence in 0..5 {
        assert_eq!(commit(&a, sequence).await.unwrap(), i64::from(sequence));
    }
    watched.cut();
    // In doubt, and lost with the master: nobody was told of it.
    assert!(matches!(commit(&a, 5).await, Err(CoordinatorError::Unknown(_))));
    watched.master.kill9();
    let without_wait = watched.connect("b", 0);
    let attached = async {
        while let Err(error) = without_wait.attach("cluster", "a").await {
            assert!(!matches!(error, CoordinatorError::MetadataLost(_)), "{error}");
            // What has seen most tells as well.
            is_not_lost(a.check().await);
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), attached).await.expect("it settles");
    assert_eq!(until_sure(&without_wait, 6).await.unwrap(), 5);
}

fn is_not_lost(answer: Result<(), CoordinatorError>) {
    assert!(!matches!(answer, Err(CoordinatorError::MetadataLost(_))), "{answer:?}");
}
