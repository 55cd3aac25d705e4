//! The faults: what is done to processes and to the network, and undone again.

use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::cluster::{BROKERS, Cluster, REPLICAS, SENTINELS, STORE};
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
}

/// The faults by the name that `CHAOS_ONLY` takes.
pub(crate) const FAULTS: [&str; 15] = [
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
];

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
            other => panic!("invalid CHAOS_ONLY `{other}`: expected some of {FAULTS:?}"),
        }
    }

    /// Injects the fault, waits for `hold`, and removes it.
    pub(crate) fn inject(&self, cluster: &mut Cluster, hold: Duration) {
        match self {
            Self::KillReplica(name) => kill(cluster, &[name], hold),
            Self::KillZone(zone) => kill(cluster, &REPLICAS[2 * zone..2 * zone + 2], hold),
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
        }
    }
}

fn kill(cluster: &mut Cluster, names: &[&str], hold: Duration) {
    let times: Vec<usize> = names.iter().map(|name| cluster.times_ready(name)).collect();
    names.iter().for_each(|name| cluster.kill_replica(name));
    wait(hold);
    names.iter().for_each(|name| cluster.start_replica(name));
    for (name, times) in names.iter().zip(times) {
        cluster.await_ready(name, times + 1);
    }
}

pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}
