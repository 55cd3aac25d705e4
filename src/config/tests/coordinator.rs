//! The key `coordinator`.

use super::*;

#[test]
fn coordinator_is_a_url_or_a_section() {
    let read = |text: &str| match parse(text).unwrap().coordinator {
        CoordinatorSettings::Redis { url, replicas, shards } => (url.to_string(), replicas, shards),
        CoordinatorSettings::Embedded => panic!("{text}"),
    };
    let url = "redis://r:6379/0".to_owned();
    assert_eq!(read("coordinator: redis://r:6379/0"), (url.clone(), 0, None));
    assert_eq!(read("coordinator: {url: \"redis://r:6379/0\"}"), (url.clone(), 0, None));
    assert_eq!(
        read("coordinator: {url: \"redis://r:6379/0\", replicas: 2, shards: 8}"),
        (url, 2, Some(8))
    );
}

#[test]
fn problems_of_the_section_are_reported() {
    for (text, expected) in [
        (
            "coordinator: {replicas: 1}",
            "coordinator.url: missing key: expected `redis://host:6379/0` (or `rediss://`, `redis-sentinel://`, `redis-cluster://`), or `embedded`",
        ),
        (
            "coordinator: {url: \"redis://r\", replicas: 6}",
            "coordinator.replicas: invalid number `6`: expected 0–5",
        ),
        (
            "coordinator: {url: \"redis://r\", shards: 0}",
            "coordinator.shards: invalid number `0`: expected 1–256",
        ),
        (
            "coordinator: {url: embedded, replicas: 1}",
            "coordinator.replicas: requires Redis, but `url` is `embedded`; delete the line",
        ),
    ] {
        check(text, &[expected]);
    }
}
