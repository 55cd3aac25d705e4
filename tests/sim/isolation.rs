//! The first seconds of each run: one shard has a fault, everything else is well, and all other
//! partitions must be written and read as before.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use odradek::coordinator::CommitOutcome;
use odradek::engine::fetch::{FetchSpec, PartitionFetch};
use odradek::engine::produce::{AppendOutcome, FlushProfile};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use turmoil::net::TcpStream;

use crate::batches::{Batch, partition, records};
use crate::history::VALUES_EACH;
use crate::replica::PRODUCE_PORT;
use crate::shards::{SHARDS, ShardFault};
use crate::world::{PARTITIONS, World};

/// The fault of the shard lasts from here …
const FAULT_START: Duration = Duration::from_secs(1);
/// … the progress of the others is measured from here …
const MEASURE_START: Duration = Duration::from_secs(2);
/// … to here, where the fault ends …
pub(crate) const FAULT_END: Duration = Duration::from_secs(4);
/// … and no other fault begins before this.
pub(crate) const ISOLATION_END: Duration = Duration::from_secs(5);
/// The others make at least this part of the progress that they made before the fault, which includes
/// the start of the run.
const PROGRESS_DIVISOR: u64 = 2;
/// Longer than a call of the coordinator, so that a fault is also seen as a time-out.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The acknowledged batches and the read records of each partition.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    acked: [AtomicU64; PARTITIONS as usize],
    read: [AtomicU64; PARTITIONS as usize],
}

impl Progress {
    fn snapshot(&self) -> [(u64, u64); PARTITIONS as usize] {
        std::array::from_fn(|at| {
            (self.acked[at].load(Ordering::Relaxed), self.read[at].load(Ordering::Relaxed))
        })
    }
}

/// Injects the fault of one shard, and checks the progress of the others.
#[derive(Debug)]
pub(crate) struct Isolation {
    shard: u16,
    fault: ShardFault,
    /// The progress before the fault.
    unaffected: Option<[(u64, u64); PARTITIONS as usize]>,
    measured: Option<[(u64, u64); PARTITIONS as usize]>,
    is_over: bool,
}

impl Isolation {
    pub(crate) fn new(rng: &mut StdRng) -> Self {
        let faults = [
            ShardFault::Refusing,
            ShardFault::Silent,
            ShardFault::Migrating,
            ShardFault::Quarantined,
        ];
        let fault = faults[rng.random_range(0..faults.len())];
        let shard = rng.random_range(0..SHARDS);
        Self { shard, fault, unaffected: None, measured: None, is_over: false }
    }

    pub(crate) fn step(&mut self, now: Duration, world: &World) {
        if self.unaffected.is_none() && now >= FAULT_START {
            self.unaffected = Some(world.progress.snapshot());
            world.history.count("faults of one shard while all is well");
            world.history.log_event(format!("shard {} is {:?}", self.shard, self.fault));
            world.model.set_fault(self.shard, self.fault);
        }
        if self.measured.is_none() && now >= MEASURE_START {
            self.measured = Some(world.progress.snapshot());
        }
        if !self.is_over && now >= FAULT_END {
            self.is_over = true;
            world.model.set_fault(self.shard, ShardFault::None);
            world.history.log_event(format!("shard {} serves again", self.shard));
            self.check(world);
        }
    }

    fn check(&self, world: &World) {
        let unaffected = self.unaffected.expect("measured before the fault");
        let before = self.measured.expect("measured before the end");
        let after = world.progress.snapshot();
        let seconds = |time: Duration| time.as_secs();
        let expected = |progress: u64| {
            progress * seconds(FAULT_END - MEASURE_START) / seconds(FAULT_START) / PROGRESS_DIVISOR
        };
        let rows = unaffected.into_iter().zip(before.into_iter().zip(after));
        for (partition, (unaffected, (before, after))) in (0..).zip(rows) {
            if partition == self.shard {
                continue;
            }
            let (acked, read) = (after.0 - before.0, after.1 - before.1);
            // Each acknowledged batch has one record. What was read before the fault includes the past.
            let least = expected(unaffected.0).max(1);
            if acked < least || read < least {
                world.history.violation(format!(
                    "{acked} acknowledgements and {read} reads of partition {partition} while shard \
                     {} was {:?}: at least {least} expected",
                    self.shard, self.fault
                ));
            }
        }
    }
}

/// Writes to one partition over a connection of its own, and never sends a value twice: a value
/// that is read twice was appended twice by the replica.
pub(crate) async fn plain_producer(world: Arc<World>, id: u64, index: i32) {
    let mut value = id * VALUES_EACH;
    while turmoil::sim_elapsed().is_some_and(|now| now < FAULT_END) {
        if let Err(error) = plain_session(&world, index, &mut value).await {
            world.history.log_event(format!("plain producer of {index}: {error}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.producing.fetch_sub(1, Ordering::Relaxed);
}

async fn plain_session(world: &World, index: i32, value: &mut u64) -> io::Result<()> {
    let replica = &world.replicas[0];
    let connect = TcpStream::connect((replica.calls.host(), PRODUCE_PORT));
    let mut stream = timeout(Duration::from_secs(1), connect).await??;
    while turmoil::sim_elapsed().is_some_and(|now| now < FAULT_END) {
        *value += 1;
        let batch = Batch::of(&[&value.to_string()]);
        stream.write_u64(replica.produce.rows.put(batch.to(index, FlushProfile::Fast))).await?;
        let number = timeout(RESPONSE_TIMEOUT, stream.read_u64()).await??;
        let outcome = replica.produce.outcomes.take(number).expect("the replica has sent it");
        let AppendOutcome::Decided { outcome: CommitOutcome::Committed { base_offset }, .. } =
            outcome
        else {
            return Err(io::Error::other(format!("{outcome:?}")));
        };
        world.history.record_ack(index, base_offset, &[*value]);
        world.progress.acked[index as usize].fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads all partitions in one fetch, from the replica that the plain producers write to.
pub(crate) async fn reader(world: Arc<World>) {
    let mut positions = [0_i64; PARTITIONS as usize];
    let (mut fresh, mut fetches) = (true, 0_u64);
    while turmoil::sim_elapsed().is_some_and(|now| now < FAULT_END) {
        let of = |(index, &offset): (i32, &i64)| PartitionFetch {
            partition: partition(index),
            offset,
            bytes_max: 1 << 10,
            leader_epoch: 0,
            fresh,
        };
        let partitions = (0..).zip(&positions).map(of).collect();
        let wait = Duration::from_millis(500);
        let spec = FetchSpec { partitions, bytes_min: 1, bytes_max: 8 << 10, wait };
        let fetch = world.replicas[0].calls.call(RESPONSE_TIMEOUT, |engine| engine.fetch(spec));
        let Ok(fetched) = fetch.await else { continue };
        let has_error = fetched.iter().any(|partition| partition.error.is_some());
        // Every other fetch is as the first one of a connection: it has to ask every shard.
        fetches += 1;
        fresh = has_error || fetches.is_multiple_of(2);
        for (at, fetched) in fetched.iter().enumerate() {
            for (offset, _) in records(&fetched.records) {
                positions[at] = positions[at].max(offset + 1);
                world.progress.read[at].fetch_add(1, Ordering::Relaxed);
            }
        }
        if has_error {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
