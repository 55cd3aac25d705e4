//! The wire protocol: hand-written requests and decoded responses, compared with a broker's where a
//! broker is the reference.

mod addresses;
mod admin_requests;
pub(crate) mod alter_configs;
mod api_versions;
pub(crate) mod batch;
pub(crate) mod client;
pub(crate) mod connections;
mod differential;
mod edge_cases;
mod faults;
mod fetch;
mod fetch_faults;
mod hostile_clients;
mod hung_broker;
mod lifecycle;
pub(crate) mod malformed_requests;
pub(crate) mod misrouted;
mod offset_lookups;
mod permission_age;
mod produce;
pub(crate) mod requests;
mod shared_memory;
mod slow_store;
mod topic_creation;
mod unsupported_features;
pub(crate) mod zone_cache;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kafka_protocol::messages::{CreateTopicsRequest, MetadataRequest};
use uuid::Uuid;

use client::Client;
use lifecycle::LIMIT;
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

/// The id of the first diskless node of the first zone.
pub(crate) const NODE_0: i32 = 1_000_000_000;
const NODES: u16 = 4;

/// The replica that most of these tests share; started once, killed with the test binary.
fn replica() -> &'static Replica {
    static REPLICA: OnceLock<Replica> = OnceLock::new();
    // A short flush interval: these tests send one request at a time.
    REPLICA.get_or_init(|| Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n"))
}

/// Returns the addresses of the brokers themselves.
fn brokers() -> Vec<String> {
    Testbed::get().kafka().bootstrap().split(',').map(str::to_owned).collect()
}

/// A topic, the leaders of its partitions, and connections to them.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    /// Leaders by partition.
    pub(crate) leaders: BTreeMap<i32, i32>,
}

impl Topic {
    /// Creates a topic that the YAML's pattern makes diskless.
    fn diskless(stem: &str, partitions: i32) -> Self {
        let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}{stem}"));
        Self::create(replica(), &name, partitions, &[])
    }

    /// Creates a topic that matches no pattern.
    fn classic(stem: &str, partitions: i32) -> Self {
        let name = Testbed::get().unique(&format!("classic-{stem}"));
        Self::create(replica(), &name, partitions, &[])
    }

    pub(crate) fn create(
        replica: &Replica,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Self {
        let mut client = Client::connect(&replica.bootstrap());
        let response =
            client.call::<CreateTopicsRequest>(&requests::create(name, partitions, configs), 7);
        let row = &response.topics[0];
        assert_eq!(row.error_code, 0, "{name}: {:?}", row.error_message);
        Self::look_up(replica, name)
    }

    /// Looks a topic up in Metadata, once every broker knows it with leaders for all partitions.
    pub(crate) fn look_up(replica: &Replica, name: &str) -> Self {
        let requested = requests::metadata(&[name]);
        let endpoints = [1, 2, 3].map(|id| replica.broker(id));
        let mut clients = endpoints.map(|address| Client::connect(&address));
        let mut found = None;
        wait_until(name, LIMIT, || {
            let mut see = |client: &mut Client| {
                let topic = client.call::<MetadataRequest>(&requested, 12).topics.remove(0);
                let is_led = topic.error_code == 0
                    && !topic.partitions.is_empty()
                    && topic.partitions.iter().all(|p| p.error_code == 0 && p.leader_id.0 >= 0);
                let led = topic.partitions.iter().map(|p| (p.partition_index, p.leader_id.0));
                let leaders = led.collect();
                found = Some(Self { name: name.to_owned(), id: topic.topic_id, leaders });
                is_led
            };
            clients.iter_mut().all(&mut see)
        });
        found.expect("just found")
    }

    fn is_diskless(&self) -> bool {
        self.leaders[&0] >= NODE_0
    }

    /// Returns the endpoint that leads a partition.
    pub(crate) fn address(&self, replica: &Replica, partition: i32) -> String {
        let leader = self.leaders[&partition];
        let small = |id: i32| u16::try_from(id).expect("a small number");
        match leader >= NODE_0 {
            true => replica.node(small(leader - NODE_0)),
            false => replica.broker(small(leader)),
        }
    }

    /// Connects to the leader of partition 0.
    fn client(&self) -> Client {
        Client::connect(&self.address(replica(), 0))
    }
}
