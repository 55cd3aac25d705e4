//! No request takes much more processor time or memory than in proportion to its bytes, whatever
//! lists it contains.

#![cfg(feature = "test-util")]

use std::fs;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    FetchRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use odradek::proxy::handlers::fuzz;
use odradek::wire::guard::sample::{Direction, message, versions};
use odradek::wire::header;
use parking_lot::Mutex;
use peak_alloc::PeakAlloc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Held by the test that runs: memory is counted for the whole process, also that of requests which
/// another test makes.
static MEASURING: Mutex<()> = Mutex::new(());

/// Memory that any request may take, and for each of its bytes. The guard permits 64 bytes of
/// decoded request for each byte, and the response takes some as well.
const MEMORY: usize = 1 << 20;
const MEMORY_PER_BYTE: usize = 192;
/// Processor time that any request may take, and for each of its bytes, without optimisations.
const TIME: Duration = Duration::from_millis(150);
const TIME_PER_BYTE: Duration = Duration::from_micros(3);

/// The keys of requests with lists that a handler works on.
const HANDLED: [i16; 11] = [0, 1, 2, 19, 21, 23, 32, 33, 35, 44, 61];

/// Returns the processor time that this thread has used.
fn processor_time() -> Duration {
    let usage = fs::read_to_string("/proc/thread-self/schedstat").expect("the scheduler's counts");
    let nanos = usage.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

/// Handles a frame, and fails if that takes too much.
fn check(what: &str, frame: &[u8]) {
    let (before, began) = (ALLOCATOR.current_usage(), processor_time());
    ALLOCATOR.reset_peak_usage();
    fuzz::request(frame);
    let memory = ALLOCATOR.peak_usage().saturating_sub(before);
    let time = processor_time() - began;
    let bytes = frame.len();
    let shown = &frame[..bytes.min(64)];
    let allowed = MEMORY + MEMORY_PER_BYTE * bytes;
    assert!(memory <= allowed, "{what}: {memory} bytes for {bytes}: {shown:02x?}");
    let allowed = TIME + TIME_PER_BYTE * u32::try_from(bytes).expect("a frame");
    assert!(time <= allowed, "{what}: {time:?} for {bytes} bytes: {shown:02x?}");
}

fn check_request<R: Request>(what: &str, request: &R, version: i16) {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("hostile")));
    let mut out = BytesMut::new();
    header.encode(&mut out, R::header_version(version)).expect("a header");
    request.encode(&mut out, version).expect("a request");
    check(what, &out);
}

fn name(length: usize) -> TopicName {
    TopicName(StrBytes::from_string("n".repeat(length)))
}

fn numbered(index: usize) -> StrBytes {
    StrBytes::from_string(format!("topic-{index}"))
}

fn fetch_topic(name: TopicName, partitions: i32) -> FetchTopic {
    let partition = |p| FetchPartition::default().with_partition(p);
    FetchTopic::default().with_topic(name).with_partitions((0..partitions).map(partition).collect())
}

#[test]
fn long_name_of_many_partitions_is_not_copied_for_each() {
    let _only = MEASURING.lock();
    for (length, partitions) in
        [(32_767, 10_000), (1 << 20, 1_000), (1 << 20, 4_000), (249, 30_000)]
    {
        let request =
            FetchRequest::default().with_topics(vec![fetch_topic(name(length), partitions)]);
        check_request("Fetch", &request, 12);
        let partition = |p| ListOffsetsPartition::default().with_partition_index(p % 7);
        let topic = ListOffsetsTopic::default()
            .with_name(name(length.min(32_767)))
            .with_partitions((0..partitions).map(partition).collect());
        check_request("ListOffsets", &ListOffsetsRequest::default().with_topics(vec![topic]), 7);
        let partition = |p| DeleteRecordsPartition::default().with_partition_index(p);
        let topic = DeleteRecordsTopic::default()
            .with_name(name(length))
            .with_partitions((0..partitions).map(partition).collect());
        check_request(
            "DeleteRecords",
            &DeleteRecordsRequest::default().with_topics(vec![topic]),
            2,
        );
    }
}

#[test]
fn forgotten_partitions_are_not_compared_with_each_of_a_session() {
    let _only = MEASURING.lock();
    let count = 30_000;
    let forgotten = ForgottenTopic::default()
        .with_topic(name(20))
        .with_partitions((count..2 * count).collect());
    let request = FetchRequest::default()
        .with_topics(vec![fetch_topic(name(20), count)])
        .with_forgotten_topics_data(vec![forgotten]);
    check_request("Fetch", &request, 12);
}

#[test]
fn rows_of_many_resources_are_ordered_in_linear_time() {
    let _only = MEASURING.lock();
    let count = 30_000;
    let altered = |index| {
        AlterConfigsResource::default().with_resource_type(2).with_resource_name(numbered(index))
    };
    let alter =
        IncrementalAlterConfigsRequest::default().with_resources((0..count).map(altered).collect());
    check_request("IncrementalAlterConfigs", &alter, 1);

    let topic = |index| CreatableTopic::default().with_name(TopicName(numbered(index)));
    let create = CreateTopicsRequest::default().with_topics((0..count).map(topic).collect());
    check_request("CreateTopics", &create, 7);

    let keys = (0..count).map(numbered).collect();
    let described = |keys| {
        let resource = DescribeConfigsResource::default().with_resource_type(2);
        resource.with_resource_name(numbered(0)).with_configuration_keys(Some(keys))
    };
    let mut resources = vec![described(keys)];
    resources.extend((0..count).map(|_| described(Vec::new())));
    check_request(
        "DescribeConfigs",
        &DescribeConfigsRequest::default().with_resources(resources),
        4,
    );

    let topic = |index| {
        let topic = DescribableLogDirTopic::default().with_topic(TopicName(numbered(index % 3)));
        topic.with_partitions((0..10).collect())
    };
    let topics = (0..count).map(topic).collect();
    check_request(
        "DescribeLogDirs",
        &DescribeLogDirsRequest::default().with_topics(Some(topics)),
        4,
    );
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Requests with one long list each, in every place where a request can have one, for
/// `FUZZ_SECONDS` (3) from `FUZZ_SEED` (1).
#[test]
fn random_requests_take_resources_in_proportion_to_their_bytes() {
    let _only = MEASURING.lock();
    let seed = from_env("FUZZ_SEED", 1);
    let mut rng = StdRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(from_env("FUZZ_SECONDS", 3));
    let mut all = versions(Direction::Request);
    all.retain(|(key, _)| HANDLED.contains(key));
    let mut requests = 0;
    while Instant::now() < end {
        let (key, version) = all[rng.random_range(0..all.len())];
        let elements = [10, 1_000, 10_001][rng.random_range(0..3)];
        // The list at one of the first places is long, the others are short.
        let mut lists_before = rng.random_range(0..4);
        let body = message(Direction::Request, (key, version), elements, &mut |below| {
            if below != elements {
                return rng.random_range(0..below);
            }
            lists_before -= 1;
            if lists_before == -1 { elements - 1 } else { rng.random_range(0..3) }
        });
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_slice(&[0, 0, 0, 7, 0, 2, b'm', b'e']);
        if header::flexible(key, version) == Some(true) {
            frame.put_u8(0);
        }
        frame.put_slice(&body);
        check(&format!("seed {seed}, request {requests}: key {key} v{version}"), &frame);
        requests += 1;
    }
    assert!(requests > 10, "only {requests} requests");
}
