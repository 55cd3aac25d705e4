//! The faults: what is done to processes and to the network, and undone again.

use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::cluster::{BROKERS, Cluster, REPLICAS, SENTINELS, STORE, STRANGER};
use crate::net::Direction;

/// One fault.
#[derive(Clone, Debug)]
pub(crate) enum Nemesis {
    KillReplica(&'static str),
    KillZone(usize),
    /// SIGSTOP, and SIGCONT afterwards: the process does not notice that time has passed.
    Freeze(&'static str),
    Cut(&'static str, Vec<&'static str>, Direction),
    Lossy(&'static str, u32),
    /// Throttles a replica's outgoing traffic to this many kilobits per second.
    SlowLink(&'static str, u32),
    SlowStore,
    /// The wall clock of one replica jumps by this many seconds, and back.
    ClockJump(i32),
    /// One replica after the other drains and restarts.
    Roll,
    FailRedisOver,
    KillRedisMaster,
    KillBroker(&'static str),
    /// Stops a broker without closing its connections, until clients have made progress.
    HangBroker(&'static str),
    /// A zone whose replicas end and stay away until clients have made progress.
    LoseZone(usize),
    /// The client of many connections to a replica vanishes without closing them.
    HalfOpenClients(&'static str),
    /// A replica that may open few files, and more connections than that allows.
    FewDescriptors(&'static str),
}

/// The faults by the name that `CHAOS_ONLY` takes.
pub(crate) const FAULTS: [&str; 19] = [
    "kill-replica",
    "kill-zone",
    "freeze",
    "cut-redis",
    "cut-store",
    "cut-broker",
    "cut-replica",
    "lossy",
    "slow-link",
    "slow-store",
    "clock-jump",
    "roll",
    "fail-redis-over",
    "kill-redis",
    "kill-broker",
    "hang-broker",
    "lose-zone",
    "half-open",
    "few-descriptors",
];

/// The open files of a replica under [`Nemesis::FewDescriptors`]: they allow 192 connections.
const FEW_DESCRIPTORS: u32 = 512;
/// The connections of one client that sends nothing.
const IDLE_CONNECTIONS: u32 = 400;

impl Nemesis {
    pub(crate) fn named(kind: &str, rng: &mut StdRng) -> Self {
        let replica = *REPLICAS.choose(rng).expect("some");
        let way = *[Direction::In, Direction::Out, Direction::Both].choose(rng).expect("some");
        match kind {
            "kill-replica" => Self::KillReplica(replica),
            "kill-zone" => Self::KillZone(rng.random_range(0..3)),
            "freeze" => Self::Freeze(replica),
            "cut-redis" => Self::Cut(replica, SENTINELS.to_vec(), way),
            "cut-store" => Self::Cut(replica, vec![STORE], way),
            "cut-broker" => Self::Cut(replica, vec![BROKERS.choose(rng).expect("some")], way),
            "cut-replica" => {
                let others: Vec<_> = REPLICAS.into_iter().filter(|r| *r != replica).collect();
                Self::Cut(replica, others, way)
            }
            "lossy" => Self::Lossy(replica, rng.random_range(2..15)),
            "slow-link" => Self::SlowLink(replica, rng.random_range(300..3_000)),
            "slow-store" => Self::SlowStore,
            "clock-jump" => Self::ClockJump(rng.random_range(-7_200..7_200)),
            "roll" => Self::Roll,
            "fail-redis-over" => Self::FailRedisOver,
            "kill-redis" => Self::KillRedisMaster,
            // The first broker is the only controller.
            "kill-broker" => Self::KillBroker(BROKERS[rng.random_range(1..3)]),
            "hang-broker" => Self::HangBroker(BROKERS[rng.random_range(1..3)]),
            "lose-zone" => Self::LoseZone(rng.random_range(0..3)),
            "half-open" => Self::HalfOpenClients(replica),
            "few-descriptors" => Self::FewDescriptors(replica),
            other => panic!("invalid CHAOS_ONLY `{other}`: expected some of {FAULTS:?}"),
        }
    }

    /// Returns whether the fault lasts until [`Nemesis::remove`], so that clients have to make
    /// progress despite it.
    pub(crate) fn lasts(&self) -> bool {
        matches!(
            self,
            Self::HangBroker(_)
                | Self::LoseZone(_)
                | Self::HalfOpenClients(_)
                | Self::FewDescriptors(_)
        )
    }

    /// Injects the fault and waits for `hold`. Then removes it, unless it lasts.
    pub(crate) fn inject(&self, cluster: &mut Cluster, hold: Duration) {
        match self {
            Self::KillReplica(name) => restart(cluster, &[name], hold, None),
            Self::KillZone(zone) => restart(cluster, zone_replicas(*zone), hold, None),
            Self::Freeze(name) => {
                cluster.signal(name, "STOP");
                wait(hold);
                cluster.signal(name, "CONT");
            }
            Self::Cut(name, others, way) => {
                others.iter().for_each(|other| cluster.net.cut(name, other, *way));
                wait(hold);
                cluster.net.restore(name);
            }
            Self::Lossy(name, percent) => {
                cluster.net.lose(name, *percent);
                wait(hold);
                cluster.net.restore(name);
            }
            Self::SlowLink(name, kilobits) => {
                cluster.net.slow(name, &format!("{kilobits}kbit"));
                wait(hold);
                cluster.net.restore_rate(name);
            }
            Self::ClockJump(seconds) => {
                cluster.jump(&format!("{seconds:+}"));
                wait(hold);
                cluster.jump("+0");
            }
            Self::SlowStore => {
                cluster.set_store_latency("800/3000", "500/2000");
                wait(hold);
                cluster.set_store_latency("20/80", "10/40");
            }
            Self::Roll => {
                for name in REPLICAS {
                    let times = cluster.times_ready(name);
                    cluster.drain_replica(name);
                    cluster.start_replica(name);
                    cluster.await_ready(name, times + 1);
                }
            }
            Self::FailRedisOver => {
                cluster.await_whole_redis();
                cluster.fail_redis_over();
            }
            Self::KillRedisMaster => {
                cluster.await_whole_redis();
                let master = cluster.redis_master();
                cluster.kill_redis(master);
                wait(hold);
                cluster.await_other_master(master);
                cluster.start_redis(master);
            }
            Self::KillBroker(name) => {
                cluster.kill_broker(name);
                wait(hold);
                cluster.start_broker(name);
            }
            Self::HangBroker(_)
            | Self::LoseZone(_)
            | Self::HalfOpenClients(_)
            | Self::FewDescriptors(_) => {
                self.begin(cluster);
                wait(hold);
            }
        }
    }

    /// Begins a fault that lasts.
    fn begin(&self, cluster: &mut Cluster) {
        match self {
            Self::HangBroker(name) => cluster.signal_broker(name, "STOP"),
            Self::LoseZone(zone) => {
                zone_replicas(*zone).iter().for_each(|name| cluster.kill_replica(name));
            }
            Self::HalfOpenClients(name) => {
                cluster.open_idle_connections(name, IDLE_CONNECTIONS);
                cluster.net.cut(STRANGER, name, Direction::Both);
                cluster.kill_idle_connections();
            }
            Self::FewDescriptors(name) => {
                restart(cluster, &[name], Duration::ZERO, Some(FEW_DESCRIPTORS));
                cluster.open_idle_connections(name, IDLE_CONNECTIONS);
            }
            _ => {}
        }
    }

    /// Removes a fault that lasts.
    pub(crate) fn remove(&self, cluster: &mut Cluster) {
        match self {
            Self::HangBroker(name) => cluster.signal_broker(name, "CONT"),
            Self::LoseZone(zone) => {
                restart(cluster, zone_replicas(*zone), Duration::ZERO, None);
            }
            Self::HalfOpenClients(_) => cluster.net.restore(STRANGER),
            Self::FewDescriptors(name) => {
                cluster.kill_idle_connections();
                restart(cluster, &[name], Duration::ZERO, None);
            }
            _ => {}
        }
    }
}

fn zone_replicas(zone: usize) -> &'static [&'static str] {
    &REPLICAS[2 * zone..2 * zone + 2]
}

/// Kills replicas that run, and starts them after `hold`, with a limit on open files if one is given.
fn restart(cluster: &mut Cluster, names: &[&str], hold: Duration, open_files: Option<u32>) {
    let times: Vec<usize> = names.iter().map(|name| cluster.times_ready(name)).collect();
    names.iter().for_each(|name| cluster.kill_replica(name));
    wait(hold);
    names.iter().for_each(|name| cluster.start_replica_with(name, open_files));
    for (name, times) in names.iter().zip(times) {
        cluster.await_ready(name, times + 1);
    }
}

pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}
