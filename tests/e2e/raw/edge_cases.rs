//! Unusual requests for which no schema specifies the response: it must be that of a broker.

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{
    ApiKey, DescribeAclsRequest, FetchRequest, FindCoordinatorRequest, ListGroupsRequest,
    MetadataRequest, ProduceRequest,
};

use super::batch::{Batch, read};
use super::client::Client;
use super::requests::{
    EARLIEST, Target, append, fetch_of, fetch_partition, list_offsets, metadata, produce, produced,
    text,
};
use super::{Topic, replica};

/// Compares the responses for a diskless and a classic topic, each with three batches of two
/// records.
fn compare<T: PartialEq + std::fmt::Debug>(
    stem: &str,
    query: impl Fn(&mut Client, Target<'_>) -> T,
) {
    let answers = [Topic::diskless(stem, 2), Topic::classic(stem, 1)].map(|topic| {
        let mut client = topic.client();
        for _ in 0..3 {
            append(&mut client, topic.partition(0), Batch::of(&["a", "b"]).bytes());
        }
        query(&mut client, topic.partition(0))
    });
    let [ours, theirs] = answers;
    assert_eq!(ours, theirs, "ours, and the broker's");
}

type Row = (i16, i64, i64, Vec<i64>);

fn rows(client: &mut Client, request: &FetchRequest) -> Vec<Row> {
    let response = client.call(request, 12);
    let rows = response.responses.iter().flat_map(|topic| &topic.partitions);
    rows.map(|p| {
        let batches = read(p.records.as_ref().expect("never null"));
        let bases = batches.into_iter().map(|(base, _)| base).collect();
        (p.error_code, p.high_watermark, p.log_start_offset, bases)
    })
    .collect()
}

#[test]
fn unusual_fetches_match_a_broker() {
    compare("odd-fetch", |client, at| {
        let one = |partition: FetchPartition| fetch_of(at, 12, vec![partition]);
        let first = || fetch_partition(0, 0);
        [
            one(first().with_partition_max_bytes(-1)),
            one(first()).with_isolation_level(2),
            one(first()).with_max_bytes(1).with_min_bytes(1 << 20).with_max_wait_ms(15_000),
            one(first()).with_isolation_level(1),
            one(fetch_partition(-1, 0)),
            one(fetch_partition(0, 6)).with_min_bytes(0).with_max_wait_ms(15_000),
            one(fetch_partition(0, 6)).with_max_wait_ms(-1),
            one(first().with_partition_max_bytes(100)),
        ]
        .map(|request| {
            let started = Instant::now();
            let rows = rows(client, &request);
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{request:?}: {:?}",
                started.elapsed()
            );
            rows
        })
    });
}

#[test]
fn unusual_list_offsets_match_a_broker() {
    compare("odd-list", |client, at| {
        [(EARLIEST, 1), (-4, 8), (-5, 9), (-6, 10), (-99, 7), (i64::MIN, 7), (i64::MAX, 7)].map(
            |(timestamp, version)| {
                let response = client.call(&list_offsets(at, timestamp), version);
                let row = &response.topics[0].partitions[0];
                (timestamp, row.error_code, row.timestamp, row.offset)
            },
        )
    });
}

/// A broker has appended the record before the timeout; a slower store is no reason for an error.
#[test]
fn produce_with_zero_timeout_matches_a_broker() {
    compare("odd-hurry", |client, at| {
        [1, -1].map(|acks| {
            let batch = Batch::of(&["x"]).bytes();
            let response = client.call(&produce(at, 9, acks, batch).with_timeout_ms(0), 9);
            (produced(&response).error_code, produced(&response).base_offset)
        })
    });
}

/// Responses of the proxy, edited responses and forwarded responses come in request order.
#[test]
fn responses_of_one_connection_keep_request_order() {
    let topic = Topic::diskless("order", 1);
    let at = topic.partition(0);
    let mut client = topic.client();
    let mut requested = Vec::new();
    for n in 0..5 {
        let batch = Batch::of(&[&format!("{n}")]).bytes();
        requested.push((ApiKey::Produce, 9, client.send(&produce(at, 9, -1, batch.clone()), 9)));
        requested.push((ApiKey::Metadata, 12, client.send(&metadata(&[at.name]), 12)));
        client.send(&produce(at, 9, 0, batch), 9);
        requested.push((ApiKey::ListGroups, 4, client.send(&ListGroupsRequest::default(), 4)));
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
        requested.push((ApiKey::FindCoordinator, 4, client.send(&find, 4)));
        let acls = DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(1)
            .with_operation(1)
            .with_permission_type(1);
        requested.push((ApiKey::DescribeAcls, 3, client.send(&acls, 3)));
        let fetch = fetch_of(at, 12, vec![fetch_partition(0, 0)]);
        requested.push((ApiKey::Fetch, 12, client.send(&fetch, 12)));
    }
    let mut offsets = Vec::new();
    for (key, version, correlation_id) in requested {
        match key {
            ApiKey::Produce => {
                let response = client.receive::<ProduceRequest>(correlation_id, version);
                offsets.push(produced(&response).base_offset);
            }
            ApiKey::Metadata => {
                let response = client.receive::<MetadataRequest>(correlation_id, version);
                assert_eq!(response.topics[0].error_code, 0);
            }
            key => {
                let frame = client.receive_frame(key as i16, version);
                assert_eq!(frame[..4], correlation_id.to_be_bytes(), "{key:?}");
            }
        }
    }
    assert_eq!(offsets, [0, 2, 4, 6, 8], "with those between that wanted no answer");
}

/// More requests than the proxy queues, from a client that reads nothing until all are sent.
#[test]
fn hundreds_of_pipelined_requests_are_answered() {
    const REQUESTS: i64 = 400;
    let topic = Topic::diskless("many", 1);
    let mut client = topic.client();
    let sent: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let batch = Batch::of(&["x"]).bytes();
            client.send(&produce(topic.partition(0), 9, -1, batch), 9)
        })
        .collect();
    for (n, correlation_id) in (0..).zip(sent) {
        let response = client.receive::<ProduceRequest>(correlation_id, 9);
        assert_eq!((produced(&response).error_code, produced(&response).base_offset), (0, n));
    }
}

#[test]
fn hidden_apis_close_the_connection() {
    // An API between brokers, and ShareFetch on a node where no broker responds to it.
    for (address, key) in [(replica().broker(1), 56), (replica().node(0), 78)] {
        let mut client = Client::connect(&address);
        client.send_body(key, 1, &[0; 32]);
        assert!(client.is_closed(), "{key} at {address}");
    }
}
