//! The tables of `docs/failure-modes.md`: each failure of the store or the coordinator has one
//! outcome for a produce request, and afterwards an idempotent producer's log has neither gaps nor
//! duplicates.

use std::time::Duration;

use odradek::coordinator::faulty::{self, Operation as Call};
use odradek::engine::produce::{AppendOutcome, FlushProfile, ProduceSettings, UploadSettings};
use odradek::store::faulty::{Fault, StoreOperation};
use odradek::store::{Certainty, StoreErrorKind};
use tokio::time::{Instant, timeout};

use crate::batches::Batch;
use crate::harness::{MEMORY_BYTES, Replica, Reply, SECOND, offset_or_duplicate, settings};

/// Time after which a producer abandons a request and retries it on a new connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Duration of the fault.
const FAULT_LASTS: Duration = Duration::from_secs(20);
const BATCHES: i32 = 12;

/// Result that a producer receives while the fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reported {
    /// An offset, possibly late.
    Offset,
    /// No response within its own timeout (REQUEST_TIMED_OUT).
    Timeout,
    /// KAFKA_STORAGE_ERROR.
    StorageError,
}

/// A producer that behaves as Kafka's: up to five batches in flight, and after an error or a timeout
/// it retries all unacknowledged batches, in order, on a new connection.
struct Producer<'a> {
    replica: &'a Replica,
    connection: u64,
    acked: i32,
    reported: Vec<Reported>,
}

impl Producer<'_> {
    async fn send(&self, sequence: i32) -> Reply {
        // Two partitions, so that a commit can be applied partially.
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
                    Ok(outcomes) => match outcomes.expect("a result")[..] {
                        [AppendOutcome::MetadataLost, _] | [_, AppendOutcome::MetadataLost] => {
                            Reported::StorageError
                        }
                        [first, second] => {
                            let at = i64::from(self.acked);
                            assert_eq!(
                                (offset_or_duplicate(first), offset_or_duplicate(second)),
                                (at, at)
                            );
                            Reported::Offset
                        }
                        _ => panic!("two batches were sent"),
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
                timeout(600 * SECOND, run)
                    .await
                    .unwrap_or_else(|_| panic!("{name}: does not recover"));
            }
        }
        end(&replica);
        // Abandoned calls may still be applied.
        tokio::time::sleep(120 * SECOND).await;
        assert_eq!(replica.limiter.available(), MEMORY_BYTES, "{name}: all memory is released");
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

/// Checks a fault of the store that is set and cleared.
async fn store(name: &str, allowed: &[Reported], fault: Fault) {
    let begin = |replica: &Replica| replica.store.set_persistent(StoreOperation::put, Some(fault));
    check(name, allowed, begin, |replica| replica.store.set_persistent(StoreOperation::put, None))
        .await;
}

#[tokio::test(start_paused = true)]
async fn every_store_failure_has_one_outcome() {
    use Reported::{Offset, Timeout};
    let late = |fault: Fault| Fault { after: 40 * SECOND, ..fault };
    let slow_down = odradek::store::faulty::ReportedOutcome::Error(
        StoreErrorKind::SlowDown,
        Certainty::Determinate,
    );
    store("refused", &[Timeout, Offset], Fault::REFUSED).await;
    store("throttled", &[Timeout, Offset], Fault { report: slow_down, ..Fault::REFUSED }).await;
    store("timed out but happened", &[Timeout, Offset], late(Fault::REPLY_LOST)).await;
    store("timed out and did not", &[Timeout, Offset], late(Fault::REQUEST_LOST)).await;
    store("hangs after it happened", &[Timeout, Offset], Fault::HANG).await;
    store("slow", &[Offset], Fault::slow(2 * SECOND)).await;
    store("slower than the producer waits", &[Timeout, Offset], Fault::slow(8 * SECOND)).await;
    // The store does not keep a partially received object: the port guarantees it, and the adapters'
    // own tests check it.
    store("partial", &[Timeout, Offset], Fault::REQUEST_LOST).await;
    store("lost reply", &[Timeout, Offset], Fault::REPLY_LOST).await;
}

/// Checks a fault of the coordinator that is set and cleared.
async fn coordinator(name: &str, allowed: &[Reported], fault: faulty::Fault) {
    let begin = |replica: &Replica| replica.coordinator.set_persistent(Call::Commit, Some(fault));
    let end = |replica: &Replica| replica.coordinator.set_persistent(Call::Commit, None);
    check(name, allowed, begin, end).await;
}

#[tokio::test(start_paused = true)]
async fn every_coordinator_failure_has_one_outcome() {
    use Reported::{Offset, StorageError, Timeout};
    use faulty::Fault;
    // The timeout of the Redis adapter.
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
