//! The conformance suite of the store port, for every adapter and decorator.
//!
//! A check panics on a violation. The store must be empty; a few objects remain in it.

use std::sync::Arc;

use bytes::Bytes;

use super::StoreErrorKind::{AlreadyExists, Denied, InvalidRange, NotFound};
use super::{Certainty, ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};
use crate::tasks;

/// Runs every check on a store.
///
/// # Panics
/// Panics if the store violates the port's contract.
pub async fn run(store: &Arc<dyn Store>) {
    put_get_head(store.as_ref()).await;
    ranges(store.as_ref()).await;
    deletes(store.as_ref()).await;
    missing(store.as_ref()).await;
    hostile_keys(store.as_ref()).await;
    listing_order_and_paging(store.as_ref()).await;
    create_keeps_the_first(store.as_ref()).await;
    create_race(store).await;
    overwrite_is_atomic(store).await;
}

/// Returns `len` bytes that differ by position and by `seed`.
pub fn pattern(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

#[track_caller]
fn assert_refused<T>(result: Result<T, StoreError>, kind: StoreErrorKind, what: &str) {
    let Err(error) = result else { panic!("{what}: succeeded, expected {kind:?}") };
    assert_eq!((error.kind, error.certainty), (kind, Certainty::Determinate), "{what}: {error}");
}

async fn put(store: &dyn Store, key: &str, body: Vec<Bytes>) {
    store.put(key, body, PutMode::Overwrite).await.expect("an ordinary PUT");
}

async fn read(store: &dyn Store, key: &str) -> Bytes {
    store.get(key, None).await.expect("an ordinary GET")
}

async fn put_get_head(store: &dyn Store) {
    for (index, len) in [0, 1, 2, 7, 4095, 4096, 65_537, 1_048_577, 8 << 20].into_iter().enumerate()
    {
        let (key, body) = (format!("sizes/{index}"), pattern(index as u64, len));
        put(store, &key, vec![body.clone()]).await;
        assert!(read(store, &key).await == body, "{len} bytes came back changed");
        assert_eq!(store.head(&key).await.expect("HEAD"), len as u64);
    }
    let chunks: Vec<Bytes> = (0..9).map(|n| pattern(n, n as usize * 1001)).collect();
    let whole: Bytes = chunks.concat().into();
    put(store, "sizes/chunks", chunks).await;
    assert!(read(store, "sizes/chunks").await == whole, "chunks are not concatenated");
    put(store, "sizes/none", Vec::new()).await;
    assert_eq!(store.head("sizes/none").await.expect("HEAD"), 0);
    put(store, "sizes/chunks", vec![Bytes::from_static(b"shorter")]).await;
    assert_eq!(read(store, "sizes/chunks").await, "shorter");
}

async fn ranges(store: &dyn Store) {
    let body = pattern(7, 10_000);
    put(store, "range/a", vec![body.clone()]).await;
    for (start, end) in [(0, 1), (0, 10_000), (17, 4711), (9_999, 10_000), (5, 5), (0, 0)] {
        let got = store.get("range/a", Some(start..end)).await.expect("a range inside the object");
        assert_eq!(got, body.slice(start as usize..end as usize), "{start}..{end}");
    }
    for end in [10_001, 1 << 40, u64::MAX] {
        let got = store.get("range/a", Some(9_990..end)).await.expect("a range that starts inside");
        assert_eq!(got, body.slice(9_990..), "9990..{end}");
    }
    for (start, end) in [(10_000, 10_001), (10_000, 10_000), (1 << 40, u64::MAX)] {
        assert_refused(
            store.get("range/a", Some(start..end)).await,
            InvalidRange,
            "beyond the end",
        );
    }
    #[expect(clippy::reversed_empty_ranges, reason = "the check uses a reversed range")]
    let backwards = 9..3;
    assert_refused(store.get("range/a", Some(backwards)).await, InvalidRange, "a reversed range");
    put(store, "range/empty", Vec::new()).await;
    assert_refused(
        store.get("range/empty", Some(0..1)).await,
        InvalidRange,
        "a range of an empty object",
    );
}

async fn deletes(store: &dyn Store) {
    put(store, "del/a/b", vec![pattern(1, 10)]).await;
    put(store, "del/a/c", vec![pattern(2, 10)]).await;
    store.delete("del/a/c").await.expect("DELETE");
    assert_refused(store.get("del/a/c", None).await, NotFound, "a deleted object");
    assert_eq!(read(store, "del/a/b").await, pattern(1, 10), "the other object remains");
    store.delete("del/a/c").await.expect("a second DELETE succeeds");
    store.delete("del/never/was").await.expect("a DELETE of an object that never existed succeeds");
    store.delete("del/a/b").await.expect("DELETE");
    assert_eq!(store.list("del/", None, 10).await.expect("LIST"), []);
    put(store, "del/a/b", vec![pattern(3, 10)]).await;
    assert_eq!(read(store, "del/a/b").await, pattern(3, 10), "a deleted key can be reused");
}

async fn missing(store: &dyn Store) {
    assert_refused(store.get("not/there", None).await, NotFound, "GET of a missing object");
    assert_refused(store.get("not/there", Some(0..9)).await, NotFound, "range of a missing object");
    assert_refused(
        store.get("not/there", Some(4..4)).await,
        NotFound,
        "empty range of a missing object",
    );
    assert_refused(store.head("not/there").await, NotFound, "HEAD of a missing object");
    assert_eq!(store.list("not/", None, 10).await.expect("LIST"), []);
}

async fn hostile_keys(store: &dyn Store) {
    let (long, segment) = (format!("{}a", "ab/".repeat(171)), "s".repeat(201));
    let hostile = [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "a/./b",
        "..",
        "../a",
        "a/../../b",
        "a..b",
        "a b",
        "a\0b",
        "a\\b",
        "a%2e%2e",
        "ä",
        "a~",
        "a?b",
        "a#b",
        "a\nb",
        &long,
        &segment,
    ];
    for key in hostile {
        assert_refused(store.put(key, Vec::new(), PutMode::Overwrite).await, Denied, key);
        assert_refused(store.get(key, None).await, Denied, key);
        assert_refused(store.head(key).await, Denied, key);
        assert_refused(store.delete(key).await, Denied, key);
    }
    for bound in ["../", "a\0", "a b"] {
        assert_refused(store.list(bound, None, 1).await, Denied, bound);
        assert_refused(store.list("", Some(bound), 1).await, Denied, bound);
    }
    let longest = format!("{}ab", "abcd/".repeat(102));
    assert_eq!(longest.len(), 512);
    put(store, &longest, vec![pattern(1, 3)]).await;
    assert_eq!(read(store, &longest).await, pattern(1, 3));
    store.delete(&longest).await.expect("DELETE");
}

async fn listing_order_and_paging(store: &dyn Store) {
    // The order of bytes is not the order of a tree walk: `-` and `.` sort before `/`.
    let mut keys: Vec<String> = ["a-b", "a.b", "a/b", "a/c/d", "a0", "aA", "a_b", "B", "Z/a"]
        .map(|key| format!("list/{key}"))
        .to_vec();
    keys.extend((0..1_010).map(|n| format!("list/many/{n:05}")));
    keys.push("list-".to_owned());
    for batch in keys.chunks(16) {
        let puts = batch.iter().map(|key| {
            store.put(key, vec![Bytes::copy_from_slice(key.as_bytes())], PutMode::Overwrite)
        });
        futures::future::join_all(puts).await.into_iter().for_each(|put| put.expect("PUT"));
    }
    keys.retain(|key| key.starts_with("list/"));
    keys.sort();
    let rows: Vec<ObjectMeta> =
        keys.iter().map(|key| ObjectMeta { key: key.clone(), size: key.len() as u64 }).collect();
    // More than the thousand rows of one response of S3.
    assert_same_rows(&store.list("list/", None, usize::MAX).await.expect("LIST"), &rows);
    assert_same_rows(&store.list("list/", None, 1_005).await.expect("LIST"), &rows[..1_005]);
    assert_eq!(store.list("list/", None, 0).await.expect("LIST"), []);

    let (mut paged, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = store.list("list/", after.as_deref(), 97).await.expect("LIST");
        paged.extend_from_slice(&page);
        let Some(last) = page.last().filter(|_| page.len() == 97) else { break };
        after = Some(last.key.clone());
    }
    assert_same_rows(&paged, &rows);
    listing_bounds(store, &keys).await;
}

/// Reports only the first row that differs: there are thousands.
#[track_caller]
fn assert_same_rows(got: &[ObjectMeta], expected: &[ObjectMeta]) {
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got, expected, "row {index}");
    }
    assert_eq!(got.len(), expected.len(), "the number of rows");
}

async fn listing_bounds(store: &dyn Store, keys: &[String]) {
    for prefix in ["list/a", "list/a/", "list/a/c", "list/man", "list/many/0100", "list/many/x"] {
        for after in ["", "A", "list/a", "list/a-", "list/a/b", "list/a/c", "list/many/01003", "z"]
        {
            let expected: Vec<&String> = keys
                .iter()
                .filter(|key| key.starts_with(prefix) && key.as_str() > after)
                .take(20)
                .collect();
            let after = Some(after).filter(|after| !after.is_empty());
            let rows = store.list(prefix, after, 20).await.expect("LIST");
            let got: Vec<&String> = rows.iter().map(|row| &row.key).collect();
            assert_eq!(got, expected, "{prefix} after {after:?}");
        }
    }
}

async fn create_keeps_the_first(store: &dyn Store) {
    let first = store.put("create/a", vec![Bytes::from_static(b"first")], PutMode::Create).await;
    first.expect("the key is free");
    let second = store.put("create/a", vec![Bytes::from_static(b"second")], PutMode::Create).await;
    assert_refused(second, AlreadyExists, "a second CREATE");
    assert_eq!(read(store, "create/a").await, "first");
    store.delete("create/a").await.expect("DELETE");
    let third = store.put("create/a", vec![Bytes::from_static(b"third")], PutMode::Create).await;
    third.expect("the key is free again");
}

async fn create_race(store: &Arc<dyn Store>) {
    for round in 0..5 {
        let key = format!("race/{round}");
        let tasks: Vec<_> = (0..16)
            .map(|writer| {
                let (store, key) = (Arc::clone(store), key.clone());
                tasks::spawn("create", async move {
                    let put = store.put(&key, vec![pattern(writer, 5_000)], PutMode::Create).await;
                    (writer, put)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.expect("the task ends") {
                (writer, Ok(())) => winners.push(writer),
                (_, Err(error)) if error.kind == AlreadyExists => {}
                // A store may ask the loser of a conflict to retry.
                (_, Err(error)) if error.certainty == Certainty::Determinate => {}
                (_, Err(error)) => panic!("{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "exactly one of 16 creates an object: {winners:?}");
        assert_eq!(read(store.as_ref(), &key).await, pattern(winners[0], 5_000));
    }
}

async fn overwrite_is_atomic(store: &Arc<dyn Store>) {
    const LEN: usize = 300_000;
    let versions: Arc<[Bytes]> = (0..20).map(|version| pattern(version, LEN)).collect();
    put(store.as_ref(), "atomic", vec![versions[0].clone()]).await;
    let (writer, written) = (Arc::clone(store), Arc::clone(&versions));
    let writer = tasks::spawn("writer", async move {
        for version in &written[1..] {
            put(writer.as_ref(), "atomic", vec![version.clone()]).await;
        }
    });
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, versions) = (Arc::clone(store), Arc::clone(&versions));
            tasks::spawn("reader", async move {
                for _ in 0..30 {
                    let body = read(store.as_ref(), "atomic").await;
                    assert!(versions.contains(&body), "a torn object");
                }
            })
        })
        .collect();
    writer.await.expect("the writer ends well");
    for reader in readers {
        reader.await.expect("every reader sees whole objects");
    }
    assert!(read(store.as_ref(), "atomic").await == versions[19], "the last write remains");
}
