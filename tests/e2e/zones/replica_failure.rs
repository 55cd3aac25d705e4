//! Stock clients continue while replicas leave and fail.

use std::time::Duration;

use super::{
    A, B, Installation, crossed, hosted_by, metadata, metric, nodes, nodes_of, records_crossed,
};
use crate::kill_nine::{RECORDS, acks_in, check_log, start_producer};
use testbed::Testbed;
use testbed::kafka::tool;
use testbed::process::wait_until;
use testbed::replica::DISKLESS_PREFIX;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn idempotent_producer_survives_drain_and_crash() {
    let at = Installation::new();
    let a0 = at.replica(A, "a-1", 4, "");
    let b0 = at.replica(B, "b-0", 4, "");
    let mut a1 = at.replica(A, "a-2", 4, "");
    let mut a2 = at.replica(A, "a-3", 4, "");
    let shares = |seen: &super::NodeAddresses| {
        [&a0, &a1, &a2].map(|replica| hosted_by(seen, replica).len()).iter().all(|nodes| *nodes > 0)
    };
    wait_until("the nodes are spread", LIMIT, || shares(&nodes_of(&a0)));

    let topic = &Testbed::get().unique(&format!("{DISKLESS_PREFIX}moving"));
    // It bootstraps in the wrong zone and names its own: no other bytes cross zones.
    let bootstrap = b0.bootstrap();
    let on_topic = ["--bootstrap-server", &bootstrap, "--topic", topic];
    let shape = ["--create", "--partitions", "3", "--replication-factor", "1"];
    tool("kafka-topics", &[&on_topic[..], &shape].concat());
    let mut producer = start_producer(&Testbed::get().test_dir("moving"), "zone=zone-a", &on_topic);
    let log = producer.log_path().to_owned();
    producer.wait_while_alive("acks", LIMIT, || acks_in(&log) >= RECORDS / 4);

    // A draining replica leaves the topology at once, continues to serve, and exits with success.
    a1.process().send_sigterm();
    wait_until("it advertises a topology without itself", Duration::from_secs(2), || {
        hosted_by(&nodes(&metadata(&a1.bootstrap(), "raw")), &a1).is_empty()
    });
    let brokers = super::brokers(&metadata(&a1.bootstrap(), "raw"));
    let ours = [1, 2, 3].map(|id| a1.broker(id));
    assert!(brokers.values().all(|(at, _)| !ours.contains(at)), "{brokers:?}");
    wait_until("the other replicas know", Duration::from_secs(3), || {
        hosted_by(&nodes_of(&a0), &a1).is_empty() && hosted_by(&nodes_of(&b0), &a1).is_empty()
    });
    assert!(
        !hosted_by(&nodes(&metadata(&a1.bootstrap(), "raw")), &a0).is_empty(),
        "it continues to serve"
    );
    a1.wait_success(Duration::from_secs(30));
    let acked = acks_in(&log);
    producer.wait_while_alive("more acks", LIMIT, || acks_in(&log) > acked);

    producer.wait_while_alive("acks", LIMIT, || acks_in(&log) >= RECORDS / 2);
    a2.kill9();
    wait_until("its nodes move", Duration::from_secs(15), || {
        hosted_by(&nodes_of(&a0), &a2).is_empty()
    });
    check_log(producer, &on_topic);
    let produced = "odradek_requests_total{api=\"Produce\",endpoint=\"diskless\"}";
    assert!(metric(&a0, produced) > Some(0) && metric(&b0, produced).is_none());
    assert!(crossed(&b0, "client_classic", "other") > 0, "of the bootstrap");
    assert_eq!((records_crossed(&a0), records_crossed(&b0)), (0, 0));
}
