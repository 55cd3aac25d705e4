//! The store against real S3 servers, and against faulty sockets.
//!
//! A test fails if its server is not installed; `ODRADEK_SKIP_S3=1` skips it.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod servers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek::entropy::Entropy;
use odradek::store::conformance::{self, pattern};
use odradek::store::probe::{StoreCapabilities, probe};
use odradek::store::retry::RetryStore;
use odradek::store::s3::{S3Credentials, S3Options, S3Store};
use odradek::store::{Certainty, PutMode, Store, StoreError, StoreErrorKind};
use servers::{BUCKET, S3Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn retrying(store: S3Store) -> Arc<dyn Store> {
    let entropy = Arc::new(Entropy::from_seed(1));
    Arc::new(RetryStore::new(Arc::new(store), entropy))
}

fn failure(result: Result<impl Sized, StoreError>) -> (StoreErrorKind, Certainty) {
    let Err(error) = result else { panic!("the call succeeded") };
    (error.kind, error.certainty)
}

#[tokio::test]
async fn minio_conforms() {
    let Some(server) = S3Server::minio() else { return };
    conformance::run(&retrying(server.store("some/prefix"))).await;
    conformance::run(&retrying(server.store(""))).await;
    requests_are_denied(&server).await;
    objects_of_other_writers(&server).await;
}

/// Probes the server as a replica does at start-up.
async fn capabilities(server: &S3Server) -> StoreCapabilities {
    let s3 = Arc::new(server.store("probed"));
    let store = retrying(server.store("probed"));
    let capabilities = probe(&*store, Some(&s3), "meta/probe").await.unwrap();
    assert!(store.list("", None, 10).await.unwrap().is_empty(), "the probe object is deleted");
    capabilities
}

#[tokio::test]
async fn minio_verifies_signed_checksums() {
    let Some(server) = S3Server::minio() else { return };
    assert_eq!(
        capabilities(&server).await,
        StoreCapabilities { conditional_create: true, checksums: true }
    );
    // The checksum of another body, as after a corruption in transit.
    let status = put_with_checksum_of(&server, b"what was meant", b"what arrives").await;
    assert_eq!(status, 400);
    let status = put_with_checksum_of(&server, b"the same", b"the same").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn radosgw_conforms() {
    let Some(server) = S3Server::radosgw().await else { return };
    conformance::run(&retrying(server.store("some/prefix"))).await;
    requests_are_denied(&server).await;
    let status = put_with_checksum_of(&server, b"what was meant", b"what arrives").await;
    assert_eq!(status, 200, "radosgw verifies checksums now: update docs/adr/0002");
    assert_eq!(
        capabilities(&server).await,
        StoreCapabilities { conditional_create: true, checksums: false }
    );
}

/// A wrong secret must be denied, else the server does not verify signatures.
async fn requests_are_denied(server: &S3Server) {
    let denied = (StoreErrorKind::Denied, Certainty::Determinate);
    let mut wrong = server.options();
    if let S3Credentials::Keys { secret_access_key, .. } = &mut wrong.credentials {
        "WRONGSECRET".clone_into(secret_access_key);
    }
    let store = S3Store::new(BUCKET, "", &wrong).unwrap();
    let body = vec![Bytes::from_static(b"x")];
    assert_eq!(failure(store.put("a", body.clone(), PutMode::Overwrite).await), denied);
    assert_eq!(failure(store.get("a", None).await), denied);
    assert_eq!(failure(store.get("a", Some(0..1)).await), denied);
    assert_eq!(failure(store.head("a").await), denied);
    assert_eq!(failure(store.list("", None, 1).await), denied);
    assert_eq!(failure(store.delete("a").await), denied);
    let error = store.put("a", body.clone(), PutMode::Overwrite).await.unwrap_err();
    let shown = format!("{error:?} {error} {store:?} {wrong:?}");
    assert!(shown.contains("SignatureDoesNotMatch"), "{shown}");
    assert!(!shown.contains("WRONGSECRET") && !shown.contains("X-Amz-Signature"), "{shown}");

    let nowhere = S3Store::new("no-such-bucket", "", &server.options()).unwrap();
    assert_eq!(failure(nowhere.put("a", body, PutMode::Overwrite).await), denied);
    assert_eq!(failure(nowhere.get("a", None).await), denied);
    assert_eq!(failure(nowhere.list("", None, 1).await), denied);
}

/// Objects of other writers are not listed, and do not end a listing early.
async fn objects_of_other_writers(server: &S3Server) {
    let bucket = server.bucket();
    bucket.put_object("/foreign/a b&c<d>", b"theirs").await.unwrap();
    let store = server.store("foreign");
    for key in ["a", "b"] {
        store.put(key, vec![pattern(1, 3)], PutMode::Overwrite).await.unwrap();
    }
    let rows = store.list("", None, 2).await.unwrap();
    let keys: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["a", "b"]);
}

async fn put_with_checksum_of(server: &S3Server, meant: &[u8], sent: &'static [u8]) -> u16 {
    use base64::Engine as _;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, meant) as u32;
    let value = base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes());
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("x-amz-checksum-crc32c", value.parse().unwrap());
    let bucket = server.bucket();
    let url = bucket.presign_put("/checked", 60, Some(headers.clone()), None).await.unwrap();
    let sent = bucket.http_client().put(url).headers(headers).body(sent).send().await.unwrap();
    sent.status().as_u16()
}

fn with_short_timeout(endpoint: String) -> S3Store {
    let options = S3Options {
        endpoint: Some(endpoint),
        region: "us-east-1".to_owned(),
        path_style: true,
        credentials: S3Credentials::Keys {
            access_key_id: "id".to_owned(),
            secret_access_key: "secret".to_owned(),
        },
        request_timeout: Duration::from_millis(300),
    };
    S3Store::new("bucket", "", &options).unwrap()
}

#[tokio::test]
async fn a_refused_connection_is_determinate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = with_short_timeout(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let expected = (StoreErrorKind::Unavailable, Certainty::Determinate);
    let body = vec![Bytes::from_static(b"x")];
    assert_eq!(failure(store.put("a", body, PutMode::Overwrite).await), expected);
    assert_eq!(failure(store.delete("a").await), expected);
    assert_eq!(failure(store.get("a", None).await), expected);
    assert_eq!(failure(store.head("a").await), expected);
    assert_eq!(failure(store.list("", None, 1).await), expected);
}

/// Accepts connections, reads a request from each, and responds with `answer`, or never.
async fn misbehaving_server(answer: Option<&'static str>) -> S3Store {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    odradek::tasks::spawn("misbehaving", async move {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _some = socket.read(&mut request).await;
            if let Some(answer) = answer {
                let _sent = socket.write_all(answer.as_bytes()).await;
            } else {
                held.push(socket);
            }
        }
    });
    with_short_timeout(endpoint)
}

#[tokio::test]
async fn a_write_without_a_complete_response_is_indeterminate_and_a_read_is_determinate() {
    use StoreErrorKind::{SlowDown, Unavailable};
    let slow_down = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let trouble = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answers = [
        // No response: the request times out.
        (None, Unavailable),
        // Closed without a response.
        (Some(""), Unavailable),
        (Some(trouble), Unavailable),
        // An overloaded server, which does not state whether the call took effect.
        (Some(slow_down), SlowDown),
    ];
    for (answer, kind) in answers {
        let store = misbehaving_server(answer).await;
        let indeterminate = (kind, Certainty::Indeterminate);
        let determinate = (kind, Certainty::Determinate);
        let body = vec![Bytes::from_static(b"x")];
        let put = store.put("a", body.clone(), PutMode::Overwrite).await;
        assert_eq!(failure(put), indeterminate, "PUT {answer:?}");
        let create = store.put("a", body, PutMode::Create).await;
        assert_eq!(failure(create), indeterminate, "CREATE {answer:?}");
        assert_eq!(failure(store.delete("a").await), indeterminate, "DELETE {answer:?}");
        assert_eq!(failure(store.get("a", None).await), determinate, "GET {answer:?}");
        assert_eq!(failure(store.head("a").await), determinate, "HEAD {answer:?}");
        assert_eq!(failure(store.list("", None, 1).await), determinate, "LIST {answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_an_object() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf";
    let store = misbehaving_server(Some(answer)).await;
    let expected = (StoreErrorKind::Unavailable, Certainty::Determinate);
    assert_eq!(failure(store.get("a", None).await), expected);
}

#[tokio::test]
async fn a_conflict_without_an_object_is_transient() {
    let answer = "HTTP/1.1 409 Conflict\r\nContent-Length: 59\r\nConnection: close\r\n\r\n\
                  <Error><Code>ConditionalRequestConflict</Code>      </Error>";
    let store = misbehaving_server(Some(answer)).await;
    let put = store.put("a", vec![Bytes::from_static(b"x")], PutMode::Create).await;
    assert_eq!(failure(put), (StoreErrorKind::Unavailable, Certainty::Determinate));
}

/// Responds to every request with 200, and returns the heads of the requests.
async fn recording_server() -> (S3Store, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = with_short_timeout(format!("http://{}", listener.local_addr().unwrap()));
    let (heads, recorded) = tokio::sync::mpsc::channel(16);
    odradek::tasks::spawn("recording", async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0, "a complete head");
            }
            heads.send(String::from_utf8_lossy(&request).to_lowercase()).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            socket.write_all(answer).await.unwrap();
        }
    });
    (store, recorded)
}

#[tokio::test]
async fn a_put_has_a_length_and_signs_its_checksum_and_its_condition() {
    let (store, mut recorded) = recording_server().await;
    let chunks = vec![Bytes::from_static(b"1234"), Bytes::from_static(b"56789")];
    store.put("a", chunks, PutMode::Create).await.unwrap();
    let head = recorded.recv().await.unwrap();
    let signed = "x-amz-signedheaders=host%3bif-none-match%3bx-amz-checksum-crc32c&";
    let crc = "\r\nx-amz-checksum-crc32c: 4wasgw==\r\n";
    for part in [signed, crc, "\r\ncontent-length: 9\r\n", "\r\nif-none-match: *\r\n"] {
        assert!(head.contains(part), "{part:?} is missing from {head}");
    }
    assert!(!head.contains("transfer-encoding"), "{head}");

    for empty in [Vec::new(), vec![Bytes::new()]] {
        store.put("a", empty, PutMode::Overwrite).await.unwrap();
        let head = recorded.recv().await.unwrap();
        assert!(head.contains("\r\ncontent-length: 0\r\n"), "{head}");
        assert!(head.contains("\r\nx-amz-checksum-crc32c: aaaaaa==\r\n"), "{head}");
        assert!(!head.contains("if-none-match"), "{head}");
    }
}
