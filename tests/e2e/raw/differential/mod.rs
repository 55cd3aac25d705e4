//! The same requests, sent to classic topics at their broker and to diskless topics through a
//! replica: responses and logs are equal, except for the differences that are listed.
//!
//! `docs/protocol.md` has the reason for each listed difference. Any other difference fails the
//! test, and so does a listed one that no longer occurs.

mod empty_lists;
mod fetch;
mod frame_edits;
mod produce;
mod raw_batch;
mod topic_lifetime;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use testbed::Testbed;
use testbed::process::wait_until;

use super::client::Client;
use super::lifecycle::LIMIT;
use super::{Topic, replica, requests};

/// A case whose responses differ on purpose. `docs/protocol.md`, "Differences from a broker", has
/// the reason.
struct ExpectedDifference {
    /// The topics and the case.
    case: &'static str,
    ours: &'static str,
    theirs: &'static str,
}

/// Creates a topic with all of its partitions on broker 1.
fn create_on_broker_1(stem: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
    let name = Testbed::get().unique(stem);
    // The contents must not depend on what a broker deletes or rolls meanwhile.
    let retention = [("retention.ms", "-1"), ("segment.ms", "9223372036854775807")];
    let mut request = requests::create(&name, -1, &[configs, &retention].concat());
    let topic = &mut request.topics[0];
    topic.replication_factor = -1;
    let on_1 = |index| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(vec![BrokerId(1)])
    };
    topic.assignments = (0..partitions).map(on_1).collect();
    let response = Client::connect(&replica().bootstrap()).call(&request, 7);
    let row = &response.topics[0];
    assert_eq!(row.error_code, 0, "{name}: {:?}", row.error_message);
    Topic::look_up(replica(), &name)
}

/// Waits until a broker leads all partitions of a topic.
fn wait_for_leadership(broker: &str, topic: &Topic, partitions: i32) {
    let mut client = Client::connect(broker);
    wait_until("the broker to lead", LIMIT, || {
        (0..partitions).all(|partition| {
            let at = topic.partition(partition);
            requests::offset_of(&mut client, at, requests::LATEST).error_code == 0
        })
    });
}

/// Reads a signed big-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> i64 {
    let start = if bytes[at] >= 0x80 { -1_i64 } else { 0 };
    bytes[at..at + N].iter().fold(start, |value, b| (value << 8) | i64::from(*b))
}
