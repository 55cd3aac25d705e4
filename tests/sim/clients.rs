//! Clients that behave as Kafka's: a producer that retries unacknowledged batches, possibly at
//! another replica, and a consumer that switches between replicas.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use odradek::coordinator::CoordinatorExt as _;
use odradek::coordinator::{CommitOutcome, FindFrom, FindRequest};
use odradek::engine::fetch::{FetchError, FetchSpec, FetchedPartition, PartitionFetch};
use odradek::engine::produce::{AppendOutcome, FlushProfile};
use odradek::entropy::Entropy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use turmoil::net::TcpStream;

use crate::batches::{Batch, partition, records};
use crate::history::VALUES_EACH;
use crate::replica::{PRODUCE_PORT, ProduceExchange};
use crate::world::{PARTITIONS, World};

/// Batches that a producer writes in total.
const BATCHES: usize = 60;
/// Kafka's `max.in.flight.requests.per.connection`.
const IN_FLIGHT: usize = 5;
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Sent {
    partition: i32,
    sequence: i32,
    values: Vec<u64>,
}

/// An idempotent producer.
pub(crate) struct Producer {
    id: u64,
    world: Arc<World>,
    entropy: Entropy,
    sequences: [i32; PARTITIONS as usize],
    values: u64,
    batches: usize,
    in_flight: VecDeque<Sent>,
}

impl Producer {
    pub(crate) fn new(id: u64, world: Arc<World>) -> Self {
        let entropy = Entropy::from_seed(world.seed.wrapping_mul(31) + id);
        let sequences = [0; PARTITIONS as usize];
        let in_flight = VecDeque::new();
        Self { id, world, entropy, sequences, values: 0, batches: 0, in_flight }
    }

    /// Writes all batches, with as many connections as it takes.
    pub(crate) async fn run(mut self) {
        while self.batches < BATCHES || !self.in_flight.is_empty() {
            let at = self.entropy.next_u64() as usize % self.world.replicas.len();
            let done = self.session(at).await;
            self.world
                .history
                .log_event(format!("producer {}: connection to {at} ended: {done:?}", self.id));
            tokio::time::sleep(Duration::from_millis(20 + self.entropy.next_u64() % 200)).await;
        }
        self.world.producing.fetch_sub(1, Ordering::Relaxed);
    }

    async fn session(&mut self, at: usize) -> io::Result<()> {
        let replica = Arc::clone(&self.world.replicas[at]);
        let connect = TcpStream::connect((replica.calls.host(), PRODUCE_PORT));
        let mut stream = timeout(Duration::from_secs(1), connect).await??;
        for sent in &self.in_flight {
            send(self.id, sent, &replica.produce, &mut stream).await?;
            self.world.history.count("batches sent again");
        }
        loop {
            while self.in_flight.len() < IN_FLIGHT && self.batches < BATCHES {
                let pause = self.entropy.next_u64() % 60;
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let sent = self.next();
                let written = send(self.id, &sent, &replica.produce, &mut stream).await;
                self.in_flight.push_back(sent);
                written?;
            }
            let Some(sent) = self.in_flight.front() else { return Ok(()) };
            let number = timeout(RESPONSE_TIMEOUT, stream.read_u64()).await??;
            let outcome = replica.produce.outcomes.take(number).expect("the replica has sent it");
            let AppendOutcome::Decided { outcome, .. } = outcome else {
                return Err(io::Error::other("the coordinator is lost"));
            };
            match outcome {
                CommitOutcome::Committed { base_offset }
                | CommitOutcome::Duplicate { base_offset, .. } => {
                    self.world.history.record_ack(sent.partition, base_offset, &sent.values);
                    self.in_flight.pop_front();
                }
                // An earlier batch was lost in transit, and is sent again.
                CommitOutcome::Refused(refusal) => {
                    self.world.history.count("batches refused");
                    return Err(io::Error::other(format!("{refusal:?}")));
                }
            }
        }
    }

    fn next(&mut self) -> Sent {
        let count = 1 + self.entropy.next_u64() % 3;
        let partition = (self.entropy.next_u64() % PARTITIONS as u64) as i32;
        let values = (0..count).map(|n| self.id * VALUES_EACH + self.values + n).collect();
        let sequence = self.sequences[partition as usize];
        self.sequences[partition as usize] += count as i32;
        self.values += count;
        self.batches += 1;
        Sent { partition, sequence, values }
    }
}

async fn send(
    producer: u64,
    sent: &Sent,
    server: &ProduceExchange,
    stream: &mut TcpStream,
) -> io::Result<()> {
    let values: Vec<String> = sent.values.iter().map(ToString::to_string).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let batch = Batch::of(&values).by(producer as i64, sent.sequence);
    let profile = if producer.is_multiple_of(2) { FlushProfile::Fast } else { FlushProfile::Cheap };
    stream.write_u64(server.rows.put(batch.to(sent.partition, profile))).await
}

/// A consumer of all partitions.
pub(crate) struct Consumer {
    id: u64,
    world: Arc<World>,
    entropy: Entropy,
    at: usize,
    moved: bool,
    positions: [i64; PARTITIONS as usize],
    ends: [i64; PARTITIONS as usize],
}

impl Consumer {
    pub(crate) fn new(id: u64, world: Arc<World>) -> Self {
        let entropy = Entropy::from_seed(world.seed.wrapping_mul(37) + id);
        let (positions, ends) = ([0; PARTITIONS as usize], [0; PARTITIONS as usize]);
        Self { id, world, entropy, at: id as usize, moved: true, positions, ends }
    }

    /// Reads until the producers have ended and no records are left.
    pub(crate) async fn run(mut self) {
        while !self.has_read_everything().await {
            if self.entropy.next_u64().is_multiple_of(20) {
                self.switch_replica();
            }
            // One of two reads slowly, so that it falls behind the high watermark.
            let is_slow =
                self.id.is_multiple_of(2) && self.world.producing.load(Ordering::Relaxed) > 0;
            if is_slow {
                let pause = self.entropy.next_u64() % 300;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let request = self.request(if is_slow { 100 } else { 1 << 10 });
            let replica = Arc::clone(&self.world.replicas[self.at % self.world.replicas.len()]);
            let fetch = replica.calls.call(Duration::from_secs(3), |engine| engine.fetch(request));
            match fetch.await {
                Ok(partitions) => {
                    self.moved = false;
                    self.check_not_silently_empty(&partitions);
                    for (index, fetched) in (0..).zip(partitions) {
                        self.take(index, &fetched).await;
                    }
                }
                Err(_) => self.switch_replica(),
            }
        }
        self.world.history.log_event(format!("consumer {} is at the end", self.id));
    }

    fn switch_replica(&mut self) {
        self.at = self.entropy.next_u64() as usize;
        self.moved = true;
    }

    fn request(&self, bytes_max: usize) -> FetchSpec {
        let of = |(index, &offset): (i32, &i64)| PartitionFetch {
            partition: partition(index),
            offset,
            bytes_max,
            leader_epoch: 0,
            fresh: self.moved,
        };
        let partitions = (0..).zip(&self.positions).map(of).collect();
        FetchSpec { partitions, bytes_min: 1, bytes_max: 4 << 10, wait: Duration::from_millis(500) }
    }

    /// Checks that a response without errors and records says that there are none: an offset below
    /// the high watermark without records would be a record lost in silence.
    fn check_not_silently_empty(&self, fetched: &[FetchedPartition]) {
        let is_empty = |f: &FetchedPartition| f.error.is_none() && f.records.is_empty();
        if !fetched.iter().all(is_empty) {
            return;
        }
        for (index, (fetched, position)) in fetched.iter().zip(self.positions).enumerate() {
            let end = fetched.watermarks.map_or(0, |marks| marks.high_watermark);
            if position < end {
                self.world.history.violation(format!(
                    "consumer {}: nothing returned for {index}@{position} below {end}",
                    self.id
                ));
            }
        }
    }

    async fn take(&mut self, index: i32, fetched: &FetchedPartition) {
        let (me, history, at) = (self.id, &self.world.history, index as usize);
        match fetched.error {
            None => {}
            Some(FetchError::Storage | FetchError::IndexEntryMissing) => {
                history.count("failed fetches");
                self.moved = true;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Some(FetchError::OffsetOutOfRange) => {
                let position = self.positions[at];
                history.violation(format!(
                    "consumer {me}: {index}@{position} was reported as out of range"
                ));
            }
            Some(FetchError::TopicDeleted) => {
                history.violation(format!("consumer {me}: no topic was deleted"));
            }
        }
        let end = fetched.watermarks.map_or(self.ends[at], |marks| marks.high_watermark);
        if end < self.ends[at] {
            let before = self.ends[at];
            history.violation(format!(
                "consumer {me}: the high watermark of {index} went from {before} to {end}"
            ));
        }
        self.ends[at] = end;
        for (offset, value) in records(&fetched.records) {
            // A batch is returned whole, although the fetch starts in its middle.
            if offset < self.positions[at] {
                continue;
            }
            if offset != self.positions[at] || offset >= end {
                let position = self.positions[at];
                history.violation(format!(
                    "consumer {me}: {index}@{offset} returned for {position} below {end}"
                ));
            }
            let value = value.parse().expect("a number");
            history.log_event(format!("consumer {me} reads {index}@{offset} {value}"));
            history.record_read(index, offset, value);
            self.positions[at] = offset + 1;
        }
    }

    /// Returns whether the producers have ended and all positions are at the high watermark.
    async fn has_read_everything(&self) -> bool {
        if self.world.producing.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let of = |index| FindRequest {
            partition: partition(index),
            from: FindFrom::Offset(0),
            bytes_max: 0,
            runs_max: 0,
        };
        let found = self.world.model.memory.find_all((0..PARTITIONS).map(of).collect()).await;
        let found = found.expect("the model never fails");
        found.iter().zip(self.positions).all(|(f, at)| f.watermarks.high_watermark == at)
    }
}
