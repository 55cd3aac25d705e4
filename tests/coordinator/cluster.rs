//! A Redis Cluster of three masters, each with replicas if the test needs them.

use std::net::TcpListener;

use crate::redis_server::{RedisServer, wait_until};

/// A Redis Cluster. The masters come first among the nodes.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

const SLOTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

impl RedisCluster {
    /// Starts three masters that share the slots, each with this number of replicas; returns
    /// `None` when `ODRADEK_SKIP_REDIS=1`.
    pub(crate) fn start(replicas: usize) -> Option<Self> {
        // Without replicas there is no failover, and a stopped master must not stop the others.
        let options = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
        ];
        let mut nodes = Vec::new();
        for (first, last) in SLOTS {
            let node = RedisServer::start_on(port_with_a_bus(), &options)?;
            let (first, last) = (first.to_string(), last.to_string());
            node.query::<String>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            nodes.push(node);
        }
        for _ in 0..replicas * SLOTS.len() {
            nodes.push(RedisServer::start_on(port_with_a_bus(), &options)?);
        }
        for node in &nodes[1..] {
            nodes[0].query::<String>(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
        }
        let known = format!("cluster_known_nodes:{}", nodes.len());
        let is_whole = |node: &RedisServer| {
            let info: String = node.query(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok")
                && info.contains("cluster_slots_ok:16384")
                && info.contains(&known)
        };
        wait_until("every node knows every slot", || nodes.iter().all(is_whole));
        let cluster = Self { nodes };
        cluster.replicate();
        Some(cluster)
    }

    fn replicate(&self) {
        let (masters, replicas) = self.nodes.split_at(SLOTS.len());
        for (index, replica) in replicas.iter().enumerate() {
            let id: String = masters[index % masters.len()].query(&["CLUSTER", "MYID"]);
            replica.query::<String>(&["CLUSTER", "REPLICATE", &id]);
            let in_sync = || {
                replica.query::<String>(&["INFO", "replication"]).contains("master_link_status:up")
            };
            wait_until("the replica follows", in_sync);
        }
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// Returns the index of the first master of a key's slot.
    pub(crate) fn master_of(&self, key: &str) -> usize {
        let slot: u16 = self.nodes[0].query(&["CLUSTER", "KEYSLOT", key]);
        SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).expect("a slot")
    }
}

/// A node also listens on its port plus 10,000.
fn port_with_a_bus() -> u16 {
    (0..1_000)
        .map(|_| crate::redis_server::free_port())
        .find(|port| {
            port.checked_add(10_000)
                .is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok())
        })
        .expect("a port whose bus port is free")
}
