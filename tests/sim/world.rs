//! A run: its hosts, the faults chosen by the seed, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use odradek::clock::ManualClock;
use odradek::entropy::Entropy;
use odradek::store::memory::MemoryStore;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use turmoil::{Builder, Sim};

use crate::batches::NOW;
use crate::clients::{Consumer, Producer};
use crate::history::HistoryChecker;
use crate::isolation::{self, ISOLATION_END, Isolation, Progress};
use crate::ports::{CoordinatorServer, RemoteStore, SlowStore};
use crate::replica::{ReplicaSpec, run_replica};
use crate::rpc::RpcServer;
use crate::shards::{Model, SHARDS, ShardFault};

pub(crate) const PARTITIONS: i32 = 3;
/// Two in each of three zones; to the engine, a zone is only the set of its replicas.
const REPLICAS: usize = 6;
const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 2;
/// Faults start within this time of a run …
const FAULT_PERIOD: Duration = Duration::from_secs(20);
/// … and all clients must have finished by this one.
const DEADLINE: Duration = Duration::from_secs(180);
/// Greatest step of a replica's clock.
const CLOCK_JUMP_MS: i64 = 30 * 3_600_000;
const TICK: Duration = Duration::from_millis(5);

/// State shared by all hosts of a run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) history: Arc<HistoryChecker>,
    pub(crate) replicas: Vec<Arc<ReplicaSpec>>,
    pub(crate) model: Arc<Model>,
    store: Arc<SlowStore>,
    /// Producers that have not finished.
    pub(crate) producing: AtomicUsize,
    pub(crate) progress: Progress,
}

/// Runs the world of a seed to its end and records it in `history`.
pub(crate) fn run(seed: u64, history: &Arc<HistoryChecker>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .simulation_duration(DEADLINE + Duration::from_secs(60))
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(rng.random_range(5..80)))
        .tcp_capacity(1024)
        .build();
    let world = build_hosts(&mut sim, seed, history);
    let mut isolation = Isolation::new(&mut rng);
    let mut nemesis = Nemesis { rng, recoveries: Vec::new(), next: ISOLATION_END };
    loop {
        isolation.step(sim.elapsed(), &world);
        nemesis.step(&mut sim, &world);
        match sim.step() {
            Ok(true) => break,
            Ok(false) if sim.elapsed() < DEADLINE => {}
            Ok(false) => return history.violation("a client has not finished"),
            Err(error) => return history.violation(format!("the simulation ended: {error}")),
        }
    }
    history.check();
}

/// Adds all hosts to the network.
fn build_hosts(sim: &mut Sim<'_>, seed: u64, history: &Arc<HistoryChecker>) -> Arc<World> {
    let store = Arc::new(SlowStore {
        memory: MemoryStore::new(),
        entropy: Entropy::from_seed(seed + 1),
        latency_max_ms: AtomicU64::new(60),
    });
    let model = Arc::new(Model::new(history));
    let (store_server, coordinator) =
        (RpcServer::new("store"), CoordinatorServer::new("coordinator"));
    let incarnations = Arc::new(AtomicU64::new(1));
    let spec = |tag: usize| ReplicaSpec {
        seed,
        tag: tag as u32,
        store: RemoteStore(Arc::clone(&store_server)),
        coordinator: Arc::clone(&coordinator),
        clock: Arc::new(ManualClock::new(NOW)),
        calls: RpcServer::new(&replica(tag)),
        produce: Arc::default(),
        incarnations: Arc::clone(&incarnations),
    };
    let world = Arc::new(World {
        seed,
        history: Arc::clone(history),
        replicas: (0..REPLICAS).map(spec).map(Arc::new).collect(),
        model: Arc::clone(&model),
        store: Arc::clone(&store),
        producing: AtomicUsize::new(PRODUCERS as usize + PARTITIONS as usize),
        progress: Progress::default(),
    });
    sim.host("store", move || {
        let (server, store) = (Arc::clone(&store_server), Arc::clone(&store));
        async move { Ok(server.serve(store).await?) }
    });
    sim.host("coordinator", move || {
        let (server, model) = (Arc::clone(&coordinator), Arc::clone(&model));
        async move {
            odradek::tasks::spawn("publish", Arc::clone(&server).publish(Arc::clone(&model)));
            Ok(Arc::clone(&server.calls).serve(model).await?)
        }
    });
    for spec in &world.replicas {
        let spec = Arc::clone(spec);
        sim.host(spec.calls.host().to_owned(), move || {
            let spec = Arc::clone(&spec);
            async move { Ok(run_replica(spec).await?) }
        });
    }
    add_clients(sim, &world);
    world
}

fn add_clients(sim: &mut Sim<'_>, world: &Arc<World>) {
    for id in 1..=PRODUCERS {
        let producer = Producer::new(id, Arc::clone(world));
        sim.client(format!("producer-{id}"), async move {
            producer.run().await;
            Ok(())
        });
    }
    for index in 0..PARTITIONS {
        let (id, world) = (PRODUCERS + 1 + index as u64, Arc::clone(world));
        sim.client(format!("plain-producer-{index}"), async move {
            isolation::plain_producer(world, id, index).await;
            Ok(())
        });
    }
    let reading = Arc::clone(world);
    sim.client("reader", async move {
        isolation::reader(reading).await;
        Ok(())
    });
    for id in 1..=CONSUMERS {
        let consumer = Consumer::new(id, Arc::clone(world));
        sim.client(format!("consumer-{id}"), async move {
            consumer.run().await;
            Ok(())
        });
    }
}

fn replica(index: usize) -> String {
    format!("replica-{index}")
}

/// Returns all hosts except the replicas, which do not communicate with each other.
fn other_hosts() -> impl Iterator<Item = String> {
    let producers = (1..=PRODUCERS).map(|id| format!("producer-{id}"));
    let consumers = (1..=CONSUMERS).map(|id| format!("consumer-{id}"));
    ["store", "coordinator"].map(str::to_owned).into_iter().chain(producers).chain(consumers)
}

/// The end of a fault.
#[derive(Clone, Debug)]
enum Recovery {
    Restart(String),
    Repair(String, String),
    Release(String, String),
    ResetStoreLatency,
    ResetCoordinator,
    ResetShard(u16),
}

/// Injects the faults of a run.
struct Nemesis {
    rng: StdRng,
    /// The ends of the active faults.
    recoveries: Vec<(Duration, Recovery)>,
    next: Duration,
}

impl Nemesis {
    fn step(&mut self, sim: &mut Sim<'_>, world: &World) {
        let now = sim.elapsed();
        world.history.set_time(now);
        let due: Vec<Recovery> = self
            .recoveries
            .extract_if(.., |(at, _)| *at <= now)
            .map(|(_, recovery)| recovery)
            .collect();
        for recovery in due {
            world.history.log_event(format!("{recovery:?}"));
            match recovery {
                Recovery::Restart(host) => {
                    other_hosts().for_each(|other| sim.repair(host.clone(), other));
                    sim.bounce(host);
                }
                Recovery::Repair(a, b) => sim.repair(a, b),
                Recovery::Release(a, b) => sim.release(a, b),
                Recovery::ResetStoreLatency => {
                    world.store.latency_max_ms.store(60, Ordering::Relaxed)
                }
                Recovery::ResetCoordinator => {
                    world.model.is_unavailable.store(false, Ordering::Relaxed)
                }
                Recovery::ResetShard(shard) => world.model.set_fault(shard, ShardFault::None),
            }
        }
        if now >= self.next && now < FAULT_PERIOD {
            self.next = now + Duration::from_millis(self.rng.random_range(100..1_500));
            self.fault(sim, world, now);
        }
    }

    fn fault(&mut self, sim: &mut Sim<'_>, world: &World, now: Duration) {
        let until = now + Duration::from_millis(self.rng.random_range(50..5_000));
        let (what, recovery) = match self.rng.random_range(0..10) {
            0 | 1 => {
                let host = replica(self.rng.random_range(0..REPLICAS));
                let is_dead =
                    |m: &(_, Recovery)| matches!(&m.1, Recovery::Restart(dead) if *dead == host);
                if self.recoveries.iter().any(is_dead) {
                    return;
                }
                // Partitioned first: messages sent while it crashes would arrive in arbitrary order, and a seed
                // would not be reproducible.
                other_hosts().for_each(|other| sim.partition(host.clone(), other));
                sim.crash(host.clone());
                ("kills", Recovery::Restart(host))
            }
            fault @ 2..=5 => {
                let (a, b) = self.pair();
                match fault {
                    2 => {
                        sim.partition_oneway(a.clone(), b.clone());
                        ("cuts one way", Recovery::Repair(a, b))
                    }
                    3 => {
                        sim.partition_oneway(b.clone(), a.clone());
                        ("cuts the other way", Recovery::Repair(a, b))
                    }
                    4 => {
                        sim.partition(a.clone(), b.clone());
                        ("cuts", Recovery::Repair(a, b))
                    }
                    _ => {
                        sim.hold(a.clone(), b.clone());
                        ("holds", Recovery::Release(a, b))
                    }
                }
            }
            6 => {
                world
                    .store
                    .latency_max_ms
                    .store(self.rng.random_range(200..3_000), Ordering::Relaxed);
                ("slows the store", Recovery::ResetStoreLatency)
            }
            7 | 8 => {
                let (shard, fault) = self.shard_fault();
                if world.model.fault(shard) != ShardFault::None {
                    return;
                }
                world.history.log_event(format!("shard {shard} is {fault:?}"));
                world.model.set_fault(shard, fault);
                ("has a shard fail", Recovery::ResetShard(shard))
            }
            _ if self.rng.random() => {
                world.model.is_unavailable.store(true, Ordering::Relaxed);
                ("has the coordinator refuse", Recovery::ResetCoordinator)
            }
            _ => {
                // Beyond the time after which idempotent producers expire.
                let jump: i64 = self.rng.random_range(-CLOCK_JUMP_MS..CLOCK_JUMP_MS);
                let which = self.rng.random_range(0..REPLICAS);
                world.replicas[which].clock.set(NOW + jump);
                world.history.log_event(format!("clock of {which} jumps by {jump} ms"));
                return world.history.count("clocks moved");
            }
        };
        world.history.count(what);
        world.history.log_event(format!("{what}, until {until:?}: {recovery:?}"));
        self.recoveries.push((until, recovery));
    }

    fn shard_fault(&mut self) -> (u16, ShardFault) {
        let faults = [
            ShardFault::Refusing,
            ShardFault::Silent,
            ShardFault::Migrating,
            ShardFault::Quarantined,
            ShardFault::WithoutIndex,
        ];
        (self.rng.random_range(0..SHARDS), faults[self.rng.random_range(0..faults.len())])
    }

    /// Chooses a replica and a host that it communicates with.
    fn pair(&mut self) -> (String, String) {
        let replica = replica(self.rng.random_range(0..REPLICAS));
        let other = match self.rng.random_range(0..6) {
            0 | 1 => "store".to_owned(),
            2 | 3 => "coordinator".to_owned(),
            4 => format!("producer-{}", self.rng.random_range(1..=PRODUCERS)),
            _ => format!("consumer-{}", self.rng.random_range(1..=CONSUMERS)),
        };
        (replica, other)
    }
}
