//! The broker goes away while clients are connected to a diskless node.

use std::time::{Duration, Instant};

use kafka_protocol::messages::{CreateTopicsRequest, MetadataRequest};
use uuid::Uuid;

use super::{LIMIT, login, plain, start_kafka};
use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{self, Target, append, produce};
use testbed::Testbed;
use testbed::kafka::Kafka;
use testbed::process::wait_until;
use testbed::replica::{Backends, Replica};

const AT: Target<'_> = Target { name: "diskless-lost", id: Uuid::nil(), partition: 0 };
/// Time for which permissions are cached.
const VALID: Duration = Duration::from_secs(30);
const FLUSH: &str = "flush: {interval: 20ms}\n";

fn create(mut client: Client) {
    let asked = requests::create(AT.name, 1, &[]);
    assert_eq!(client.call::<CreateTopicsRequest>(&asked, 7).topics[0].error_code, 0);
    wait_until("a leader", LIMIT, || {
        let asked = requests::metadata(&[AT.name]);
        let topic = client.call::<MetadataRequest>(&asked, 12).topics.remove(0);
        topic.error_code == 0 && topic.partitions.first().is_some_and(|p| p.leader_id.0 > 1)
    });
}

fn one() -> bytes::Bytes {
    Batch::of(&["x"]).bytes()
}

/// Without authentication the connection does not depend on its broker, and survives its loss.
#[test]
fn unauthenticated_connection_survives_broker_loss() {
    let mut kafka = Kafka::start(&Testbed::get().test_dir("lost-kafka"), 1);
    let replica = Replica::start_before(&kafka, "", Backends::Embedded, FLUSH);
    create(Client::connect(&replica.bootstrap()));
    let [mut busy, mut late] = [0, 0].map(|k| Client::connect(&replica.node(k)));
    assert_eq!(append(&mut busy, AT, one()), 0);
    assert_eq!(append(&mut late, AT, one()), 1);
    // Both connections have requested their permissions before.
    let asked = Instant::now();
    kafka.kill9();
    assert_eq!(append(&mut busy, AT, one()), 2, "the cached permissions are still valid");
    std::thread::sleep(VALID.saturating_sub(asked.elapsed()) + Duration::from_millis(100));
    late.send(&produce(AT, 9, -1, one()), 9);
    assert!(late.is_closed(), "the permissions are unknown");
    kafka.restart();
    assert_eq!(append(&mut busy, AT, one()), 3, "the same connection continues");
}

/// The broker that authenticated the client is gone, so the client has to authenticate again.
#[test]
fn authenticated_connection_closes_on_broker_loss() {
    let dir = Testbed::get().test_dir("lost-secured-kafka");
    let mut kafka = start_kafka(&dir);
    // Odradek has no permissions here, so it uses those of the administrator.
    let login = login(&dir, "PLAIN").replace("username: odradek", "username: admin");
    std::fs::write(dir.join("odradek.password"), "admin-secret")
        .expect("the directory is writable");
    let replica = Replica::start_before(&kafka, &login, Backends::Embedded, FLUSH);
    create(plain(&replica.bootstrap(), "admin"));
    let mut client = plain(&replica.node(0), "admin");
    assert_eq!(append(&mut client, AT, one()), 0);
    let killed = Instant::now();
    kafka.kill9();
    assert!(client.is_closed());
    assert!(killed.elapsed() < VALID / 2, "at once, not with the next request");
}
