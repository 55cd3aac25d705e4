//! Readers that request much and receive nothing.

use std::time::Duration;

use kafka_protocol::messages::FetchRequest;

use crate::raw::Topic;
use crate::raw::batch::{Batch, read, stored_bytes};
use crate::raw::client::Client;
use crate::raw::faults::memory::peak_bytes;
use crate::raw::requests::{append, fetch, fetched};
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::{DISKLESS_PREFIX, Replica};
use testbed::slow_s3::SlowS3;

const MIB: u64 = 1 << 20;
/// `memory.requests` three times, `memory.cache`, `memory.responses`, and the memory of the process
/// itself.
const LIMIT_BYTES: u64 = (3 * 16 + 16 + 32 + 160) * MIB;
/// Together they request twenty times the memory limit.
const STUCK: usize = 40;
const PIPELINED: usize = 8;
const LOG_MIB: usize = 16;

/// Memory stays bounded, active readers are served, and stalled readers get everything once they
/// continue.
#[test]
fn stalled_readers_hold_no_memory() {
    let store = SlowS3::start(&[]);
    let yaml = "memory: {requests: 16MiB, connection: 8MiB, cache: 16MiB, responses: 32MiB}\n";
    let replica =
        Replica::start_limited(LIMIT_BYTES, &store.yaml(), &Testbed::get().redis().yaml(), yaml);
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}stuck"));
    let topic = Topic::create(&replica, &name, 2, &[]);
    let (large, small) = (topic.partition(0), topic.partition(1));
    let mut writer = Client::connect(&topic.address(&replica, 0));
    let mut log = Vec::new();
    for offset in 0..LOG_MIB as i64 {
        let batch = Batch::of(&[&format!("{offset} {}", "x".repeat(1_000_000))]).bytes();
        assert_eq!(append(&mut writer, large, batch.clone()), offset);
        log.push((offset, stored_bytes(&batch)));
    }
    let mut everything = fetch(large, 12, 0);
    everything.topics[0].partitions[0].partition_max_bytes = 50 << 20;
    let mut stuck: Vec<Client> =
        (0..STUCK).map(|_| Client::connect(&topic.address(&replica, 0))).collect();
    let requested: Vec<Vec<i32>> = stuck
        .iter_mut()
        .map(|client| (0..PIPELINED).map(|_| client.send(&everything, 12)).collect())
        .collect();

    // A client that writes and reads at the same time.
    let mut client = Client::connect(&topic.address(&replica, 1));
    for offset in 0..20 {
        let record = Batch::of(&[&format!("record {offset}")]).bytes();
        assert_eq!(append(&mut client, small, record.clone()), offset);
        // If memory for responses is scarce, a fetch may be empty and is repeated.
        wait_until("the record is read", Duration::from_secs(10), || {
            let response = client.call(&fetch(small, 12, offset), 12);
            let records = fetched(&response).records.as_ref().map(|r| read(r)).unwrap_or_default();
            assert!(
                records.is_empty() || records == [(offset, stored_bytes(&record))],
                "{records:?}"
            );
            !records.is_empty()
        });
        std::thread::sleep(Duration::from_millis(200));
    }
    // Some stalled readers continue.
    for (client, requested) in stuck.iter_mut().zip(requested).step_by(STUCK / 4) {
        for correlation_id in requested {
            let response = client.receive::<FetchRequest>(correlation_id, 12);
            let records = fetched(&response).records.as_ref().map(|r| read(r)).unwrap_or_default();
            assert!(!records.is_empty() && records == log[..records.len()], "each in its place");
        }
    }
    let peak = peak_bytes(replica.id());
    assert!(peak < LIMIT_BYTES, "{} MiB at its peak", peak / MIB);
}
