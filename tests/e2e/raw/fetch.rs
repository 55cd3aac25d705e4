//! Fetch on a diskless node.

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{ForgottenTopic, ReplicaState};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};

use super::Topic;
use super::batch::{Batch, read};
use super::requests::{append, fetch, fetch_of, fetch_partition, fetched, topic_name};

#[test]
fn waiting_fetch_is_woken_by_a_produce_of_another_connection() {
    let (ours, theirs) = (Topic::diskless("wake", 1), Topic::classic("wake", 1));
    for topic in [ours, theirs] {
        let at = topic.partition(0);
        let (mut reader, mut writer) = (topic.client(), topic.client());
        append(&mut writer, at, Batch::of(&["before"]).bytes());
        let request = fetch(at, 12, 1).with_max_wait_ms(20_000);
        let correlation_id = reader.send(&request, 12);
        assert!(reader.is_silent_for(Duration::from_millis(300)), "no records yet");
        let started = Instant::now();
        append(&mut writer, at, Batch::of(&["after"]).bytes());
        let response = reader.receive::<FetchRequest>(correlation_id, 12);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let records = fetched(&response).records.clone().expect("records");
        assert_eq!(read(&records)[0].0, 1);
    }
}

#[test]
fn empty_fetch_waits_and_returns_empty_records() {
    let (ours, theirs) = (Topic::diskless("empty", 1), Topic::classic("empty", 1));
    for topic in [ours, theirs] {
        let mut client = topic.client();
        let started = Instant::now();
        for version in [4, 11, 12, 15] {
            let request = fetch(topic.partition(0), version, 0).with_max_wait_ms(150);
            let response = client.call(&request, version);
            let row = fetched(&response);
            let records = row.records.as_ref().expect("never null");
            assert_eq!((row.error_code, row.high_watermark, records.len()), (0, 0, 0));
        }
        assert!(
            started.elapsed() >= Duration::from_millis(600),
            "it waits: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn offset_out_of_range_is_returned_at_once() {
    let (ours, theirs) = (Topic::diskless("range", 1), Topic::classic("range", 1));
    for topic in [ours, theirs] {
        let mut client = topic.client();
        append(&mut client, topic.partition(0), Batch::of(&["a", "b"]).bytes());
        for offset in [3, 1 << 40, -1] {
            let started = Instant::now();
            let request = fetch(topic.partition(0), 12, offset).with_max_wait_ms(20_000);
            let response = client.call(&request, 12);
            let row = fetched(&response);
            assert_eq!(row.error_code, 1, "{offset} of {}", topic.name);
            let ends = (row.high_watermark, row.last_stable_offset, row.log_start_offset);
            assert_eq!(ends, (-1, -1, -1), "{offset} of {}", topic.name);
            assert!(started.elapsed() < Duration::from_secs(5));
        }
    }
}

#[test]
fn offset_within_a_batch_returns_the_whole_batch() {
    let (ours, theirs) = (Topic::diskless("middle", 1), Topic::classic("middle", 1));
    for topic in [ours, theirs] {
        let mut client = topic.client();
        for _ in 0..2 {
            append(&mut client, topic.partition(0), Batch::of(&["a", "b", "c"]).bytes());
        }
        for (offset, bases) in [(1, vec![0, 3]), (3, vec![3]), (5, vec![3]), (6, vec![])] {
            let response = client.call(&fetch(topic.partition(0), 12, offset), 12);
            let records = fetched(&response).records.clone().expect("records");
            let got: Vec<i64> = read(&records).into_iter().map(|(base, _)| base).collect();
            assert_eq!(got, bases, "from {offset} of {}", topic.name);
        }
    }
}

#[test]
fn zero_max_bytes_still_returns_one_batch() {
    let topic = Topic::diskless("budget", 2);
    let mut client = topic.client();
    let at = |partition| topic.partition(partition);
    for partition in [0, 0, 1] {
        append(&mut client, at(partition), Batch::of(&["some value"]).bytes());
    }
    let both = vec![fetch_partition(0, 0), fetch_partition(1, 0)];
    let response = client.call(&fetch_of(at(0), 12, both.clone()).with_max_bytes(0), 12);
    assert_eq!(batches(&response), [(0, 1), (1, 0)], "one batch, and both partitions named");
    let tight = both.into_iter().map(|p| p.with_partition_max_bytes(0)).collect();
    let response = client.call(&fetch_of(at(0), 12, tight), 12);
    assert_eq!(batches(&response)[0], (0, 1), "the first partition always makes progress");
}

/// Returns the number of batches of each partition.
fn batches(response: &FetchResponse) -> Vec<(i32, usize)> {
    let rows = response.responses.iter().flat_map(|topic| &topic.partitions);
    rows.map(|p| (p.partition_index, p.records.as_ref().map_or(0, |r| read(r).len()))).collect()
}

#[test]
fn follower_fetches_are_rejected() {
    let topic = Topic::diskless("follower", 1);
    let mut client = topic.client();
    let old = fetch(topic.partition(0), 12, 0).with_replica_id(BrokerId(1));
    assert_eq!(fetched(&client.call(&old, 12)).error_code, 6);
    let state = ReplicaState::default().with_replica_id(BrokerId(1)).with_replica_epoch(1);
    let new = fetch(topic.partition(0), 15, 0).with_replica_state(state);
    assert_eq!(fetched(&client.call(&new, 15)).error_code, 6);
}

/// The same steps with a diskless and a classic topic have the same responses.
#[test]
fn fetch_sessions_follow_kip_227() {
    let (ours, theirs) = (Topic::diskless("session", 2), Topic::classic("session", 1));
    session_steps(&ours, ours.is_diskless());
    session_steps(&theirs, false);
}

fn session_steps(topic: &Topic, two: bool) {
    let mut client = topic.client();
    let at = topic.partition(0);
    append(&mut client, at, Batch::of(&["a"]).bytes());
    let mut all = vec![fetch_partition(0, 0)];
    if two {
        all.push(fetch_partition(1, 0));
    }
    let count = all.len();
    let full = client.call(&fetch_of(at, 12, all).with_session_epoch(0), 12);
    assert_eq!((full.error_code, batches(&full).len()), (0, count), "{}", topic.name);
    let id = full.session_id;
    assert!(id != 0, "{}: a session", topic.name);

    // Sessions work from any connection, and omit unchanged partitions.
    let mut client = topic.client();
    let next = |epoch, partitions: Vec<_>| {
        let request = fetch_of(at, 12, partitions).with_session_id(id).with_session_epoch(epoch);
        match request.topics[0].partitions.is_empty() {
            true => request.with_topics(Vec::new()),
            false => request,
        }
    };
    let moved = client.call(&next(1, vec![fetch_partition(0, 1)]), 12);
    assert_eq!((moved.error_code, moved.session_id), (0, id), "{}", topic.name);
    assert_eq!(batches(&moved), [], "{}: no new records", topic.name);
    append(&mut client, at, Batch::of(&["b"]).bytes());
    let unnamed = client.call(&next(2, vec![]), 12);
    assert_eq!(batches(&unnamed), [(0, 1)], "{}: remembered", topic.name);

    // A wrong epoch does not end the session; an unknown session does not exist.
    assert_eq!(client.call(&next(9, vec![]), 12).error_code, 71, "{}", topic.name);
    let other = next(1, vec![]).with_session_id(id ^ 0x55);
    assert_eq!(client.call(&other, 12).error_code, 70, "{}", topic.name);

    let forgotten =
        ForgottenTopic::default().with_topic(topic_name(&topic.name)).with_partitions(vec![0]);
    let without = next(3, vec![]).with_forgotten_topics_data(vec![forgotten]);
    let response = client.call(&without, 12);
    assert_eq!((response.error_code, batches(&response)), (0, vec![]), "{}", topic.name);
    append(&mut client, at, Batch::of(&["c"]).bytes());
    // A broker ends a session without partitions.
    if two {
        let response = client.call(&next(4, vec![]), 12);
        assert_eq!((response.error_code, batches(&response)), (0, vec![]), "{}", topic.name);
    }
    let closing = client.call(&next(-1, vec![]), 12);
    assert_eq!((closing.error_code, closing.session_id), (0, 0), "{}", topic.name);
    assert_eq!(client.call(&next(5, vec![]), 12).error_code, 70, "{}: closed", topic.name);
}

#[test]
fn unknown_partitions_do_not_end_the_wait() {
    let topic = Topic::diskless("absent", 1);
    let mut client = topic.client();
    let both = vec![fetch_partition(0, 0), fetch_partition(77, 0)];
    let started = Instant::now();
    let request = fetch_of(topic.partition(0), 12, both).with_max_wait_ms(300);
    let response = client.call(&request, 12);
    let rows = &response.responses[0].partitions;
    assert_eq!(rows.iter().map(|p| p.error_code).collect::<Vec<_>>(), [0, 3]);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
}
