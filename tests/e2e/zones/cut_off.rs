//! A replica that Redis does not respond to, beside one that it responds to.

use std::time::{Duration, Instant};

use super::{A, Installation, hosted_by, metadata, nodes};
use crate::raw::Topic;
use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{append, fetch, fetched};
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::redis_proxy::{Mode, RedisProxy};
use testbed::replica::{DISKLESS_PREFIX, Replica};

const LIMIT: Duration = Duration::from_secs(30);
const NOT_LEADER: i16 = 6;

/// Returns the error and the number of bytes of a fetch that waits for half a second.
fn tail(client: &mut Client, topic: &Topic, offset: i64) -> (i16, usize) {
    let request = fetch(topic.partition(0), 12, offset).with_max_wait_ms(500);
    let response = client.call(&request, 12);
    let row = fetched(&response);
    (row.error_code, row.records.as_ref().map_or(0, bytes::Bytes::len))
}

#[test]
fn cut_off_replica_names_another_one_and_serves_no_stale_tail() {
    let at = Installation::new();
    let healthy = at.replica(A, "a-0", 4, "");
    let redis = RedisProxy::start(Testbed::get().redis().port());
    let beside = Installation { cluster: at.cluster, redis };
    let cut = beside.replica(A, "a-1", 4, "");
    let seen = |replica: &Replica| nodes(&metadata(&replica.bootstrap(), "raw"));
    wait_until("both host nodes", LIMIT, || {
        let seen = seen(&cut);
        !hosted_by(&seen, &cut).is_empty() && !hosted_by(&seen, &healthy).is_empty()
    });
    let before = seen(&cut);
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}cut-off"));
    let topic = Topic::create(&healthy, &name, 1, &[]);
    let mut writer = Client::connect(&healthy.node(0));
    append(&mut writer, topic.partition(0), Batch::of(&["a"]).bytes());
    let mut reader = Client::connect(&cut.node(0));
    wait_until("the tail", LIMIT, || tail(&mut reader, &topic, 0).1 > 0);
    assert_eq!(tail(&mut reader, &topic, 1), (0, 0));

    beside.redis.set(Mode::HoldResponses);
    append(&mut writer, topic.partition(0), Batch::of(&["b"]).bytes());
    let begun = Instant::now();
    wait_until("an error at the tail", LIMIT, || tail(&mut reader, &topic, 1).0 != 0);
    // Two seconds until the lost connection is noticed, and two for the query that then fails.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    wait_until("the reader to be sent away", LIMIT, || {
        tail(&mut reader, &topic, 1) == (NOT_LEADER, 0)
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let during = seen(&cut);
    assert!(hosted_by(&during, &cut).is_empty(), "{during:?}");
    assert!(during.keys().eq(before.keys()), "no node vanishes: {during:?}");
    assert_eq!(hosted_by(&during, &healthy).len(), 4);
    for _ in 0..3 {
        assert_eq!(tail(&mut reader, &topic, 1), (NOT_LEADER, 0), "never an empty success");
    }

    beside.redis.set(Mode::Pass);
    wait_until("it serves again", LIMIT, || tail(&mut reader, &topic, 1).1 > 0);
    wait_until("its nodes return", LIMIT, || seen(&cut) == before && seen(&healthy) == before);
}
