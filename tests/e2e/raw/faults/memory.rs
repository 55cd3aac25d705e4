//! A slow store under full load: memory stays within its bounds, producers are throttled, and
//! classic traffic continues.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::ProduceRequest;

use crate::raw::Topic;
use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{append, produce, produced};
use testbed::Testbed;
use testbed::replica::{DISKLESS_PREFIX, Replica};
use testbed::slow_s3::SlowS3;

const MIB: u64 = 1 << 20;
/// `memory.requests` three times, `memory.cache`, and the memory of the process itself.
const LIMIT_BYTES: u64 = (3 * 32 + 16 + 160) * MIB;
const PRODUCERS: usize = 24;
const PIPELINED: usize = 5;
const LASTS: Duration = Duration::from_secs(20);

#[test]
fn memory_stays_bounded_while_the_store_is_slow() {
    let store = SlowS3::start(&["--put", "1500/5000", "--keep-bytes", "64MiB"]);
    let small = "flush: {size: 4MiB}\nmemory: {requests: 32MiB, connection: 8MiB, cache: 16MiB}\n";
    // Beyond the limit an allocation fails, and with it the process.
    let replica =
        Replica::start_limited(LIMIT_BYTES, &store.yaml(), &Testbed::get().redis().yaml(), small);
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}memory"));
    let diskless = Topic::create(&replica, &name, 4, &[]);
    let classic = Topic::create(&replica, &Testbed::get().unique("classic-memory"), 1, &[]);
    let (done, throttled, acked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let value = "x".repeat(700 << 10);
    let batch = Batch::of(&[&value]).bytes();
    std::thread::scope(|scope| {
        for n in 0..PRODUCERS {
            let (batch, diskless, replica) = (&batch, &diskless, &replica);
            let (done, throttled, acked) = (&done, &throttled, &acked);
            scope.spawn(move || {
                let partition = (n % 4) as i32;
                let mut client = Client::connect(&diskless.address(replica, partition));
                let request = produce(diskless.partition(partition), 9, -1, batch.clone());
                let request = request.with_timeout_ms(120_000);
                let mut inflight = std::collections::VecDeque::new();
                while !done.load(Ordering::Relaxed) || !inflight.is_empty() {
                    if inflight.len() < PIPELINED && !done.load(Ordering::Relaxed) {
                        inflight.push_back(client.send(&request, 9));
                        continue;
                    }
                    let Some(correlation_id) = inflight.pop_front() else { break };
                    let response = client.receive_patiently::<ProduceRequest>(correlation_id, 9);
                    assert_eq!(produced(&response).error_code, 0);
                    acked.fetch_add(1, Ordering::Relaxed);
                    if response.throttle_time_ms > 0 {
                        throttled.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // A classic topic through the same replica, at the same time.
        let started = Instant::now();
        let mut client = Client::connect(&classic.address(&replica, 0));
        let mut classic_acks = 0;
        while started.elapsed() < LASTS {
            let small = Batch::of(&["classic"]).bytes();
            assert_eq!(append(&mut client, classic.partition(0), small), classic_acks);
            classic_acks += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        // Each append is awaited; behind the slow store there would be only a few.
        assert!(classic_acks > 50, "{classic_acks} classic acks in {LASTS:?}");
        done.store(true, Ordering::Relaxed);
    });
    assert!(acked.load(Ordering::Relaxed) > PRODUCERS as u64, "it makes progress");
    assert!(throttled.load(Ordering::Relaxed) > 0, "producers are throttled by throttle_time_ms");
    let peak = peak_bytes(replica.id());
    assert!(peak < LIMIT_BYTES, "{} MiB at its peak", peak / MIB);
}

/// Returns the peak memory of a process in bytes.
pub(in crate::raw) fn peak_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kib << 10
}
