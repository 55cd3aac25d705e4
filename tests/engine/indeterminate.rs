//! PUTs and commits that fail, or whose outcome is indeterminate.

use std::sync::Arc;

use odradek::coordinator::faulty::{self, Operation as Call};
use odradek::engine::produce::{AppendOutcome, FlushProfile};
use odradek::store::faulty::{Fault, StoreOperation};
use tokio::time::Duration;

use crate::batches::{Batch, fast};
use crate::harness::{Replica, SECOND, offset};

#[tokio::test(start_paused = true)]
async fn indeterminate_put_is_repeated_under_its_key() {
    let rows: [(&str, Vec<Fault>); 3] = [
        ("refused", vec![Fault::REFUSED; 7]),
        ("reply lost", vec![Fault::REPLY_LOST; 3]),
        ("lost, then reply lost", vec![Fault::REQUEST_LOST, Fault::REPLY_LOST]),
    ];
    for (name, faults) in rows {
        for replica in [Replica::new().await, Replica::embedded(&Arc::default()).await] {
            let calls = faults.len() as u64 + 1;
            replica.store.script(StoreOperation::put, faults.clone());
            assert_eq!(replica.write(1, fast(0, "x")).await, 0, "{name}");
            assert_eq!(replica.store.calls(StoreOperation::put), calls, "{name}");
            assert_eq!(replica.coordinator.calls(Call::Commit), 1, "{name}");
            assert_eq!(replica.objects().await.len(), 1, "{name}");
            assert_eq!(replica.read(0, 0).await.len(), 1, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn indeterminate_commit_is_repeated_without_duplicates() {
    use faulty::Fault;
    let late = Fault { after: 5 * SECOND, ..Fault::REPLY_LOST };
    let faults = [Fault::REPLY_LOST, Fault::TIMED_OUT, Fault::REFUSED, late, Fault::REPLY_LOST];
    for replica in [Replica::new().await, Replica::embedded(&Arc::default()).await] {
        replica.coordinator.script(Call::Commit, faults);
        let idempotent = Batch::of(&["idempotent"]).sequence(0).to(0, FlushProfile::Fast);
        let outcomes = replica.send(1, vec![fast(0, "plain"), idempotent]).await.await.unwrap();
        let offsets: Vec<i64> = outcomes.outcomes.into_iter().map(offset).collect();
        assert_eq!(offsets, [0, 1], "the outcome of the first commit, whichever call returned it");
        assert_eq!(replica.coordinator.calls(Call::Commit), 6);
        assert_eq!(replica.store.calls(StoreOperation::put), 1);
        assert_eq!(replica.read(0, 0).await.len(), 2);
        assert_eq!(replica.write(1, fast(0, "next")).await, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_loss_is_reported_and_acknowledges_nothing() {
    let replica = Replica::new().await;
    replica.coordinator.script(Call::Commit, [faulty::Fault::METADATA_LOST]);
    let outcomes = replica.send(1, vec![fast(0, "a"), fast(1, "b")]).await.await.unwrap();
    assert_eq!(outcomes.outcomes, [AppendOutcome::MetadataLost; 2]);
    assert!(replica.read(0, 0).await.is_empty());
    // The process is alive, and the coordinator may recover.
    assert_eq!(replica.write(1, fast(0, "again")).await, 0);
    replica.producer.drain().await;
}

/// The successors of an aborted part must not overtake it when the client retries.
#[tokio::test(start_paused = true)]
async fn successors_of_an_aborted_part_are_aborted() {
    let replica = Replica::new().await;
    let lost = faulty::Fault { before: 3 * SECOND, ..faulty::Fault::METADATA_LOST };
    replica.coordinator.script(Call::Commit, [lost]);
    replica.store.script(StoreOperation::put, [Fault::NONE, Fault::NONE, Fault::slow(20 * SECOND)]);
    let first = replica.send(1, vec![fast(0, "first")]).await;
    tokio::time::sleep(SECOND).await;
    let sealed = replica.send(1, vec![fast(0, "sealed")]).await;
    tokio::time::sleep(SECOND).await;
    let uploading = replica.send(1, vec![fast(0, "uploading"), fast(1, "other lane")]).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    let open = replica.send(1, vec![fast(0, "open")]).await;
    let other = replica.send(2, vec![fast(0, "other")]).await;
    for reply in [first, sealed, open] {
        assert_eq!(reply.await.unwrap().outcomes, [AppendOutcome::MetadataLost]);
    }
    assert_eq!(offset(other.await.unwrap()[0]), 0);
    let outcomes = uploading.await.unwrap();
    assert_eq!(outcomes[0], AppendOutcome::MetadataLost);
    assert_eq!(offset(outcomes[1]), 0, "another partition is another lane");
    assert_eq!(replica.write(1, fast(0, "repeated")).await, 1);
    assert_eq!(replica.read(0, 0).await.len(), 2);
    replica.producer.drain().await;
}

#[tokio::test(start_paused = true)]
async fn by_object_order_halts_after_an_aborted_object() {
    let replica = Replica::embedded(&Arc::default()).await;
    let lost = faulty::Fault { before: 3 * SECOND, ..faulty::Fault::METADATA_LOST };
    replica.coordinator.script(Call::Commit, [lost]);
    let first = replica.send(1, vec![fast(0, "first")]).await;
    tokio::time::sleep(SECOND).await;
    let other = replica.send(2, vec![fast(1, "other")]).await;
    for reply in [first, other] {
        assert_eq!(reply.await.unwrap().outcomes, [AppendOutcome::MetadataLost]);
    }
    let late = replica.send(3, vec![fast(1, "late")]).await;
    assert_eq!(late.await.unwrap().outcomes, [AppendOutcome::MetadataLost]);
    replica.producer.drain().await;
}
