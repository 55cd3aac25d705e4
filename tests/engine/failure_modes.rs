//! The tables of `docs/failure-modes.md`: every way in which the store and the coordinator can fail
//! a produce has one outcome, and when it is over an idempotent producer has neither gap nor
//! duplicate.

use std::time::Duration;

use odradek::coordinator::faulty::{self, Operation as Call};
use odradek::engine::produce::{AppendOutcome, FlushProfile, ProduceSettings, UploadSettings};
use odradek::store::faulty::{Fault, StoreOperation};
use odradek::store::{Certainty, StoreErrorKind};
use tokio::time::{Instant, timeout};

use crate::batches::Batch;
use crate::harness::{BUDGET_BYTES, Replica, Reply, SECOND, offset_at_last, settings};

/// How long a producer waits before it gives a request up and repeats it on a new connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the fault lasts.
const FAULT_LASTS: Duration = Duration::from_secs(20);
const BATCHES: i32 = 12;

/// What a producer is told while the fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reported {
    /// An offset, if late.
    Offset,
    /// Nothing, until its own timeout (REQUEST_TIMED_OUT).
    Timeout,
    /// KAFKA_STORAGE_ERROR.
    StorageError,
}

/// A producer that follows Kafka's rules: up to five batches in flight, and after an error or a
/// timeout all that is not acknowledged again, in order, on a new connection.
struct Producer<'a> {
    replica: &'a Replica,
    connection: u64,
    acked: i32,
    reported: Vec<Reported>,
}

impl Producer<'_> {
    async fn send(&self, sequence: i32) -> Reply {
        // Two partitions, so that a commit has halves.
        let row = |to| Batch::of(&[&format!("{sequence}")]).sequence(sequence).to(to, PROFILE);
        self.replica.send(self.connection, vec![row(0), row(1)]).await
    }

    async fn run(&mut self) {
        while self.acked < BATCHES {
            let mut inflight = Vec::new();
            for sequence in self.acked..BATCHES.min(self.acked + 5) {
                inflight.push(self.send(sequence).await);
            }
            let deadline = Instant::now() + REQUEST_TIMEOUT;
            for reply in inflight {
                let reported = match timeout(deadline - Instant::now(), reply).await {
                    Err(_) => Reported::Timeout,
                    Ok(outcomes) => match outcomes.expect("an answer")[..] {
                        [AppendOutcome::MetadataLost, _] | [_, AppendOutcome::MetadataLost] => {
                            Reported::StorageError
                        }
                        [first, second] => {
                            let at = i64::from(self.acked);
                            assert_eq!((offset_at_last(first), offset_at_last(second)), (at, at));
                            Reported::Offset
                        }
                        _ => panic!("two rows were sent"),
                    },
                };
                self.reported.push(reported);
                if reported != Reported::Offset {
                    self.connection += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    break;
                }
                self.acked += 1;
            }
        }
    }
}

const PROFILE: FlushProfile = FlushProfile::Fast;

async fn check(name: &str, allowed: &[Reported], begin: impl Fn(&Replica), end: impl Fn(&Replica)) {
    for hedges_burst in [0, 10] {
        let upload = UploadSettings { hedges_burst, ..UploadSettings::STANDARD };
        let replica = Replica::with(ProduceSettings { upload, ..settings() }).await;
        let mut producer =
            Producer { replica: &replica, connection: 1, acked: 0, reported: Vec::new() };
        begin(&replica);
        {
            let mut run = std::pin::pin!(producer.run());
            if timeout(FAULT_LASTS, &mut run).await.is_err() {
                end(&replica);
                timeout(600 * SECOND, run).await.unwrap_or_else(|_| panic!("{name}: never heals"));
            }
        }
        end(&replica);
        // What was given up and hung may still come.
        tokio::time::sleep(120 * SECOND).await;
        assert_eq!(replica.budget.available(), BUDGET_BYTES, "{name}: nothing is held for ever");
        for partition in 0..2 {
            let log = replica.read(partition, 0).await;
            let expected: Vec<_> = (0..BATCHES).map(|n| (i64::from(n), n.to_string())).collect();
            assert_eq!(log, expected, "{name}: no gap, no duplicate");
        }
        let others: Vec<_> = producer.reported.iter().filter(|t| !allowed.contains(t)).collect();
        assert!(others.is_empty(), "{name}: {:?}", producer.reported);
        assert!(
            allowed.iter().all(|t| producer.reported.contains(t)),
            "{name}: {:?}",
            producer.reported
        );
        replica.producer.drain().await;
    }
}

/// A fault of the store that stands, and is lifted.
async fn store(name: &str, allowed: &[Reported], fault: Fault) {
    let begin = |replica: &Replica| replica.store.set_persistent(StoreOperation::Put, Some(fault));
    check(name, allowed, begin, |replica| replica.store.set_persistent(StoreOperation::Put, None))
        .await;
}

#[tokio::test(start_paused = true)]
async fn every_failure_of_the_store_has_one_outcome() {
    use Reported::{Offset, Timeout};
    let late = |fault: Fault| Fault { after: 40 * SECOND, ..fault };
    let slow_down =
        odradek::store::faulty::Report::Error(StoreErrorKind::SlowDown, Certainty::Determinate);
    store("refused", &[Timeout, Offset], Fault::REFUSED).await;
    store("told to slow down", &[Timeout, Offset], Fault { report: slow_down, ..Fault::REFUSED })
        .await;
    store("timed out but happened", &[Timeout, Offset], late(Fault::REPLY_LOST)).await;
    store("timed out and did not", &[Timeout, Offset], late(Fault::REQUEST_LOST)).await;
    store("hangs after it happened", &[Timeout, Offset], Fault::HANG).await;
    store("slow", &[Offset], Fault::slow(2 * SECOND)).await;
    store("slower than the producer waits", &[Timeout, Offset], Fault::slow(8 * SECOND)).await;
    // Of an object that arrives in part the store keeps nothing: the port's promise, which the
    // adapters' own tests check.
    store("partial", &[Timeout, Offset], Fault::REQUEST_LOST).await;
    store("lost reply", &[Timeout, Offset], Fault::REPLY_LOST).await;
}

/// A fault of the coordinator that stands, and is lifted.
async fn coordinator(name: &str, allowed: &[Reported], fault: faulty::Fault) {
    let begin = |replica: &Replica| replica.coordinator.set_persistent(Call::Commit, Some(fault));
    let end = |replica: &Replica| replica.coordinator.set_persistent(Call::Commit, None);
    check(name, allowed, begin, end).await;
}

#[tokio::test(start_paused = true)]
async fn every_failure_of_the_coordinator_has_one_outcome() {
    use Reported::{Offset, StorageError, Timeout};
    use faulty::Fault;
    // As long as the Redis adapter waits.
    let late = |fault: Fault| Fault { after: 2 * SECOND, ..fault };
    coordinator("refused", &[Timeout, Offset], Fault::REFUSED).await;
    coordinator("timed out but happened", &[Timeout, Offset], late(Fault::REPLY_LOST)).await;
    coordinator("timed out and did not", &[Timeout, Offset], late(Fault::TIMED_OUT)).await;
    coordinator("hangs after it happened", &[Timeout, Offset], Fault::HANG).await;
    coordinator("slow", &[Offset], Fault::slow(SECOND)).await;
    coordinator("partial", &[Timeout, Offset], Fault::PARTIALLY_APPLIED).await;
    coordinator("lost reply", &[Timeout, Offset], Fault::REPLY_LOST).await;
    coordinator("metadata lost", &[StorageError, Offset], Fault::METADATA_LOST).await;
}
