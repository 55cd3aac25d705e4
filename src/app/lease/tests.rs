//! Leases in virtual time: effective members during outages of the coordinator.

use super::*;
use crate::app::membership::LEAVE_PROPAGATION;
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

/// The names in the latest update.
fn effective_names(updates: &watch::Receiver<Option<MembershipUpdate>>) -> Vec<String> {
    let latest = updates.borrow();
    let members = latest.iter().flat_map(|update| &update.effective.members);
    members.map(|member| member.replica.clone()).collect()
}

struct Harness {
    memory: Arc<MemoryCoordinator>,
    faulty: Vec<Arc<FaultyCoordinator>>,
    updates: Vec<watch::Receiver<Option<MembershipUpdate>>>,
    leases: Vec<Lease>,
}

impl Harness {
    /// Starts three replicas with one coordinator, each with its own connection to it.
    async fn start() -> Self {
        let memory = Arc::new(MemoryCoordinator::new("model"));
        memory.attach("cluster", "z").await.unwrap();
        let mut harness = Self { memory, faulty: vec![], updates: vec![], leases: vec![] };
        for (seed, name) in (1..).zip(NAMES) {
            let inner = Arc::clone(&harness.memory) as Arc<dyn Coordinator>;
            let faulty = Arc::new(FaultyCoordinator::new(inner));
            let renewer = LeaseRenewer::new(
                Arc::clone(&faulty) as Arc<dyn Coordinator>,
                Member { incarnation: seed, ..member(name) },
                Arc::new(Entropy::from_seed(seed)),
                Arc::default(),
            );
            harness.updates.push(renewer.subscribe());
            harness.leases.push(renewer.acquire().await);
            harness.faulty.push(faulty);
        }
        tokio::time::sleep(RENEWAL_INTERVAL * 2).await;
        harness.assert_members(&NAMES);
        harness
    }

    fn assert_members(&self, names: &[&str]) {
        for updates in &self.updates {
            assert_eq!(effective_names(updates), names);
        }
    }

    /// Cuts a replica's connection to the coordinator, or restores it.
    fn set_disconnected(&self, replica: usize, is_disconnected: bool) {
        self.faulty[replica]
            .set_persistent(Operation::Renew, is_disconnected.then_some(Fault::REFUSED));
    }
}

#[tokio::test(start_paused = true)]
async fn crashed_member_is_removed_within_a_lease_and_a_renewal() {
    let mut harness = Harness::start().await;
    harness.leases.remove(2).renewer.abort();
    harness.updates.remove(2);
    let died = Instant::now();
    while harness.updates.iter().any(|updates| effective_names(updates) == NAMES) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        died.elapsed() > LEASE_DURATION - RENEWAL_INTERVAL - Duration::from_millis(JITTER_MS) * 2
    );
    assert!(
        died.elapsed() < LEASE_DURATION + RENEWAL_INTERVAL + Duration::from_millis(JITTER_MS) * 2
    );
    tokio::time::sleep(LEASE_DURATION).await;
    harness.assert_members(&["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn departed_member_is_removed_when_the_others_have_renewed() {
    let mut harness = Harness::start().await;
    let members = harness.leases[2].end().await.unwrap().members;
    let names: Vec<&str> = members.iter().map(|member| member.replica.as_str()).collect();
    assert_eq!(names, ["a", "b"], "the response to the release, before any other renewal");
    tokio::time::sleep(LEAVE_PROPAGATION).await;
    harness.assert_members(&["a", "b"]);
}

/// A drain may take long, and other replicas recover a process that does not run.
#[tokio::test(start_paused = true)]
async fn process_that_left_runs_until_it_is_stopped() {
    let mut harness = Harness::start().await;
    let of = |member: Member| member.process();
    let running = async |harness: &Harness| {
        let guest = Member { nodes: 0, incarnation: 9, ..member("guest") };
        let found = harness.memory.renew(&guest, Duration::ZERO).await.unwrap();
        assert_eq!(found.members.len(), 2);
        found.processes.contains(&of(Member { incarnation: 3, ..member("c") }))
    };
    harness.leases[2].end().await;
    let left = Instant::now();
    while left.elapsed() < Duration::from_secs(60) {
        assert!(running(&harness).await, "after {:?}", left.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    harness.leases[2].stop().await;
    assert!(!running(&harness).await);
}

#[tokio::test(start_paused = true)]
async fn members_are_retained_during_an_outage_of_the_coordinator() {
    let harness = Harness::start().await;
    (0..3).for_each(|replica| harness.set_disconnected(replica, true));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    harness.assert_members(&NAMES);
    // a and b reconnect one after the other; c does not.
    for replica in [0, 1] {
        harness.set_disconnected(replica, false);
        let healed = Instant::now();
        while healed.elapsed() < RENEWAL_INTERVAL + Duration::from_millis(JITTER_MS) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            harness.assert_members(&NAMES);
        }
    }
    let reported = harness
        .memory
        .renew(&Member { nodes: 0, ..member("guest") }, LEASE_DURATION)
        .await
        .unwrap();
    assert_eq!(reported.members.len(), 2, "the lease of c has expired");
    tokio::time::sleep(LEASE_DURATION + RENEWAL_INTERVAL * 2).await;
    for updates in &harness.updates[..2] {
        assert_eq!(effective_names(updates), ["a", "b"], "c is removed in the end");
    }
    assert_eq!(effective_names(&harness.updates[2]), NAMES, "c is cut off and removes no member");
}
