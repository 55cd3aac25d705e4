//! Clients that send what no well-behaved client sends: none takes a replica from the others.

use std::fs;
use std::time::Duration;

use super::Topic;
use super::client::Client;
use super::requests::fetch;
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

fn own_replica() -> Replica {
    Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n")
}

fn own_topic(replica: &Replica, stem: &str, partitions: i32) -> Topic {
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}{stem}"));
    Topic::create(replica, &name, partitions, &[])
}

/// Returns the number of connections to a local port whose client has closed them.
fn half_closed(port: &str) -> usize {
    let port: u16 = port.parse().expect("a port");
    let suffix = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").expect("the connections");
    let is_half_closed = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|local| local.ends_with(&suffix)) && columns.nth(1) == Some("08")
    };
    table.lines().filter(is_half_closed).count()
}

#[test]
fn departed_client_is_noticed_while_its_requests_wait() {
    let replica = own_replica();
    let topic = own_topic(&replica, "departed", 1);
    let address = topic.address(&replica, 0);
    let at = topic.partition(0);
    let endless = fetch(at, 11, 0).with_max_wait_ms(i32::MAX);
    for _ in 0..50 {
        let mut client = Client::connect(&address);
        for _ in 0..70 {
            client.send(&endless, 11);
        }
    }
    let port = address.rsplit(':').next().expect("a port");
    wait_until("the connections are closed", Duration::from_secs(10), || half_closed(port) == 0);
}
