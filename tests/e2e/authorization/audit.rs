//! The audit log: who did what, with the names that the broker accepted.

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest, ProduceRequest,
};
use odradek::sasl::SaslMechanism;
use serde_json::{Value, json};

use super::{LIMIT, Topic, authenticate, plain, secured};
use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{self, append, fetch, fetched, produce, produced, topic_name};
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::DISKLESS_PREFIX;

/// Returns the events that name a topic or a principal, once there are as many as expected.
fn events_of(name: &str, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    wait_until("events of the audit log", LIMIT, || {
        let log = secured().replica.log();
        let lines = log.lines().filter(|line| line.starts_with("{\"version\":1,"));
        let parsed = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events =
            parsed.filter(|event| event["topic"] == name || event["principal"] == name).collect();
        events.len() >= count
    });
    events
}

/// Returns some fields of an event.
fn fields(event: &Value, names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), event[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn denied_access_is_recorded_once_with_the_principal() {
    let topic = Topic::diskless("audited");
    let _created = events_of(&topic.name, 1);
    let mut client = secured().client(&topic, "eve");
    for _ in 0..3 {
        let request = produce(topic.at(), 9, -1, Batch::of(&["x"]).bytes());
        assert_eq!(produced(&client.call::<ProduceRequest>(&request, 9)).error_code, 29);
        let request = fetch(topic.at(), 12, 0);
        assert_eq!(fetched(&client.call::<FetchRequest>(&request, 12)).error_code, 29);
    }
    let events = events_of(&topic.name, 3);
    let names = [
        "event",
        "outcome",
        "errorCode",
        "principal",
        "clientAddress",
        "clientId",
        "api",
        "operation",
    ];
    let denied = |api: &str, operation: &str| {
        json!({
            "event": "access", "outcome": "denied", "errorCode": 29, "principal": "eve",
            "clientAddress": "127.0.0.1", "clientId": "raw", "api": api, "operation": operation,
        })
    };
    let seen: Vec<_> = events[1..].iter().map(|event| fields(event, &names)).collect();
    assert_eq!(seen, [denied("Produce", "Write"), denied("Fetch", "Read")]);
    assert_eq!(events_of(&topic.name, 3).len(), 3, "repetitions are counted, not written");
}

#[test]
fn rejected_login_is_recorded_and_gives_no_principal() {
    let mut client = Client::connect(&secured().replica.bootstrap());
    let user = Testbed::get().unique("mallory");
    let answer = authenticate(&mut client, SaslMechanism::Plain, &user, "mallory-secret");
    assert_eq!(answer.error_code, 58);
    let events = events_of(&user, 1);
    let seen = fields(&events[0], &["event", "outcome", "errorCode", "principal"]);
    let expected =
        json!({"event": "login", "outcome": "denied", "errorCode": 58, "principal": user});
    assert_eq!(seen, expected);
    assert!(!secured().replica.log().contains("mallory-secret"), "passwords stay secret");
}

#[test]
fn changes_of_topics_are_recorded_with_their_outcome() {
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}secured-changes"));
    let bootstrap = secured().replica.bootstrap();
    let create = requests::create(&name, 1, &[]);
    let denied = plain(&bootstrap, "eve").call::<CreateTopicsRequest>(&create, 7);
    assert_ne!(denied.topics[0].error_code, 0);
    let topic = Topic::create(&name);
    let mut client = secured().client(&topic, "admin");
    append(&mut client, topic.at(), Batch::of(&["x"]).bytes());
    let trim = DeleteRecordsTopic::default().with_name(topic_name(&name)).with_partitions(vec![
        DeleteRecordsPartition::default().with_partition_index(0).with_offset(1),
    ]);
    client.call(&DeleteRecordsRequest::default().with_topics(vec![trim]), 2);
    let delete = DeleteTopicState::default().with_name(Some(topic_name(&name)));
    let delete = DeleteTopicsRequest::default().with_topics(vec![delete]).with_timeout_ms(10_000);
    plain(&bootstrap, "admin").call(&delete, 6);
    let seen: Vec<_> = events_of(&name, 4)
        .iter()
        .map(|event| fields(event, &["event", "outcome", "principal", "topicType", "partitions"]))
        .collect();
    let event =
        |event: &str, outcome: &str, principal: &str, topic_type: Value, partitions: Value| {
            json!({
                "event": event, "outcome": outcome, "principal": principal,
                "topicType": topic_type, "partitions": partitions,
            })
        };
    let expected = [
        event("create_topic", "denied", "eve", json!("diskless"), Value::Null),
        event("create_topic", "success", "admin", json!("diskless"), Value::Null),
        event("delete_records", "success", "admin", Value::Null, json!(1)),
        event("delete_topic", "success", "admin", Value::Null, Value::Null),
    ];
    assert_eq!(seen, expected);
}
