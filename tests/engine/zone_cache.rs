//! The zone cache, over real sockets and in real time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hyper::Method;
use odradek::store::faulty::{Fault, StoreOperation};
use odradek::store::memory::MemoryStore;
use odradek::zone_cache::PeerKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::batches::{NOW, partition, whole_object};
use crate::zone_harness::{FaultyPeer, PeerBehavior, Replica, SECRET, body, member, ok, write};

/// Starts replicas a, b and c with incarnations 1, 2 and 3 in one zone.
async fn zone_of_three(store: &Arc<MemoryStore>) -> [Replica; 3] {
    let replicas = [
        Replica::start("a", 1, store).await,
        Replica::start("b", 2, store).await,
        Replica::start("c", 3, store).await,
    ];
    let members = replicas.each_ref().map(|replica| replica.member.clone());
    replicas.iter().for_each(|replica| replica.update_membership(&members));
    replicas
}

#[tokio::test]
async fn object_is_read_from_the_store_once_per_zone() {
    let store = Arc::new(MemoryStore::default());
    let replicas = zone_of_three(&store).await;
    // Written by a process that has ended.
    let objects = join_all((0..12).map(|sequence| write(&store, 99, sequence))).await;
    for _round in 0..2 {
        let reads = replicas.iter().flat_map(|replica| {
            let twice = objects.iter().chain(&objects);
            twice.map(async |written| {
                let read = replica.read(written).await.expect("the object exists");
                assert_eq!(read, written.bytes);
            })
        });
        join_all(reads).await;
    }
    let gets = replicas.each_ref().map(Replica::gets);
    assert_eq!(gets.iter().sum::<u64>(), 12, "{gets:?}");
    assert!(gets.iter().all(|gets| *gets > 0), "the reads are distributed: {gets:?}");
}

#[tokio::test]
async fn objects_cached_by_their_writer_need_no_get() {
    let store = Arc::new(MemoryStore::default());
    let [a, b, c] = zone_of_three(&store).await;
    let written = write(&store, 1, 0).await;
    a.objects.insert_written(written.object, written.whole.clone());
    for reader in [&b, &c, &a, &b] {
        assert_eq!(reader.read(&written).await.expect("the object exists"), written.bytes);
    }
    assert_eq!([a.gets(), b.gets(), c.gets()], [0, 0, 0]);
    assert_eq!([a.peer_requests(), b.peer_requests(), c.peer_requests()], [0, 1, 1]);
}

/// Each of two replicas takes the other for the owner; the one that serves reads from the store.
#[tokio::test]
async fn replica_that_serves_a_peer_queries_no_peer() {
    let store = Arc::new(MemoryStore::default());
    let a = Replica::start("a", 1, &store).await;
    let b = Replica::start("b", 2, &store).await;
    let wrote = |of: &Replica, incarnation| {
        member(&of.member.replica, incarnation, of.member.peer.as_deref().expect("it has one"))
    };
    a.update_membership(&[wrote(&a, 1), wrote(&b, 99)]);
    b.update_membership(&[wrote(&a, 99), wrote(&b, 2)]);
    let written = write(&store, 99, 0).await;
    assert_eq!(a.read(&written).await.expect("the object exists"), written.bytes);
    assert_eq!((a.peer_requests(), a.outcomes("ok"), b.peer_requests()), (1, 1, 0));
    assert_eq!((a.gets(), b.gets()), (0, 1));
}

#[tokio::test]
async fn every_peer_failure_falls_back_to_the_store() {
    let store = Arc::new(MemoryStore::default());
    let at_once = Duration::ZERO;
    let right = body(&write(&store, 98, 0).await.whole);
    let mut damaged = right.clone();
    damaged[1_000] ^= 1;
    let rows = [
        ("rejected", PeerBehavior::Responds(at_once, b"HTTP/1.1 401 No\r\n\r\n".to_vec())),
        ("failed", PeerBehavior::Responds(at_once, Vec::new())),
        ("failed", PeerBehavior::Responds(at_once, b"what?\r\n\r\n".to_vec())),
        ("failed", PeerBehavior::Responds(at_once, ok(&right, 50_000))),
        ("corrupt", PeerBehavior::Responds(at_once, ok(&damaged, damaged.len()))),
        ("corrupt", PeerBehavior::Responds(at_once, ok(&[], 0))),
        ("slow", PeerBehavior::Hangs(Vec::new())),
        ("slow", PeerBehavior::Hangs(ok(&right, 50_000))),
    ];
    for (number, (outcome, behavior)) in (0..).zip(rows) {
        let peer = FaultyPeer::start(behavior.clone()).await;
        let reader = Replica::start("reader", 1, &store).await;
        reader.update_membership(&[reader.member.clone(), member("bad", 99, &peer.address)]);
        let written = write(&store, 99, number).await;
        let start = Instant::now();
        assert_eq!(reader.read(&written).await.expect("the store has it"), written.bytes);
        let (elapsed, what) = (start.elapsed(), format!("{outcome}: {number}"));
        assert!(elapsed < Duration::from_millis(2_500), "{what}: {elapsed:?}");
        assert_eq!(
            (reader.outcomes(outcome), reader.peer_requests(), reader.gets()),
            (1, 1, 1),
            "{what}"
        );
        // Its circuit breaker is open.
        let next = write(&store, 99, 100 + number).await;
        assert_eq!(reader.read(&next).await.expect("the store has it"), next.bytes);
        assert_eq!((reader.outcomes("circuit_open"), peer.requests()), (1, 1), "{what}");
    }
}

/// The peer's process has ended.
#[tokio::test]
async fn peer_without_a_listener_falls_back_to_the_store() {
    let store = Arc::new(MemoryStore::default());
    let reader = Replica::start("reader", 1, &store).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let gone = gone.expect("a port").to_string();
    reader.update_membership(&[reader.member.clone(), member("gone", 99, &gone)]);
    let written = write(&store, 99, 0).await;
    assert_eq!(reader.read(&written).await.expect("the store has it"), written.bytes);
    assert_eq!((reader.outcomes("failed"), reader.gets()), (1, 1));
}

/// The checksum of the body is valid; the object is not the one that was written.
#[tokio::test]
async fn wrong_bytes_of_a_peer_are_detected() {
    let store = Arc::new(MemoryStore::default());
    let written = write(&store, 99, 0).await;
    let mut flipped = written.whole.to_vec();
    flipped[1_000] ^= 1;
    let longer = [&written.whole[..], b"x"].concat();
    // Its batch is as long as the requested one.
    let other = write(&store, 99, 1).await.whole.to_vec();
    let batches = [(partition(1), written.bytes.clone())];
    let strange = whole_object(written.object, &batches).to_vec();
    for (what, bytes) in
        [("flipped", flipped), ("longer", longer), ("other", other), ("strange", strange)]
    {
        let bytes = body(&bytes);
        let peer =
            FaultyPeer::start(PeerBehavior::Responds(Duration::ZERO, ok(&bytes, bytes.len())))
                .await;
        let reader = Replica::start("reader", 1, &store).await;
        reader.update_membership(&[reader.member.clone(), member("corrupt", 99, &peer.address)]);
        let read = reader.read(&written).await.expect("the store has it");
        assert_eq!(read, written.bytes, "{what}");
        assert_eq!((peer.requests(), reader.gets()), (1, 1), "{what}");
    }
}

/// The store hangs; the peer starts to respond late.
#[tokio::test]
async fn late_peer_response_is_used_if_the_store_hangs() {
    let store = Arc::new(MemoryStore::default());
    let written = write(&store, 99, 0).await;
    let right = body(&written.whole);
    let pause = Duration::from_millis(700);
    let peer = FaultyPeer::start(PeerBehavior::Responds(pause, ok(&right, right.len()))).await;
    let reader = Replica::start("reader", 1, &store).await;
    reader.update_membership(&[reader.member.clone(), member("late", 99, &peer.address)]);
    reader.store.script(StoreOperation::get, [Fault::HANG]);
    assert_eq!(reader.read(&written).await.expect("the peer has it"), written.bytes);
    assert_eq!((reader.outcomes("late"), reader.gets()), (1, 1));
}

#[tokio::test]
async fn unauthenticated_requests_are_rejected() {
    let store = Arc::new(MemoryStore::default());
    let replica = Replica::start("a", 1, &store).await;
    let written = write(&store, 99, 0).await;
    let target = format!("/objects/{}?start=0&end={}", written.object, written.whole.len());
    let (key, wrong) = (PeerKey::new(&SECRET), PeerKey::new(&[8; 32]));
    let address = replica.member.peer.clone().expect("it has one");
    let get = &Method::GET;
    let request = async |target: &str, headers: &[(&str, String)]| {
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let lines = lines.collect::<String>();
        let head = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.expect("a response");
        response
    };
    let signed = |key: &PeerKey, method: &Method, target: &str, at: i64| {
        let headers = key.sign(method, target, at);
        let text = |value: &hyper::header::HeaderValue| value.to_str().expect("ASCII").to_owned();
        ["odradek-time", "odradek-mac"].map(|name| (name, text(&headers[name])))
    };
    let status = |response: &[u8]| String::from_utf8_lossy(&response[9..12]).into_owned();

    // Before the first membership, every request is rejected.
    assert_eq!(status(&request(&target, &signed(&key, get, &target, NOW)).await), "401");
    replica.update_membership(std::slice::from_ref(&replica.member));
    let [time, mac] = signed(&key, get, &target, NOW);
    let later = (time.0, (NOW + 1).to_string());
    let other = format!("/objects/{}?start=0&end=1", written.object);
    let rejected: [Vec<(&str, String)>; 9] = [
        vec![],
        vec![time.clone()],
        vec![mac.clone()],
        vec![time.clone(), (mac.0, "AAAA".to_owned())],
        vec![later, mac.clone()],
        signed(&wrong, get, &target, NOW).to_vec(),
        signed(&key, get, &target, NOW - 60_001).to_vec(),
        signed(&key, get, &target, NOW + 60_001).to_vec(),
        [signed(&key, &Method::PUT, &target, NOW), signed(&key, get, &other, NOW)].concat(),
    ];
    for headers in rejected {
        let response = request(&target, &headers).await;
        assert_eq!(status(&response), "401", "{headers:?}");
        assert!(response.ends_with(b"\r\n\r\n"), "the body is empty: {headers:?}");
    }
    for path in ["/", "/metrics", "/objects/x?start=0&end=1"] {
        assert_eq!(status(&request(path, &[]).await), "401", "{path}");
        assert_eq!(status(&request(path, &signed(&key, get, path, NOW)).await), "404", "{path}");
    }
    assert_eq!(replica.gets(), 0, "no rejected request causes a read");
    for at in [NOW, NOW - 60_000, NOW + 60_000] {
        let response = request(&target, &signed(&key, get, &target, at)).await;
        assert_eq!(status(&response), "200");
        let value = b"record 0 xxx";
        assert!(response.windows(value.len()).any(|window| window == value));
    }
}
