//! A run: the hosts, the faults that a seed chooses, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use odradek::clock::ManualClock;
use odradek::coordinator::memory::MemoryCoordinator;
use odradek::entropy::Entropy;
use odradek::store::memory::MemoryStore;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use turmoil::{Builder, Sim};

use crate::batches::NOW;
use crate::books::Books;
use crate::clients::{Consumer, Producer};
use crate::ports::{CoordinatorDesk, Model, RemoteStore, SlowStore};
use crate::replica::{Recipe, live};
use crate::rpc::Desk;

pub(crate) const PARTITIONS: i32 = 3;
/// Two in each of three zones; in the engine's eyes a zone is nothing but its replicas.
const REPLICAS: usize = 6;
const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 2;
/// Faults begin within this time of a run …
const TROUBLE: Duration = Duration::from_secs(15);
/// … and everybody must have come to the end after this one.
const END: Duration = Duration::from_secs(180);
const TICK: Duration = Duration::from_millis(5);

/// What all hosts of a run share.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) books: Arc<Books>,
    pub(crate) replicas: Vec<Arc<Recipe>>,
    pub(crate) model: Arc<Model>,
    store: Arc<SlowStore>,
    /// Producers that have not come to their end.
    pub(crate) producing: AtomicUsize,
}

/// Runs the world of a seed to its end; what happened is in the books.
pub(crate) fn run(seed: u64, books: &Arc<Books>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .simulation_duration(END + Duration::from_secs(60))
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(rng.random_range(5..80)))
        .tcp_capacity(1024)
        .build();
    let world = people(&mut sim, seed, books);
    let mut trouble = Trouble { rng, mending: Vec::new(), next: Duration::ZERO };
    loop {
        trouble.step(&mut sim, &world);
        match sim.step() {
            Ok(true) => break,
            Ok(false) if sim.elapsed() < END => {}
            Ok(false) => return books.wrong("somebody never came to the end"),
            Err(error) => return books.wrong(format!("the simulation ended: {error}")),
        }
    }
    books.balance();
}

/// Puts all hosts into the network.
fn people(sim: &mut Sim<'_>, seed: u64, books: &Arc<Books>) -> Arc<World> {
    let store = Arc::new(SlowStore {
        memory: MemoryStore::new(),
        entropy: Entropy::from_seed(seed + 1),
        slowest: AtomicU64::new(60),
    });
    let memory = MemoryCoordinator::new("sim");
    let model = Arc::new(Model { memory, refuses: AtomicBool::new(false) });
    let (store_desk, coordinator) = (Desk::new("store"), CoordinatorDesk::new("coordinator"));
    let lives = Arc::new(AtomicU64::new(1));
    let recipe = |tag: usize| Recipe {
        seed,
        tag: tag as u32,
        store: RemoteStore(Arc::clone(&store_desk)),
        coordinator: Arc::clone(&coordinator),
        clock: Arc::new(ManualClock::new(NOW)),
        calls: Desk::new(&replica(tag)),
        produce: Arc::default(),
        lives: Arc::clone(&lives),
    };
    let world = Arc::new(World {
        seed,
        books: Arc::clone(books),
        replicas: (0..REPLICAS).map(recipe).map(Arc::new).collect(),
        model: Arc::clone(&model),
        store: Arc::clone(&store),
        producing: AtomicUsize::new(PRODUCERS as usize),
    });
    sim.host("store", move || {
        let (desk, store) = (Arc::clone(&store_desk), Arc::clone(&store));
        async move { Ok(desk.serve(store).await?) }
    });
    sim.host("coordinator", move || {
        let (desk, model) = (Arc::clone(&coordinator), Arc::clone(&model));
        async move {
            odradek::tasks::spawn("publish", Arc::clone(&desk).publish(Arc::clone(&model)));
            Ok(Arc::clone(&desk.calls).serve(model).await?)
        }
    });
    for recipe in &world.replicas {
        let recipe = Arc::clone(recipe);
        sim.host(recipe.calls.host().to_owned(), move || {
            let recipe = Arc::clone(&recipe);
            async move { Ok(live(recipe).await?) }
        });
    }
    for id in 1..=PRODUCERS {
        let producer = Producer::new(id, Arc::clone(&world));
        sim.client(format!("producer-{id}"), async move {
            producer.run().await;
            Ok(())
        });
    }
    for id in 1..=CONSUMERS {
        let consumer = Consumer::new(id, Arc::clone(&world));
        sim.client(format!("consumer-{id}"), async move {
            consumer.run().await;
            Ok(())
        });
    }
    world
}

fn replica(index: usize) -> String {
    format!("replica-{index}")
}

/// All hosts but the replicas, which do not talk to each other.
fn everybody_else() -> impl Iterator<Item = String> {
    let producers = (1..=PRODUCERS).map(|id| format!("producer-{id}"));
    let consumers = (1..=CONSUMERS).map(|id| format!("consumer-{id}"));
    ["store", "coordinator"].map(str::to_owned).into_iter().chain(producers).chain(consumers)
}

/// What a fault did, and will be undone.
#[derive(Clone, Debug)]
enum Mend {
    Bounce(String),
    Repair(String, String),
    Release(String, String),
    FastStore,
    WillingCoordinator,
}

/// The faults of a run.
struct Trouble {
    rng: StdRng,
    /// What is to be undone when.
    mending: Vec<(Duration, Mend)>,
    next: Duration,
}

impl Trouble {
    fn step(&mut self, sim: &mut Sim<'_>, world: &World) {
        let now = sim.elapsed();
        world.books.set_time(now);
        let due: Vec<Mend> =
            self.mending.extract_if(.., |(at, _)| *at <= now).map(|(_, mend)| mend).collect();
        for mend in due {
            world.books.note(format!("{mend:?}"));
            match mend {
                Mend::Bounce(host) => {
                    everybody_else().for_each(|other| sim.repair(host.clone(), other));
                    sim.bounce(host);
                }
                Mend::Repair(a, b) => sim.repair(a, b),
                Mend::Release(a, b) => sim.release(a, b),
                Mend::FastStore => world.store.slowest.store(60, Ordering::Relaxed),
                Mend::WillingCoordinator => world.model.refuses.store(false, Ordering::Relaxed),
            }
        }
        if now >= self.next && now < TROUBLE {
            self.next = now + Duration::from_millis(self.rng.random_range(100..1_500));
            self.fault(sim, world, now);
        }
    }

    fn fault(&mut self, sim: &mut Sim<'_>, world: &World, now: Duration) {
        let until = now + Duration::from_millis(self.rng.random_range(50..5_000));
        let (what, mend) = match self.rng.random_range(0..8) {
            0 | 1 => {
                let host = replica(self.rng.random_range(0..REPLICAS));
                let is_dead = |m: &(_, Mend)| matches!(&m.1, Mend::Bounce(dead) if *dead == host);
                if self.mending.iter().any(is_dead) {
                    return;
                }
                // Its last words would come in any order, and no seed would be the same twice.
                everybody_else().for_each(|other| sim.partition(host.clone(), other));
                sim.crash(host.clone());
                ("kills", Mend::Bounce(host))
            }
            fault @ 2..=5 => {
                let (a, b) = self.pair();
                match fault {
                    2 => {
                        sim.partition_oneway(a.clone(), b.clone());
                        ("cuts one way", Mend::Repair(a, b))
                    }
                    3 => {
                        sim.partition_oneway(b.clone(), a.clone());
                        ("cuts the other way", Mend::Repair(a, b))
                    }
                    4 => {
                        sim.partition(a.clone(), b.clone());
                        ("cuts", Mend::Repair(a, b))
                    }
                    _ => {
                        sim.hold(a.clone(), b.clone());
                        ("holds", Mend::Release(a, b))
                    }
                }
            }
            6 => {
                world.store.slowest.store(self.rng.random_range(200..3_000), Ordering::Relaxed);
                ("slows the store", Mend::FastStore)
            }
            _ if self.rng.random() => {
                world.model.refuses.store(true, Ordering::Relaxed);
                ("has the coordinator refuse", Mend::WillingCoordinator)
            }
            _ => {
                let jump: i64 = self.rng.random_range(-3_600_000..3_600_000);
                let which = self.rng.random_range(0..REPLICAS);
                world.replicas[which].clock.set(NOW + jump);
                world.books.note(format!("clock of {which} jumps by {jump} ms"));
                return world.books.count("clocks moved");
            }
        };
        world.books.count(what);
        world.books.note(format!("{what}, until {until:?}: {mend:?}"));
        self.mending.push((until, mend));
    }

    /// A replica, and whom it talks to.
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
