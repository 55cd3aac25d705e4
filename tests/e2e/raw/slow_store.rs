//! Produce while the store is slow.

use kafka_protocol::messages::ProduceRequest;

use super::Topic;
use super::batch::{Batch, read, stored_bytes};
use super::client::Client;
use super::lifecycle::LIMIT;
use super::requests::{append, fetch, fetched, produce, produced};
use testbed::Testbed;
use testbed::replica::{DISKLESS_PREFIX, Replica};
use testbed::slow_s3::SlowS3;

/// A hanging PUT does not delay another connection, not even on the same partition. Once it
/// completes, its records are stored exactly once.
#[test]
fn hanging_upload_does_not_delay_other_connections() {
    let store = SlowS3::start(&["--put", "5/15"]);
    let replica = Replica::start_on(&store.yaml(), &Testbed::get().redis().yaml(), "");
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}slow"));
    let topic = Topic::create(&replica, &name, 1, &[]);
    let (address, at) = (topic.address(&replica, 0), topic.partition(0));
    let (mut stuck, mut free) = (Client::connect(&address), Client::connect(&address));

    store.control("fault?operation=put&contains=/wal/&next=1&hang-before=never");
    let late = Batch::of(&["late"]).bytes();
    let correlation_id = stuck.send(&produce(at, 9, -1, late.clone()), 9);
    store.wait_for("put.hanging-before", LIMIT, |hanging| hanging == 1);
    let early = Batch::of(&["early"]).bytes();
    assert_eq!(append(&mut free, at, early.clone()), 0);

    // The response of the store is lost as well: the repeated PUT must not duplicate the records.
    store.control("fault?operation=put&contains=/wal/&next=1&lost");
    let lost = Batch::of(&["lost"]).bytes();
    assert_eq!(append(&mut free, at, lost.clone()), 1);
    // The first PUT of the stuck connection hangs to the end; the hedged one does not.
    let response = stuck.receive::<ProduceRequest>(correlation_id, 9);
    assert_eq!((produced(&response).error_code, produced(&response).base_offset), (0, 2));
    assert_eq!(store.counter("put.hanging-before"), 1);
    store.control("release");

    let response = free.call(&fetch(at, 12, 0), 12);
    let expected = [(0, stored_bytes(&early)), (1, stored_bytes(&lost)), (2, stored_bytes(&late))];
    assert_eq!(read(fetched(&response).records.as_ref().expect("records")), expected);
}
