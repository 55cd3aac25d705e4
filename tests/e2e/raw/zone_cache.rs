//! The zone cache: replicas of one zone over one store and one Redis, and the requests that the
//! store receives.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::Topic;
use super::batch::{Batch, read, stored_bytes};
use super::client::Client;
use super::lifecycle::LIMIT;
use super::requests::{append, fetch, fetched};
use testbed::Testbed;
use testbed::ports::free_ports;
use testbed::process::wait_until;
use testbed::replica::{DISKLESS_PREFIX, Replica};
use testbed::slow_s3::SlowS3;

/// Each batch is acknowledged before the next one is sent, so each is in an object of its own.
const OBJECTS: u64 = 8;
const CONSUMERS: usize = 3;

struct Member {
    replica: Replica,
    peer_port: u16,
}

impl Member {
    fn start(cluster: &str, store: &SlowS3) -> Self {
        let peer_port = free_ports(1);
        let peers = format!("peers: {{bind: \"127.0.0.1:{peer_port}\"}}\n");
        let coordinator = Testbed::get().redis().yaml();
        let replica = Replica::start_of(cluster, &store.yaml(), &coordinator, &peers);
        Self { replica, peer_port }
    }

    fn metric(&self, name: &str) -> u64 {
        let admin = u16::try_from(self.replica.ports().start + 1).expect("a port");
        let text = get(admin, "/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        value.map_or(0, |value| value.parse().expect("a number"))
    }
}

/// Sends an unsigned HTTP request; returns the raw response.
pub(crate) fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Waits until all members that are ready now have observed each other.
fn wait_for_membership(members: &[&Member]) {
    let renewals = |member: &&Member| member.metric("odradek_lease_renewals_total");
    let before: Vec<_> = members.iter().map(renewals).collect();
    wait_until("every lease is renewed", LIMIT, || {
        // The first renewal may have started earlier.
        members.iter().zip(&before).all(|(member, before)| renewals(member) >= before + 2)
    });
}

/// Reads with concurrent consumers at every member; returns the number of GETs.
fn gets_of_reading(
    store: &SlowS3,
    topic: &Topic,
    members: &[&Member],
    expected: &[(i64, bytes::Bytes)],
) -> u64 {
    let gets = || store.counter("get.calls") - store.counter("get.metadata-calls");
    let before = gets();
    std::thread::scope(|scope| {
        for member in members {
            for _consumer in 0..CONSUMERS {
                scope.spawn(|| {
                    let mut client = Client::connect(&topic.address(&member.replica, 0));
                    let from = expected[0].0;
                    let response = client.call(&fetch(topic.partition(0), 12, from), 12);
                    let row = fetched(&response);
                    assert_eq!(row.error_code, 0);
                    assert_eq!(read(row.records.as_ref().expect("records")), expected);
                });
            }
        }
    });
    gets() - before
}

/// Appends one batch for each object; returns the expected records.
fn write(member: &Member, topic: &Topic, label: &str) -> Vec<(i64, bytes::Bytes)> {
    let mut client = Client::connect(&topic.address(&member.replica, 0));
    let one = |n: u64| {
        let batch = Batch::of(&[&format!("{label} {n}")]).bytes();
        (append(&mut client, topic.partition(0), batch.clone()), stored_bytes(&batch))
    };
    (0..OBJECTS).map(one).collect()
}

#[test]
fn zone_cache_reads_each_object_once() {
    let store = SlowS3::start(&["--put", "5/15", "--get", "20/60"]);
    let cluster = Testbed::get().unique("zone");
    let [mut a, b, mut c] = [(); 3].map(|()| Member::start(&cluster, &store));
    wait_for_membership(&[&a, &b, &c]);
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}zone"));
    let topic = Topic::create(&a.replica, &name, 1, &[]);
    // The other members would return an error for a topic that they have not observed yet.
    for member in [&b, &c] {
        Topic::look_up(&member.replica, &name);
    }

    // The writer is alive and has the objects in memory.
    let written = write(&a, &topic, "remembered");
    assert_eq!(gets_of_reading(&store, &topic, &[&a, &b, &c], &written), 0);
    assert!(b.metric("odradek_store_gets_avoided_total") >= OBJECTS);

    // No member has the older objects: they were never read, and their writer has restarted.
    let written = write(&a, &topic, "forgotten");
    a.replica.restart();
    wait_for_membership(&[&a, &b, &c]);
    let gets = gets_of_reading(&store, &topic, &[&a, &b, &c], &written);
    assert!((1..=OBJECTS).contains(&gets), "{gets} GETs for {OBJECTS} objects");

    // The owner is killed, and the others have not noticed yet.
    let written = write(&c, &topic, "bereft");
    c.replica.kill9();
    let gets = gets_of_reading(&store, &topic, &[&a, &b], &written);
    assert!((1..=2 * OBJECTS).contains(&gets), "{gets} GETs for {OBJECTS} objects");
    let written = write(&b, &topic, "afterwards");
    assert_eq!(gets_of_reading(&store, &topic, &[&a, &b], &written), 0);

    // A request without a signature is rejected.
    for path in ["/", "/metrics", "/objects/0000000000000000-00000000-00000000?start=0&end=9"] {
        let answer = get(a.peer_port, path);
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

/// Without `peers.bind` there is no zone cache, and replicas work as before.
#[test]
fn replicas_without_peers_read_the_store_directly() {
    let store = SlowS3::start(&["--put", "5/15"]);
    let (cluster, coordinator) = (Testbed::get().unique("zone"), Testbed::get().redis().yaml());
    let [a, b] = [(); 2].map(|()| {
        let replica = Replica::start_of(&cluster, &store.yaml(), &coordinator, "");
        Member { replica, peer_port: 0 }
    });
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}zone"));
    let topic = Topic::create(&a.replica, &name, 1, &[]);
    Topic::look_up(&b.replica, &name);
    let written = write(&a, &topic, "alone");
    assert_eq!(gets_of_reading(&store, &topic, &[&a, &b], &written), OBJECTS);
}
