//! Test harness: replicas of one zone with peer ports on real sockets, and faulty peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use odradek::clock::{ManualClock, WallClock};
use odradek::coordinator::{Member, Membership};
use odradek::engine::cache::{ObjectCache, ObjectSource, ReadClass, StoreSource};
use odradek::engine::produce::FlushProfile;
use odradek::log::batch::Run;
use odradek::log::ids::ObjectId;
use odradek::log::object_format::{HEADER, wal_key};
use odradek::metrics::Metrics;
use odradek::store::faulty::{FaultyStore, StoreOperation};
use odradek::store::memory::MemoryStore;
use odradek::store::{PutMode, Store, StoreError};
use odradek::tasks;
use odradek::zone_cache::{PeerRing, PeerServer, ZoneSource};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::batches::{Batch, NOW, partition, whole_object};

pub(crate) const SECRET: [u8; 32] = [7; 32];
/// Validity of the membership: longer than any of these tests.
const MEMBERSHIP_TTL: Duration = Duration::from_secs(600);

/// The read path of a replica.
pub(crate) struct Replica {
    pub(crate) member: Member,
    pub(crate) objects: Arc<ObjectCache>,
    pub(crate) store: Arc<FaultyStore>,
    zone: Arc<PeerRing>,
    metrics: Arc<Metrics>,
}

pub(crate) fn member(name: &str, incarnation: u64, address: &str) -> Member {
    Member {
        replica: name.to_owned(),
        incarnation,
        process_id: 1,
        zone: 0,
        zone_name: "zone-1".to_owned(),
        peer: Some(address.to_owned()),
        advertised_host: "127.0.0.1".to_owned(),
        node_ports: 1,
        broker_ports: 2,
        nodes: 4,
        version: String::new(),
        settings: 0,
    }
}

impl Replica {
    /// Starts a replica whose clock is fixed at [`NOW`], above a store adapter of its own.
    pub(crate) async fn start(name: &str, incarnation: u64, shared: &Arc<MemoryStore>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let member = member(name, incarnation, &address);
        let zone = Arc::new(PeerRing::new(member.clone()));
        let store = Arc::new(FaultyStore::new(Arc::clone(shared) as Arc<dyn Store>));
        let metrics = Arc::new(Metrics::default());
        let clock: Arc<dyn WallClock> = Arc::new(ManualClock::new(NOW));
        let origin: Arc<dyn ObjectSource> =
            Arc::new(StoreSource(Arc::clone(&store) as Arc<dyn Store>));
        let through = ZoneSource::new(
            Arc::clone(&zone),
            Arc::clone(&origin),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        )
        .expect("an HTTP client");
        let objects = ObjectCache::new(Arc::new(through), 64 << 20).with_peer_source(origin);
        let objects = Arc::new(objects);
        let server = PeerServer {
            cache: Arc::clone(&objects),
            ring: Arc::clone(&zone),
            clock,
            metrics: Arc::clone(&metrics),
        };
        Arc::new(server).start(listener);
        Self { member, objects, store, zone, metrics }
    }

    /// Sets the membership of its zone.
    pub(crate) fn update_membership(&self, members: &[Member]) {
        let membership =
            Membership { members: members.to_vec(), secret: SECRET, ..Membership::default() };
        self.zone.update_membership(membership, Instant::now() + MEMBERSHIP_TTL);
    }

    pub(crate) fn gets(&self) -> u64 {
        self.store.calls(StoreOperation::get)
    }

    pub(crate) async fn read(&self, written: &Written) -> Result<Bytes, StoreError> {
        let read = self.objects.read(partition(0), &written.run, ReadClass::Tailing, None).await;
        read.map(|run| run.bytes)
    }

    /// Returns the number of peer requests with this outcome.
    pub(crate) fn outcomes(&self, outcome: &str) -> u64 {
        let row = format!("odradek_peer_requests_total{{outcome=\"{outcome}\"}} ");
        let text = self.metrics.text();
        let value = text.lines().find_map(|line| line.strip_prefix(&row));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Returns the number of requests to peers, with any outcome.
    pub(crate) fn peer_requests(&self) -> u64 {
        ["ok", "late", "slow", "rejected", "failed", "corrupt"]
            .map(|outcome| self.outcomes(outcome))
            .iter()
            .sum()
    }
}

/// A stored object with one run of partition 0.
pub(crate) struct Written {
    pub(crate) object: ObjectId,
    pub(crate) run: Run,
    /// Bytes of the run.
    pub(crate) bytes: Bytes,
    /// Bytes of the object.
    pub(crate) whole: Bytes,
}

pub(crate) async fn write(store: &MemoryStore, incarnation: u64, sequence: u32) -> Written {
    let object = ObjectId { incarnation, process_id: 1, sequence };
    let value = format!("record {sequence} {}", "x".repeat(100_000));
    let bytes = Batch::of(&[&value]).to(0, FlushProfile::Fast).batch;
    let whole = whole_object(object, &[(partition(0), bytes.clone())]);
    store.put(&wal_key(object), vec![whole.clone()], PutMode::Create).await.expect("a PUT");
    let run = Run {
        base_offset: 0,
        offset_count: 1,
        object,
        start: HEADER.len() as u64,
        bytes: bytes.len() as u64,
        max_timestamp: NOW,
    };
    Written { object, run, bytes, whole }
}

/// Behavior of a faulty peer after it has read a request's head.
#[derive(Clone, Debug)]
pub(crate) enum PeerBehavior {
    /// Sends these bytes after a pause, and closes the connection.
    Responds(Duration, Vec<u8>),
    /// Sends these bytes and then nothing.
    Hangs(Vec<u8>),
}

/// A peer that treats every request alike.
pub(crate) struct FaultyPeer {
    pub(crate) address: String,
    requests: Arc<AtomicUsize>,
}

impl FaultyPeer {
    pub(crate) async fn start(behavior: PeerBehavior) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        tasks::spawn("faulty peer", async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tasks::spawn("faulty connection", misbehave(stream, behavior.clone()));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn misbehave(mut stream: TcpStream, behavior: PeerBehavior) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    match behavior {
        PeerBehavior::Responds(pause, bytes) => {
            tokio::time::sleep(pause).await;
            // The client may have timed out.
            let _gone = stream.write_all(&bytes).await;
        }
        PeerBehavior::Hangs(bytes) => {
            stream.write_all(&bytes).await.expect("it is listening");
            std::future::pending::<()>().await;
        }
    }
}

/// Returns a 200 response with this body, truncated after `sent` bytes of it.
pub(crate) fn ok(body: &[u8], sent: usize) -> Vec<u8> {
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [response.as_bytes(), &body[..sent]].concat()
}

/// Returns a body as a peer sends it, with its checksum.
pub(crate) fn body(bytes: &[u8]) -> Vec<u8> {
    [&crc_fast::crc32_iscsi(bytes).to_be_bytes()[..], bytes].concat()
}
