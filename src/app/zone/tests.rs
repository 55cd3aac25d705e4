//! Leases in virtual time: who is believed to be there while the coordinator comes and goes.

use parking_lot::Mutex;

use super::*;
use crate::coordinator::faulty::{Fault, FaultyCoordinator, Operation};
use crate::coordinator::memory::MemoryCoordinator;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn member(name: &str) -> Member {
    Member {
        replica: name.to_owned(),
        incarnation: 1,
        process_id: 1,
        zone: 0,
        zone_name: "z".to_owned(),
        peer: None,
        advertised_host: format!("{name}.example"),
        node_ports: 9300,
        broker_ports: 9100,
        nodes: 4,
        version: String::new(),
        settings: 3,
    }
}

/// The names that were handed on last.
#[derive(Debug, Default)]
struct Last(Mutex<Vec<String>>);

#[async_trait]
impl Hears for Last {
    async fn hear(&self, news: News) {
        let names = news.kept.members.into_iter().map(|member| member.replica).collect();
        *self.0.lock() = names;
    }
}

impl Last {
    fn names(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

struct Rig {
    memory: Arc<MemoryCoordinator>,
    faulty: Vec<Arc<FaultyCoordinator>>,
    heard: Vec<Arc<Last>>,
    leases: Vec<Lease>,
}

impl Rig {
    /// Three replicas of one coordinator, each with its own way to it.
    async fn start() -> Self {
        let memory = Arc::new(MemoryCoordinator::new("model"));
        memory.attach("cluster", "z").await.unwrap();
        let mut rig = Self { memory, faulty: vec![], heard: vec![], leases: vec![] };
        for (seed, name) in (1..).zip(NAMES) {
            let inner = Arc::clone(&rig.memory) as Arc<dyn Coordinator>;
            let faulty = Arc::new(FaultyCoordinator::new(inner));
            let heard = Arc::new(Last::default());
            let keeper = Keeper::new(
                Arc::clone(&faulty) as Arc<dyn Coordinator>,
                member(name),
                Arc::clone(&heard) as Arc<dyn Hears>,
                Arc::new(Entropy::from_seed(seed)),
                Arc::default(),
            );
            rig.leases.push(keeper.take().await);
            rig.faulty.push(faulty);
            rig.heard.push(heard);
        }
        tokio::time::sleep(RENEWAL * 2).await;
        rig.all_know(&NAMES);
        rig
    }

    fn all_know(&self, names: &[&str]) {
        for heard in &self.heard {
            assert_eq!(heard.names(), names);
        }
    }

    /// A replica reaches the coordinator no more, or again.
    fn away(&self, replica: usize, is_away: bool) {
        self.faulty[replica].set_standing(Operation::Renew, is_away.then_some(Fault::REFUSED));
    }
}

#[tokio::test(start_paused = true)]
async fn who_dies_is_noticed_within_a_lease_and_a_renewal() {
    let mut rig = Rig::start().await;
    rig.leases.remove(2).keeper.abort();
    rig.heard.remove(2);
    let died = Instant::now();
    while rig.heard.iter().any(|heard| heard.names() == NAMES) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(died.elapsed() > LEASE - RENEWAL - Duration::from_millis(JITTER_MS) * 2);
    assert!(died.elapsed() < LEASE + RENEWAL + Duration::from_millis(JITTER_MS) * 2);
    tokio::time::sleep(LEASE).await;
    rig.all_know(&["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_gone_when_the_others_have_renewed() {
    let mut rig = Rig::start().await;
    rig.leases[2].end().await;
    tokio::time::sleep(NOTICE).await;
    rig.all_know(&["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn while_the_coordinator_is_away_nobody_is_dropped_nor_by_the_first_who_is_back() {
    let rig = Rig::start().await;
    (0..3).for_each(|replica| rig.away(replica, true));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    rig.all_know(&NAMES);
    // One after the other finds back; c never does.
    for replica in [0, 1] {
        rig.away(replica, false);
        let healed = Instant::now();
        while healed.elapsed() < RENEWAL + Duration::from_millis(JITTER_MS) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            rig.all_know(&NAMES);
        }
    }
    let told = rig.memory.renew(&Member { nodes: 0, ..member("guest") }, LEASE).await.unwrap();
    assert_eq!(told.members.len(), 2, "by its lease c is gone");
    tokio::time::sleep(LEASE + RENEWAL * 2).await;
    for heard in &rig.heard[..2] {
        assert_eq!(heard.names(), ["a", "b"], "in the end it is dropped");
    }
    assert_eq!(rig.heard[2].names(), NAMES, "which cannot know, drops nobody");
}
