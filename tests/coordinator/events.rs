//! Subscribers learn at once that events no longer arrive, and that some were missed.

use std::collections::BTreeSet;
use std::time::Duration;

use odradek::coordinator::{Coordinator as _, CoordinatorEvent, CoordinatorExt as _, EventScope};
use testbed::redis_proxy::{Mode, RedisProxy};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::metadata_loss::one_batch;
use crate::redis_server::RedisServer;
use crate::{RedisSettings, connect, settings};

const SCOPES: [EventScope; 2] = [EventScope::Topics, EventScope::Shard(0)];

/// Returns the scopes of the next two events, which must be of one kind.
async fn scopes(
    events: &mut Receiver<CoordinatorEvent>,
    scope: impl Fn(&CoordinatorEvent) -> Option<EventScope>,
) -> BTreeSet<String> {
    let mut scopes = BTreeSet::new();
    for _ in SCOPES {
        let event = timeout(Duration::from_secs(10), events.recv()).await.expect("an event");
        let event = event.expect("the channel stays open");
        let scope = scope(&event).unwrap_or_else(|| panic!("{event:?}"));
        scopes.insert(format!("{scope:?}"));
    }
    scopes
}

fn disconnected(event: &CoordinatorEvent) -> Option<EventScope> {
    match event {
        CoordinatorEvent::Disconnected(scope) => Some(*scope),
        _ => None,
    }
}

fn gap(event: &CoordinatorEvent) -> Option<EventScope> {
    match event {
        CoordinatorEvent::Gap(scope) => Some(*scope),
        _ => None,
    }
}

fn both() -> BTreeSet<String> {
    SCOPES.iter().map(|scope| format!("{scope:?}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_learns_that_redis_cannot_be_reached_and_of_the_gap_afterwards() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = RedisProxy::start(server.port());
    let url = format!("redis://127.0.0.1:{}/", proxy.port());
    let timeout = Duration::from_secs(1);
    let coordinator = connect(RedisSettings { shards: 1, timeout, ..settings(&url, "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    let mut events = coordinator.subscribe().await.unwrap();
    // Connections that are closed, connections without an answer, and a server that is silent.
    for (sequence, mode) in (0..).zip([Mode::Refuse, Mode::HoldRequests, Mode::HoldResponses]) {
        proxy.set(mode);
        // Nothing passes, and it is said all the same.
        assert_eq!(scopes(&mut events, disconnected).await, both(), "{mode:?}");
        proxy.set(Mode::Pass);
        assert_eq!(scopes(&mut events, gap).await, both(), "{mode:?}");
        while coordinator.commit_all(&one_batch(sequence, 0)).await.is_err() {}
        let event = events.recv().await;
        assert!(matches!(event, Some(CoordinatorEvent::Committed { .. })), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscription_that_begins_without_redis_says_so() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = RedisProxy::start(server.port());
    let url = format!("redis://127.0.0.1:{}/", proxy.port());
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&url, "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    proxy.set(Mode::Refuse);
    let mut events = coordinator.subscribe().await.unwrap();
    assert_eq!(scopes(&mut events, disconnected).await, both());
    proxy.set(Mode::Pass);
    assert_eq!(scopes(&mut events, gap).await, both());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_are_a_gap() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    let mut events = coordinator.subscribe().await.unwrap();
    coordinator.commit_all(&one_batch(0, 0)).await.unwrap();
    assert!(matches!(events.recv().await, Some(CoordinatorEvent::Committed { .. })));
    server.query::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    for scopes_left in (1..=2 * SCOPES.len()).rev() {
        let event = events.recv().await.expect("the channel stays open");
        let is_expected = disconnected(&event).or_else(|| gap(&event)).is_some();
        assert!(is_expected, "{event:?}, {scopes_left} left");
    }
    while coordinator.commit_all(&one_batch(1, 0)).await.is_err() {}
    assert!(matches!(events.recv().await, Some(CoordinatorEvent::Committed { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missed_entries_are_a_gap_of_their_shard() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    let mut events = coordinator.subscribe().await.unwrap();
    // As if entries were added and trimmed.
    server.query::<i64>(&["HINCRBY", "odradek:{c:0}:meta", "sequence", "3"]);
    coordinator.commit_all(&one_batch(0, 0)).await.unwrap();
    assert_eq!(events.recv().await, Some(CoordinatorEvent::Gap(EventScope::Shard(0))));
    assert!(matches!(events.recv().await, Some(CoordinatorEvent::Committed { .. })));
}
