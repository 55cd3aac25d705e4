use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::clock::ManualClock;
use crate::coordinator::{CoordinatorEvent, EventScope, Member, Membership, ZoneRecord};
use crate::engine::cache::{ObjectCache, StoreSource};
use crate::store::memory::MemoryStore;
use crate::zone_cache::{PeerRing, PeerServer};

const SHARDS: u16 = 2;

fn member(name: &str, peer: Option<String>) -> Member {
    Member {
        replica: name.to_owned(),
        incarnation: 1,
        process_id: 1,
        zone: 0,
        zone_name: "z".to_owned(),
        peer,
        advertised_host: format!("{name}.example"),
        node_ports: 9300,
        broker_ports: 9100,
        nodes: 4,
        version: String::new(),
        settings: 0,
    }
}

/// Replica a, whose renewals fail, and replica b, which it can ask.
struct Harness {
    renewals: watch::Sender<RenewalHistory>,
    events: mpsc::Sender<CoordinatorEvent>,
    topology: Arc<SharedTopology>,
    b: Arc<PeerRing>,
}

impl Harness {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let me = member("a", None);
        let peer = member("b", Some(listener.local_addr().unwrap().to_string()));
        let zones = vec![ZoneRecord { name: "z".to_owned(), nodes: 4, last: None }];
        let members = vec![me.clone(), peer.clone()];
        let membership = Membership { members, zones, secret: [7; 32], ..Membership::default() };
        let rings = [&me, &peer].map(|member| Arc::new(PeerRing::new(member.clone())));
        for ring in &rings {
            // A membership that expired may be asked.
            ring.update_membership(membership.clone(), Instant::now());
        }
        let [a, b] = rings;
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let source = Arc::new(StoreSource(Arc::new(MemoryStore::default())));
        let server = PeerServer {
            cache: Arc::new(ObjectCache::new(source, 1 << 20)),
            ring: Arc::clone(&b),
            clock: Arc::clone(&clock) as _,
            metrics: Arc::default(),
        };
        Arc::new(server).start(listener);
        let (events, receiver) = mpsc::channel(8);
        let long_polls = Arc::new(LongPolls::default());
        let following = Arc::clone(&long_polls);
        tasks::spawn("events", async move { following.apply_events(receiver, |_| {}).await });
        let topology = Arc::new(SharedTopology::new(&me));
        topology.update(membership);
        let renewals = watch::Sender::new(RenewalHistory::default());
        let hosts = ZoneHosts::new(a, clock).unwrap();
        follow(renewals.subscribe(), SHARDS, &long_polls, &topology, hosts);
        Self { renewals, events, topology, b }
    }

    /// Records renewals that failed with `error`, the first of them 5 seconds after the last success.
    fn fail(&self, renewals: u32, error: &CoordinatorError) {
        let now = Instant::now();
        self.renewals.send_modify(|history| {
            history.record(now.checked_sub(Duration::from_secs(5)).unwrap(), None);
            (0..renewals).for_each(|_| history.record(now, Some(error)));
        });
    }

    async fn send_of_shards(&self, event: fn(EventScope) -> CoordinatorEvent, shards: u16) {
        for shard in 0..shards {
            self.events.send(event(EventScope::Shard(shard))).await.unwrap();
        }
    }

    /// Returns whether clients are sent away, once that has been decided.
    async fn is_cut_off(&self) -> bool {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.topology.is_superseded()
    }
}

fn unavailable() -> CoordinatorError {
    CoordinatorError::Unavailable("refused".to_owned())
}

#[tokio::test]
async fn replica_is_cut_off_only_if_the_coordinator_responds_to_another_one() {
    let harness = Harness::start().await;
    let second = Duration::from_secs(1);
    let (before, after) = (Instant::now(), Instant::now() + 60 * second);
    harness.b.renewed(after);
    harness.fail(2, &unavailable());
    assert!(!harness.is_cut_off().await, "the shards respond: the registry alone is away");
    harness.send_of_shards(CoordinatorEvent::Disconnected, SHARDS - 1).await;
    harness.fail(2, &unavailable());
    assert!(!harness.is_cut_off().await, "one shard responds");
    harness.send_of_shards(CoordinatorEvent::Disconnected, SHARDS).await;
    harness.fail(1, &unavailable());
    assert!(!harness.is_cut_off().await, "one failure");
    harness.fail(2, &CoordinatorError::MetadataLost("it responds".to_owned()));
    assert!(!harness.is_cut_off().await, "the coordinator responds, and refuses");
    harness.b.renewed(before);
    harness.fail(2, &unavailable());
    assert!(!harness.is_cut_off().await, "b has not renewed since: an outage for all");
    harness.b.renewed(after);
    harness.fail(2, &unavailable());
    assert!(harness.is_cut_off().await, "all conditions hold");

    let succeed = || {
        harness.renewals.send_modify(|history| history.record(Instant::now(), None));
    };
    harness.send_of_shards(CoordinatorEvent::Gap, SHARDS).await;
    succeed();
    assert!(harness.is_cut_off().await, "one success");
    harness.renewals.send_modify(|history| history.record(Instant::now(), Some(&unavailable())));
    succeed();
    assert!(harness.is_cut_off().await, "one success after another failure");
    succeed();
    assert!(!harness.is_cut_off().await, "two successes");
}
