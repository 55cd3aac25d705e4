//! `slow-s3` is as good a store as any while nothing is scripted, and fails as scripted.

mod server;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek::store::conformance::{self, pattern};
use odradek::store::s3::{S3Credentials, S3Options, S3Store};
use odradek::store::{Certainty, PutMode, Store, StoreError, StoreErrorKind};
use server::{Latency, Options, Server, Verb};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

/// A server on a thread of its own, which ends with the test binary.
struct Running(SocketAddr);

impl Running {
    fn start(options: Options) -> Self {
        let (sender, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.expect("a runtime"), async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                sender.send(listener.local_addr().expect("it is bound")).expect("someone waits");
                Server::new(options).serve(listener).await;
            });
        });
        Self(address.recv().expect("it starts"))
    }

    fn store(&self) -> S3Store {
        let credentials = S3Credentials::Keys {
            access_key_id: "any".to_owned(),
            secret_access_key: "any".to_owned(),
        };
        let options = S3Options {
            endpoint: Some(format!("http://{}", self.0)),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials,
            request_timeout: Duration::from_millis(500),
        };
        S3Store::new("bucket", "a/prefix", &options).expect("a store")
    }

    /// What the control API says.
    fn control(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.0).expect("it listens");
        write!(stream, "GET /_control/{request} HTTP/1.0\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(" 200 "), "{request}: {answer}");
        body.to_owned()
    }

    fn counter(&self, name: &str) -> u64 {
        let text = self.control("counters");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0)
    }
}

fn body() -> Vec<Bytes> {
    vec![pattern(1, 100_000), pattern(2, 100_000)]
}

fn judged<T>(result: Result<T, StoreError>) -> (StoreErrorKind, Certainty) {
    let Err(error) = result else { panic!("it went through") };
    (error.kind, error.certainty)
}

const IN_DOUBT: (StoreErrorKind, Certainty) =
    (StoreErrorKind::Unavailable, Certainty::Indeterminate);
const SLOW_DOWN: (StoreErrorKind, Certainty) = (StoreErrorKind::SlowDown, Certainty::Determinate);
const NO_READ: (StoreErrorKind, Certainty) = (StoreErrorKind::Unavailable, Certainty::Determinate);

#[tokio::test]
async fn it_is_a_store_while_nothing_is_scripted() {
    let running = Running::start(Options::new(1));
    let store: Arc<dyn Store> = Arc::new(running.store());
    conformance::run(&store).await;
    assert!(running.counter("put.landed") > 0 && running.counter("put.in-flight") == 0);
}

#[tokio::test]
async fn calls_take_the_time_they_are_told_to() {
    let mut options = Options::new(1);
    options.set_latency(Verb::Put, "100".parse::<Latency>().expect("a latency"));
    let running = Running::start(options);
    let store = running.store();
    let begun = tokio::time::Instant::now();
    store.put("k", body(), PutMode::Create).await.expect("a PUT");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    running.control("latency?put=0");
    let begun = tokio::time::Instant::now();
    store.put("l", body(), PutMode::Create).await.expect("a PUT");
    assert!(begun.elapsed() < Duration::from_millis(90));
}

#[tokio::test]
async fn puts_fail_as_scripted() {
    let running = Running::start(Options::new(1));
    let store = running.store();
    // Script, what the client sees, whether the object is there.
    let rows = [
        ("status=503&code=SlowDown", SLOW_DOWN, false),
        ("refuse", IN_DOUBT, false),
        ("partial", IN_DOUBT, false),
        ("lost", IN_DOUBT, true),
        ("hang-after=never", IN_DOUBT, true),
        ("hang-before=never", IN_DOUBT, false),
    ];
    for (script, seen, landed) in rows {
        running.control(&format!("fault?verb=put&prefix=a/prefix&contains=/wal/&next=1&{script}"));
        store.put("other", body(), PutMode::Overwrite).await.expect("not of the prefix");
        let key = format!("wal/{}", script.replace(['=', '&'], "-"));
        assert_eq!(judged(store.put(&key, body(), PutMode::Create).await), seen, "{script}");
        assert_eq!(store.head(&key).await.is_ok(), landed, "{script}");
    }
    assert_eq!(running.counter("put.landed-unanswered"), 1);
    assert_eq!(running.counter("put.hanging-before"), 1);
    assert_eq!(running.counter("put.status.503"), 1);
    // What hung happens once it is let go, although its client gave up long ago.
    running.control("release");
    while running.counter("put.in-flight") > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.head("wal/hang-before-never").await.is_ok());
}

#[tokio::test]
async fn gets_fail_as_scripted() {
    let running = Running::start(Options::new(1));
    let store = running.store();
    store.put("k", body(), PutMode::Create).await.expect("a PUT");
    running.control("fault?verb=get&skip=1&next=1&partial");
    running.control("fault?verb=get&skip=1&next=1&corrupt");
    let whole = body().concat();
    assert_eq!(store.get("k", None).await.expect("skipped"), whole);
    assert_eq!(judged(store.get("k", None).await), NO_READ);
    let flipped = store.get("k", Some(100..200_000)).await.expect("a GET");
    assert_eq!(flipped.iter().zip(&whole[100..]).filter(|(a, b)| a != b).count(), 1);
    assert_eq!(store.get("k", Some(100..200_000)).await.expect("a GET"), whole[100..]);
}

#[tokio::test]
async fn a_lenient_store_keeps_no_promise() {
    let running = Running::start(Options::new(1));
    let store = running.store();
    let id = running.control("fault?verb=put&ignore-if-none-match");
    for seed in [1, 2] {
        store.put("k", vec![pattern(seed, 9)], PutMode::Create).await.expect("no one minds");
    }
    assert_eq!(store.get("k", None).await.expect("a GET"), pattern(2, 9));
    running.control(&format!("lift?id={}", id.trim()));
    let exists = (StoreErrorKind::AlreadyExists, Certainty::Determinate);
    assert_eq!(judged(store.put("k", body(), PutMode::Create).await), exists);

    let put = |sum: &str| {
        let mut stream = TcpStream::connect(running.0).expect("it listens");
        let head = format!("content-length: 1\r\nx-amz-checksum-crc32c: {sum}");
        write!(stream, "PUT /bucket/c HTTP/1.1\r\nhost: s\r\n{head}\r\n\r\nx").expect("it reads");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("it answers");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(put("AAAAAA=="), "400");
    running.control("fault?lenient-checksum");
    assert_eq!(put("AAAAAA=="), "200");
    assert!(
        running.control("faults").contains("id=2 verb=any prefix= contains= left=standing hits=1")
    );
}
