//! `diskless.enable` is obeyed once the broker has agreed, and not before.

use bytes::BytesMut;
use kafka_protocol::messages::alter_configs_request as whole;
use kafka_protocol::messages::incremental_alter_configs_request as step;
use kafka_protocol::messages::{
    AlterConfigsRequest, CreateTopicsRequest, IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::Encodable;

use super::{ALTER_CONFIGS, TOPIC, Topic, allow, plain, secured};
use crate::raw::requests::{self, text};
use testbed::Testbed;

type AlterResult = (i16, Option<String>);

fn request(name: &str, configs: &[(&str, &str)]) -> IncrementalAlterConfigsRequest {
    let config = |&(name, value): &(&str, &str)| {
        step::AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let resource = step::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configs(configs.iter().map(config).collect());
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

/// Returns a request that would make a topic diskless: key, version, body.
pub(super) fn enabling(name: &str) -> (i16, i16, BytesMut) {
    let mut body = BytesMut::new();
    request(name, &[("diskless.enable", "true")]).encode(&mut body, 1).expect("a request");
    (44, 1, body)
}

fn alter(address: &str, user: &str, name: &str, configs: &[(&str, &str)]) -> AlterResult {
    let response = plain(address, user).call(&request(name, configs), 1);
    let row = &response.responses[0];
    (row.error_code, row.error_message.as_deref().map(str::to_owned))
}

fn alter_whole(address: &str, user: &str, name: &str, configs: &[(&str, &str)]) -> AlterResult {
    let config = |&(name, value): &(&str, &str)| {
        whole::AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let resource = whole::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configs(configs.iter().map(config).collect());
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    let response = plain(address, user).call(&request, 2);
    let row = &response.responses[0];
    (row.error_code, row.error_message.as_deref().map(str::to_owned))
}

fn is_diskless(topic: &Topic) -> bool {
    Topic::look_up(&topic.name).leader > 1
}

#[test]
fn unauthorized_user_cannot_make_topic_diskless() {
    let topic = Topic::classic("alter");
    let addresses = [secured().replica.bootstrap(), secured().replica.node(0)];
    for (flag, alter) in [
        ("diskless.enable", alter as fn(&str, &str, &str, &[(&str, &str)]) -> AlterResult),
        ("inkless.enable", alter),
        ("diskless.enable", alter_whole),
    ] {
        let ordinary = [("retention.ms", "77000")];
        let measure = alter(secured().broker(), "eve", &topic.name, &ordinary);
        assert_eq!(measure.0, 29);
        for address in &addresses {
            assert_eq!(alter(address, "eve", &topic.name, &[(flag, "true")]), measure);
            let both = [(flag, "true"), ordinary[0]];
            assert_eq!(alter(address, "eve", &topic.name, &both), measure);
            // The response does not reveal whether a topic is diskless or exists.
            assert_eq!(alter(address, "eve", "no-such-topic", &[(flag, "true")]).0, 29);
        }
        assert!(!is_diskless(&topic), "{flag}");
    }
}

#[test]
fn change_rejected_by_the_broker_leaves_topic_unchanged() {
    let topic = Topic::classic("beside");
    allow(&mut secured().admin(), "eve", ALTER_CONFIGS, TOPIC, &topic.name);
    let bootstrap = secured().replica.bootstrap();
    let wrong = [("diskless.enable", "true"), ("retention.ms", "a while")];
    for alter in [alter as fn(&str, &str, &str, &[(&str, &str)]) -> AlterResult, alter_whole] {
        let measure = alter(secured().broker(), "eve", &topic.name, &wrong[1..]);
        assert_eq!(alter(&bootstrap, "eve", &topic.name, &wrong), measure);
        assert_eq!(measure.0, 40, "INVALID_CONFIG");
        assert!(!is_diskless(&topic));
    }
    let right = [("diskless.enable", "true"), ("retention.ms", "77000")];
    assert_eq!(alter(&bootstrap, "eve", &topic.name, &right).0, 0);
    assert!(is_diskless(&topic));
    let alone = Topic::classic("alone");
    allow(&mut secured().admin(), "eve", ALTER_CONFIGS, TOPIC, &alone.name);
    assert_eq!(alter(&bootstrap, "eve", &alone.name, &right[..1]).0, 0);
    assert!(is_diskless(&alone));
}

#[test]
fn unauthorized_creation_leaves_no_pending_creation() {
    let name = Testbed::get().unique("classic-secured-marked");
    let flagged = requests::create(&name, 1, &[("diskless.enable", "true")]);
    let ordinary = requests::create(&name, 1, &[]);
    let measure = plain(secured().broker(), "eve").call::<CreateTopicsRequest>(&ordinary, 7);
    for address in [secured().replica.bootstrap(), secured().replica.node(1)] {
        let seen = plain(&address, "eve").call::<CreateTopicsRequest>(&flagged, 7);
        let (seen, measure) = (&seen.topics[0], &measure.topics[0]);
        assert_eq!(seen.error_code, measure.error_code);
        assert_eq!((seen.error_code, &seen.error_message), (29, &measure.error_message));
    }
    assert!(!is_diskless(&Topic::create(&name)));
    let again = plain(&secured().replica.bootstrap(), "admin").call(&flagged, 7);
    assert_eq!(again.topics[0].error_code, 36, "TOPIC_ALREADY_EXISTS");
    assert!(!is_diskless(&Topic::look_up(&name)));
}
