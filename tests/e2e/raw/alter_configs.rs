//! `diskless.enable` among the configs of an existing topic.

use std::time::Duration;

use kafka_protocol::messages::alter_configs_request as whole;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request as step;
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};

use super::batch::Batch;
use super::client::Client;
use super::misrouted::placeholder_end;
use super::requests::{LATEST, append, fetch, fetched, offset_of, text};
use super::{Topic, replica};
use testbed::process::wait_until;

const TOPIC: i8 = 2;
const SET: i8 = 0;
const DELETE: i8 = 1;
const INVALID_CONFIG: i16 = 40;

type Step<'a> = (&'a str, i8, Option<&'a str>);

fn alter(name: &str, steps: &[Step<'_>], version: i16, validate: bool) -> (i16, String) {
    alter_at(&replica().bootstrap(), name, steps, version, validate)
}

fn alter_at(
    bootstrap: &str,
    name: &str,
    steps: &[Step<'_>],
    version: i16,
    validate: bool,
) -> (i16, String) {
    let config = |&(name, operation, value): &Step<'_>| {
        step::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text))
    };
    let resource = step::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configs(steps.iter().map(config).collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate);
    let response = Client::connect(bootstrap).call(&request, version);
    let row = &response.responses[0];
    (row.error_code, row.error_message.as_deref().unwrap_or_default().to_owned())
}

/// Makes a topic diskless through `bootstrap`; returns the error code and the message.
pub(crate) fn enable_diskless_at(bootstrap: &str, name: &str) -> (i16, String) {
    alter_at(bootstrap, name, &[("diskless.enable", SET, Some("true"))], 1, false)
}

fn set(name: &str, config: &str, value: &str) -> (i16, String) {
    alter(name, &[(config, SET, Some(value))], 1, false)
}

/// Returns the value of a topic's config from DescribeConfigs.
fn described(name: &str, config: &str, version: i16) -> Option<String> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = Client::connect(&replica().bootstrap()).call(&request, version);
    let result = &response.results[0];
    assert_eq!(result.error_code, 0);
    let found = result.configs.iter().find(|c| c.name.as_str() == config);
    found.and_then(|c| c.value.as_deref().map(str::to_owned))
}

/// Waits for a config at the broker, which may lag behind the controller.
fn wait_for_config(name: &str, config: &str, value: &str) {
    let label = format!("{name} has {config}={value}");
    wait_until(&label, Duration::from_secs(10), || {
        described(name, config, 4).as_deref() == Some(value)
    });
}

fn is_diskless(name: &str) -> bool {
    Topic::look_up(replica(), name).is_diskless()
}

#[test]
fn empty_topic_can_become_diskless() {
    for flag in ["diskless.enable", "inkless.enable"] {
        let topic = Topic::classic("alter", 2);
        let steps = [(flag, SET, Some("true")), ("retention.ms", SET, Some("77000"))];
        assert_eq!(alter(&topic.name, &steps, 1, true).0, 0, "only asked");
        assert!(!is_diskless(&topic.name));
        let (code, message) = alter(&topic.name, &steps, 1, false);
        assert_eq!(code, 0, "{message}");
        assert!(is_diskless(&topic.name));
        for version in 1..=4 {
            let enabled = described(&topic.name, "diskless.enable", version);
            assert_eq!(enabled.as_deref(), Some("true"), "v{version}");
        }
        wait_for_config(&topic.name, "retention.ms", "77000");
        let after = Topic::look_up(replica(), &topic.name);
        assert_eq!(append(&mut after.client(), after.partition(0), Batch::of(&["x"]).bytes()), 0);
        assert_eq!(placeholder_end(&topic.name), 0);
        assert_eq!(set(&topic.name, flag, "true").0, 0, "again is as good");
    }
}

/// A consumer that waits at the broker while its topic migrates must not wait there indefinitely.
#[test]
fn migration_ends_fetch_sessions_at_the_broker() {
    let topic = Topic::classic("session-before", 1);
    let mut reader = topic.client();
    let open = fetch(topic.partition(0), 12, 0).with_session_epoch(0);
    let opened = reader.call(&open, 12);
    assert!(opened.session_id != 0 && fetched(&opened).error_code == 0);
    assert_eq!(set(&topic.name, "diskless.enable", "true").0, 0);
    let next = open.with_topics(vec![]).with_session_id(opened.session_id).with_session_epoch(1);
    assert_eq!(reader.call(&next, 12).error_code, 70);
}

#[test]
fn topic_with_records_stays_classic() {
    let topic = Topic::classic("records", 2);
    append(&mut topic.client(), topic.partition(0), Batch::of(&["x"]).bytes());
    let (code, message) = set(&topic.name, "diskless.enable", "true");
    assert_eq!(code, INVALID_CONFIG);
    assert!(message.contains("holds records") && message.contains(&topic.name), "{message}");
    let (code, message) = alter_all(&topic.name, &[("diskless.enable", "true")], 2);
    assert_eq!(code, INVALID_CONFIG, "{message}");
    assert!(!is_diskless(&topic.name));
    assert_eq!(append(&mut topic.client(), topic.partition(0), Batch::of(&["y"]).bytes()), 1);
    assert_eq!(described(&topic.name, "diskless.enable", 4), None);
}

#[test]
fn diskless_topic_stays_diskless() {
    let topic = Topic::diskless("stays", 1);
    append(&mut topic.client(), topic.partition(0), Batch::of(&["x"]).bytes());
    for (label, steps) in [
        ("delete", ("diskless.enable", DELETE, None)),
        ("false", ("diskless.enable", SET, Some("false"))),
        ("compact", ("cleanup.policy", SET, Some("compact"))),
        ("nonsense", ("diskless.enable", SET, Some("maybe"))),
    ] {
        let (code, message) = alter(&topic.name, &[steps], 1, false);
        assert_eq!(code, INVALID_CONFIG, "{label}");
        assert!(!message.is_empty(), "{label}");
    }
    assert!(is_diskless(&topic.name));
    assert_eq!(offset_of(&mut topic.client(), topic.partition(0), LATEST).offset, 1);
    assert_eq!(described(&topic.name, "cleanup.policy", 4).as_deref(), Some("delete"));
    let (code, message) = set("no-such-topic", "diskless.enable", "true");
    assert_eq!(code, 3, "{message}");
}

#[test]
fn partly_invalid_alteration_changes_nothing() {
    let topic = Topic::classic("whole", 1);
    let steps = [("diskless.enable", SET, Some("true")), ("cleanup.policy", SET, Some("compact"))];
    let (code, message) = alter(&topic.name, &steps, 1, false);
    assert_eq!(code, INVALID_CONFIG);
    assert!(message.contains("cleanup.policy=compact"), "{message}");
    assert!(!is_diskless(&topic.name));
    assert_eq!(described(&topic.name, "cleanup.policy", 4).as_deref(), Some("delete"));
}

fn alter_all(name: &str, configs: &[(&str, &str)], version: i16) -> (i16, String) {
    let config = |&(name, value): &(&str, &str)| {
        whole::AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let resource = whole::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configs(configs.iter().map(config).collect());
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    let response = Client::connect(&replica().bootstrap()).call(&request, version);
    let row = &response.responses[0];
    (row.error_code, row.error_message.as_deref().unwrap_or_default().to_owned())
}

#[test]
fn alter_configs_honours_the_diskless_flag() {
    for version in 0..=2 {
        let topic = Topic::classic("alter-all", 1);
        let configs = [("diskless.enable", "true"), ("retention.ms", "88000")];
        let (code, message) = alter_all(&topic.name, &configs, version);
        assert_eq!(code, 0, "v{version}: {message}");
        assert!(is_diskless(&topic.name), "v{version}");
        wait_for_config(&topic.name, "retention.ms", "88000");
        // Omitted configs are reset, but the flag is not a broker's config.
        assert_eq!(alter_all(&topic.name, &[("retention.ms", "99000")], version).0, 0);
        assert_eq!(described(&topic.name, "diskless.enable", 4).as_deref(), Some("true"));
        let (code, _) = alter_all(&topic.name, &[("diskless.enable", "false")], version);
        assert_eq!(code, INVALID_CONFIG, "v{version}");
    }
}
