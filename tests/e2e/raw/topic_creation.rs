//! Every way in which a new topic becomes diskless, and the reasons for which it stays classic.

use std::process::Command;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest,
};
use uuid::Uuid;

use super::batch::{Batch, read};
use super::client::Client;
use super::lifecycle::LIMIT;
use super::misrouted::placeholder_end;
use super::requests::{
    LATEST, Target, append, create, fetch, fetched, metadata, offset_of, produce, produced,
    topic_name,
};
use super::{NODE_0, Topic, brokers, replica};
use testbed::Testbed;
use testbed::process::{run, wait_until};
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

#[test]
fn create_topics_honours_the_diskless_flag_in_every_version() {
    let mut client = Client::connect(&replica().bootstrap());
    for version in 2..=7 {
        for (flag, value, diskless) in [
            ("diskless.enable", "true", true),
            ("inkless.enable", "TRUE", true),
            ("diskless.enable", "false", false),
        ] {
            let name = Testbed::get().unique("created");
            let request = create(&name, 2, &[("retention.ms", "3600000"), (flag, value)]);
            let response = client.call(&request, version);
            let row = &response.topics[0];
            assert_eq!(row.error_code, 0, "v{version} {flag}: {:?}", row.error_message);
            if let Some(configs) = row.configs.as_ref().filter(|_| version >= 5) {
                let shown = configs.iter().any(|c| c.name.as_str() == "diskless.enable");
                assert_eq!(shown, diskless, "v{version} {flag}={value}");
                assert!(configs.iter().any(|c| c.name.as_str() == "retention.ms"));
            }
            let topic = Topic::look_up(replica(), &name);
            assert_eq!(topic.is_diskless(), diskless, "v{version} {flag}={value}");
            assert_eq!(topic.leaders.len(), 2);
        }
    }
}

#[test]
fn explicit_flag_overrides_the_pattern() {
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}not"));
    let topic = Topic::create(replica(), &name, 1, &[("diskless.enable", "false")]);
    assert!(!topic.is_diskless());
    append(&mut topic.client(), topic.partition(0), Batch::of(&["x"]).bytes());
    assert_eq!(placeholder_end(&name), 1);
}

#[test]
fn invalid_diskless_topics_are_rejected_with_a_reason() {
    let mut client = Client::connect(&replica().bootstrap());
    let compact = ("cleanup.policy", "compact");
    for (configs, reason) in [
        (vec![("diskless.enable", "true"), compact], "cleanup.policy=compact"),
        (vec![("inkless.enable", "true"), ("cleanup.policy", "delete,compact")], "cleanup.policy"),
        (vec![("diskless.enable", "perhaps")], "expected true or false"),
    ] {
        let (bad, good) = (Testbed::get().unique("refused"), Testbed::get().unique("created"));
        let mut request = create(&bad, 1, &configs);
        request.topics.extend(create(&good, 1, &[]).topics);
        let response = client.call(&request, 7);
        let [refused, created] = &response.topics[..] else { panic!("two rows, {response:?}") };
        assert_eq!((refused.name.as_str(), refused.error_code), (bad.as_str(), 40));
        let message = refused.error_message.as_deref().unwrap_or_default();
        assert!(message.contains(reason), "{message}");
        assert_eq!((created.name.as_str(), created.error_code), (good.as_str(), 0));
        let requested = client.call::<MetadataRequest>(&metadata(&[&bad]), 12);
        assert_eq!(requested.topics[0].error_code, 3, "{bad} was not created");
    }
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}compacted"));
    let topic = Topic::create(replica(), &name, 1, &[compact]);
    assert!(!topic.is_diskless(), "a pattern does not force it");
}

#[test]
fn validate_only_binds_no_topic() {
    let name = Testbed::get().unique("validated");
    let mut client = Client::connect(&replica().bootstrap());
    let request = create(&name, 1, &[("diskless.enable", "true")]).with_validate_only(true);
    let response = client.call::<CreateTopicsRequest>(&request, 7);
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    assert_eq!(client.call(&metadata(&[&name]), 12).topics[0].error_code, 3);
    assert!(!Topic::create(replica(), &name, 1, &[]).is_diskless());
}

/// A topic from before the replica was started: its records exist already.
#[test]
fn pattern_does_not_convert_a_topic_with_records() {
    let names = ["full", "empty"]
        .map(|stem| Testbed::get().unique(&format!("{DISKLESS_PREFIX}older-{stem}")));
    let [full, empty] = &names;
    let mut direct = Client::connect(&brokers()[0]);
    for name in &names {
        assert_eq!(direct.call(&create(name, 1, &[]), 7).topics[0].error_code, 0);
    }
    let at = Target { name: full, id: Uuid::nil(), partition: 0 };
    wait_until("a leader takes the record", LIMIT, || {
        let is_accepted = |address: &String| {
            let request = produce(at, 9, -1, Batch::of(&["before"]).bytes());
            let response = Client::connect(address).call(&request, 9);
            produced(&response).error_code == 0
        };
        brokers().iter().any(is_accepted)
    });
    let replica = Replica::start(Backends::Embedded, "");
    assert!(Topic::look_up(&replica, empty).is_diskless());
    let topic = Topic::look_up(&replica, full);
    assert!(!topic.is_diskless());
    let mut client = Client::connect(&topic.address(&replica, 0));
    assert_eq!(append(&mut client, topic.partition(0), Batch::of(&["after"]).bytes()), 1);
}

#[test]
fn recreated_topic_has_an_empty_log() {
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}again"));
    let mut before = None;
    for version in [3, 6] {
        let topic = Topic::create(replica(), &name, 1, &[]);
        assert!(topic.is_diskless() && before != Some(topic.id));
        let mut client = topic.client();
        assert_eq!(offset_of(&mut client, topic.partition(0), LATEST).offset, 0);
        let batch = Batch::of(&["a", "b"]).bytes();
        assert_eq!(append(&mut client, topic.partition(0), batch), 0);
        let request = DeleteTopicsRequest::default().with_timeout_ms(15_000);
        let request = match version >= 6 {
            true => request
                .with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name(&name)))]),
            false => request.with_topic_names(vec![topic_name(&name)]),
        };
        let response = Client::connect(&replica().bootstrap()).call(&request, version);
        assert_eq!(response.responses[0].error_code, 0);
        // A broker that has not observed the deletion yet returns a retriable error.
        wait_until("the id is gone for good", LIMIT, || {
            let missing = client.call(&fetch(topic.partition(0), 15, 0), 15);
            let code = fetched(&missing).error_code;
            assert!([100, 6].contains(&code), "{code}");
            code == 100
        });
        before = Some(topic.id);
    }
    let topic = Topic::create(replica(), &name, 1, &[("diskless.enable", "false")]);
    assert!(!topic.is_diskless(), "the topic type belongs to the id, not to the name");
}

#[test]
fn new_partitions_accept_records() {
    let topic = Topic::diskless("grown", 1);
    let mut client = Client::connect(&replica().bootstrap());
    let grown = CreatePartitionsTopic::default()
        .with_name(topic_name(&topic.name))
        .with_count(3)
        .with_assignments(None);
    let request =
        CreatePartitionsRequest::default().with_topics(vec![grown]).with_timeout_ms(15_000);
    assert_eq!(client.call(&request, 3).results[0].error_code, 0);
    let mut leader = topic.client();
    let batch = Batch::of(&["x"]).bytes();
    // Any node serves any partition, whether or not a client has requested metadata meanwhile.
    wait_until("the new partition is known", LIMIT, || {
        let request = produce(topic.partition(2), 9, -1, batch.clone());
        produced(&leader.call(&request, 9)).error_code == 0
    });
    let response = leader.call(&fetch(topic.partition(2), 12, 0), 12);
    assert_eq!(read(fetched(&response).records.as_ref().expect("records"))[0].0, 0);
    assert_eq!(Topic::look_up(replica(), &topic.name).leaders.len(), 3);
}

#[test]
fn auto_creation_follows_the_pattern() {
    let mut client = Client::connect(&replica().bootstrap());
    let (ours, theirs) =
        (Testbed::get().unique(&format!("{DISKLESS_PREFIX}auto")), Testbed::get().unique("auto"));
    for version in [0, 12] {
        let names = [format!("{ours}-{version}"), format!("{theirs}-{version}")];
        let request = metadata(&[&names[0], &names[1]]).with_allow_auto_topic_creation(true);
        client.call(&request, version);
        let [ours, theirs] = names.map(|name| Topic::look_up(replica(), &name));
        assert!(ours.is_diskless() && !theirs.is_diskless(), "v{version}");
        append(&mut ours.client(), ours.partition(0), Batch::of(&["x"]).bytes());
    }
}

#[test]
fn topic_create_command_creates_a_diskless_topic() {
    let name = Testbed::get().unique("commanded");
    let config = replica().dir().join("odradek.yaml");
    let command = |extra: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_odradek"));
        command.args(["topic", "create"]).arg(&config).arg(&name).args(extra);
        command
    };
    let shape = ["--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=1000"];
    let output = run(&mut command(&shape));
    assert!(output.contains(&name) && output.contains("3 partitions"), "{output}");
    let topic = Topic::look_up(replica(), &name);
    assert_eq!((topic.is_diskless(), topic.leaders.len()), (true, 3));
    assert!(topic.leaders.values().all(|leader| *leader >= NODE_0));
    let again = command(&[]).output().expect("it runs");
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && error.contains("exists"), "{error}");
}
