//! Configs that change while the topics are in use.

use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::super::raw_batch::{GZIP, NONE, RawBatch, RawRecord, raw_record};
use super::Findings;
use super::side_by_side::{Case, SideBySide, case};
use crate::raw::client::Client;
use crate::raw::lifecycle::LIMIT;
use crate::raw::requests::text;
use crate::raw::{brokers, replica};
use testbed::process::wait_until;

const TOPIC: i8 = 2;
const SET: i8 = 0;
const INVALID_CONFIG: i16 = 40;

pub(super) fn run(findings: &mut Findings) {
    let mut sides = SideBySide::new("changes", &[]);
    findings.compare(&mut sides, &probes("before"));
    for (config, value) in [
        ("max.message.bytes", "500"),
        ("message.timestamp.before.max.ms", "1000"),
        ("message.timestamp.type", "LogAppendTime"),
        ("compression.type", "lz4"),
        ("max.message.bytes", "1000000"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("message.timestamp.after.max.ms", "1"),
        ("compression.type", "producer"),
    ] {
        for name in sides.names() {
            assert_eq!(alter(&replica().bootstrap(), name, config, value), 0, "{config}={value}");
        }
        // The diskless topic follows at once; a broker does so when it has observed the change.
        all_brokers_know(sides.names()[1], config, value);
        findings.compare(&mut sides, &probes(&format!("{config}={value}")));
    }
    compacted(findings, sides);
}

/// Compaction is rejected through the proxy. When it is set at a broker directly, both sides
/// require keys.
fn compacted(findings: &mut Findings, mut sides: SideBySide) {
    let (config, value) = ("cleanup.policy", "compact");
    let refused = alter(&replica().bootstrap(), sides.names()[0], config, value);
    assert_eq!(refused, INVALID_CONFIG);
    for name in sides.names() {
        assert_eq!(alter(&brokers()[0], name, config, value), 0);
        all_brokers_know(name, config, value);
    }
    let keyless = case("keyless until it is noticed", &RawBatch::two())
        .to(super::side_by_side::TopicRef::Topic, 4);
    wait_until("compaction to be noticed", Duration::from_secs(30), || {
        let (ours, theirs) = sides.query(&keyless);
        assert!(theirs.contains("code 87"), "{theirs}");
        ours.contains("code 87")
    });
    let keyed = |n| RawRecord { key: Some(b"k".to_vec()), ..raw_record(n, "v") };
    let mut cases = vec![case(
        "empty key",
        &RawBatch::of(vec![RawRecord { key: Some(Vec::new()), ..raw_record(0, "v") }]),
    )];
    for (name, codec) in [("none", NONE), ("gzip", GZIP)] {
        let records = |all: Vec<RawRecord>| RawBatch::of(all).codec(codec);
        cases.push(case(format!("{name} keyed"), &records(vec![keyed(0), keyed(1)])));
        cases.push(case(format!("{name} keyless"), &records(vec![raw_record(0, "v")])));
        cases.push(case(
            format!("{name} partly keyed"),
            &records(vec![raw_record(0, "a"), keyed(1), raw_record(2, "b")]),
        ));
        let late = RawRecord { timestamp_delta: 1 << 50, ..raw_record(2, "b") };
        cases.push(case(
            format!("{name} keyless and late"),
            &records(vec![keyed(0), raw_record(1, "a"), late]),
        ));
    }
    findings.compare(&mut sides, &cases);
}

fn probes(when: &str) -> Vec<Case> {
    let large = RawBatch::of(vec![raw_record(0, &"0123456789".repeat(60))]);
    vec![
        case(format!("{when}: small"), &RawBatch::two()),
        case(format!("{when}: large"), &large),
        case(format!("{when}: small gzip"), &RawBatch::two().codec(GZIP)),
        case(format!("{when}: from 2033"), &RawBatch::two().at(2_000_000_000_000)),
    ]
}

/// Alters a config; returns the error code.
fn alter(address: &str, topic: &str, config: &str, value: &str) -> i16 {
    let change = AlterableConfig::default()
        .with_name(text(config))
        .with_config_operation(SET)
        .with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(vec![change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    Client::connect(address).call(&request, 1).responses[0].error_code
}

fn all_brokers_know(topic: &str, config: &str, value: &str) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text(config)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    for address in brokers() {
        let mut client = Client::connect(&address);
        wait_until("the config at the broker", LIMIT, || {
            let found = client.call(&request, 4).results.remove(0).configs;
            found.iter().any(|entry| entry.value.as_deref() == Some(value))
        });
    }
    // A broker shows a config before it applies it to the log, and has no request that tells when.
    std::thread::sleep(Duration::from_secs(1));
}
