//! `slow-s3` is as good a store as any while nothing is scripted, and fails as scripted.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek::store::conformance::{self, pattern};
use odradek::store::s3::{S3Credentials, S3Options, S3Store};
use odradek::store::{Certainty, PutMode, Store, StoreError, StoreErrorKind};
use testbed::slow_s3::SlowS3;

fn store_on(server: &SlowS3) -> S3Store {
    let credentials = S3Credentials::Keys {
        access_key_id: "any".to_owned(),
        secret_access_key: "any".to_owned(),
    };
    let options = S3Options {
        endpoint: Some(format!("http://{}", server.address())),
        region: "us-east-1".to_owned(),
        path_style: true,
        credentials,
        request_timeout: Duration::from_millis(500),
    };
    S3Store::new("bucket", "a/prefix", &options).expect("a store")
}

fn body() -> Vec<Bytes> {
    vec![pattern(1, 100_000), pattern(2, 100_000)]
}

fn judged<T>(result: Result<T, StoreError>) -> (StoreErrorKind, Certainty) {
    let Err(error) = result else { panic!("it went through") };
    (error.kind, error.certainty)
}

const INDETERMINATE: (StoreErrorKind, Certainty) =
    (StoreErrorKind::Unavailable, Certainty::Indeterminate);
const SLOW_DOWN: (StoreErrorKind, Certainty) = (StoreErrorKind::SlowDown, Certainty::Determinate);
const NO_READ: (StoreErrorKind, Certainty) = (StoreErrorKind::Unavailable, Certainty::Determinate);

#[tokio::test]
async fn conforms_as_a_store_without_faults() {
    let server = SlowS3::start(&[]);
    let store: Arc<dyn Store> = Arc::new(store_on(&server));
    conformance::run(&store).await;
    assert!(server.counter("put.landed") > 0 && server.counter("put.in-flight") == 0);
}

#[tokio::test]
async fn calls_have_the_configured_latency() {
    let server = SlowS3::start(&["--put", "100"]);
    let store = store_on(&server);
    let begun = tokio::time::Instant::now();
    store.put("k", body(), PutMode::Create).await.expect("a PUT");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    server.control("latency?put=0");
    let begun = tokio::time::Instant::now();
    store.put("l", body(), PutMode::Create).await.expect("a PUT");
    assert!(begun.elapsed() < Duration::from_millis(90));
}

/// As a proxy with a limit of its own does.
#[tokio::test]
async fn body_above_a_limit_is_refused() {
    let server = SlowS3::start(&[]);
    let store = store_on(&server);
    server.control("fault?operation=put&bytes-above=150000&status=413&code=EntityTooLarge");
    let refused = judged(store.put("k", body(), PutMode::Overwrite).await);
    assert_eq!(refused, (StoreErrorKind::TooLarge, Certainty::Determinate));
    assert!(store.head("k").await.is_err(), "it is not stored");
    store.put("k", vec![pattern(1, 100_000)], PutMode::Overwrite).await.expect("a small PUT");
}

#[tokio::test]
async fn scripted_put_faults_are_injected() {
    let server = SlowS3::start(&[]);
    let store = store_on(&server);
    // Script, what the client sees, whether the object is there.
    let rows = [
        ("status=503&code=SlowDown", SLOW_DOWN, false),
        ("refuse", INDETERMINATE, false),
        ("partial", INDETERMINATE, false),
        ("lost", INDETERMINATE, true),
        ("hang-after=never", INDETERMINATE, true),
        ("hang-before=never", INDETERMINATE, false),
    ];
    for (script, seen, landed) in rows {
        server.control(&format!(
            "fault?operation=put&prefix=a/prefix&contains=/wal/&next=1&{script}"
        ));
        store.put("other", body(), PutMode::Overwrite).await.expect("not of the prefix");
        let key = format!("wal/{}", script.replace(['=', '&'], "-"));
        assert_eq!(judged(store.put(&key, body(), PutMode::Create).await), seen, "{script}");
        assert_eq!(store.head(&key).await.is_ok(), landed, "{script}");
    }
    assert_eq!(server.counter("put.landed-unanswered"), 1);
    assert_eq!(server.counter("put.hanging-before"), 1);
    assert_eq!(server.counter("put.status.503"), 1);
    // What hung happens once it is let go, although its client gave up long ago.
    server.control("release");
    while server.counter("put.in-flight") > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.head("wal/hang-before-never").await.is_ok());
}

#[tokio::test]
async fn scripted_get_faults_are_injected() {
    let server = SlowS3::start(&[]);
    let store = store_on(&server);
    store.put("k", body(), PutMode::Create).await.expect("a PUT");
    server.control("fault?operation=get&skip=1&next=1&partial");
    server.control("fault?operation=get&skip=1&next=1&corrupt");
    let whole = body().concat();
    assert_eq!(store.get("k", None).await.expect("skipped"), whole);
    assert_eq!(judged(store.get("k", None).await), NO_READ);
    let flipped = store.get("k", Some(100..200_000)).await.expect("a GET");
    assert_eq!(flipped.iter().zip(&whole[100..]).filter(|(a, b)| a != b).count(), 1);
    assert_eq!(store.get("k", Some(100..200_000)).await.expect("a GET"), whole[100..]);
}

#[tokio::test]
async fn lenient_store_ignores_conditions_and_checksums() {
    let server = SlowS3::start(&[]);
    let store = store_on(&server);
    let id = server.control("fault?operation=put&ignore-if-none-match");
    for seed in [1, 2] {
        store.put("k", vec![pattern(seed, 9)], PutMode::Create).await.expect("no one minds");
    }
    assert_eq!(store.get("k", None).await.expect("a GET"), pattern(2, 9));
    server.control(&format!("lift?id={}", id.trim()));
    let exists = (StoreErrorKind::AlreadyExists, Certainty::Determinate);
    assert_eq!(judged(store.put("k", body(), PutMode::Create).await), exists);

    let put = |sum: &str| {
        let mut stream = TcpStream::connect(server.address()).expect("it listens");
        let head = format!("content-length: 1\r\nx-amz-checksum-crc32c: {sum}");
        write!(stream, "PUT /bucket/c HTTP/1.1\r\nhost: s\r\n{head}\r\n\r\nx").expect("it reads");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("it answers");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(put("AAAAAA=="), "400");
    server.control("fault?lenient-checksum");
    assert_eq!(put("AAAAAA=="), "200");
    assert!(
        server
            .control("faults")
            .contains("id=2 operation=any prefix= contains= left=standing hits=1")
    );
}
