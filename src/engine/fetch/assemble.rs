//! Assembles a partition's result from the runs that were read.

use bytes::Bytes;

use super::plan::PartitionPlan;
use super::slices::{ByteLimit, SliceOutcome, slice_run};
use super::spec::{FetchError, FetchedPartition, PartitionFetch};
use crate::store::{StoreError, StoreErrorKind};

/// Slices the runs of a partition within `limit`. `runs` holds the bytes of the first runs of the
/// plan, in order.
pub(super) fn assemble_partition(
    partition: &PartitionFetch,
    plan: &PartitionPlan,
    runs: Vec<Result<Bytes, StoreError>>,
    limit: &mut ByteLimit,
) -> FetchedPartition {
    let (watermarks, error) = (plan.watermarks, plan.error);
    let mut fetched = FetchedPartition { watermarks, error, records: Vec::new() };
    if error.is_some() {
        return fetched;
    }
    limit.begin_partition(partition.bytes_max);
    let mut next_offset = partition.offset;
    for (run, bytes) in plan.runs.iter().zip(runs) {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                match error.kind {
                    StoreErrorKind::Corrupt => {
                        tracing::error!(%error, "object is corrupt; its records are not served");
                    }
                    StoreErrorKind::UnsupportedFormat => {
                        tracing::error!(%error, "object has another format; its records are not served");
                    }
                    _ => tracing::warn!(%error, "run cannot be read"),
                }
                fetched.error = Some(FetchError::Storage);
                break;
            }
        };
        let (epoch, records) = (partition.leader_epoch, &mut fetched.records);
        match slice_run(run, &bytes, next_offset, epoch, limit, records) {
            Ok(SliceOutcome::RunComplete) => next_offset = run.end_offset(),
            Ok(SliceOutcome::LimitReached) => break,
            Err(error) => {
                tracing::error!(object = %run.object, start = run.start, %error,
                    "object does not match the index");
                fetched.error = Some(FetchError::Storage);
                break;
            }
        }
    }
    if !fetched.records.is_empty() {
        // The records read so far are valid; the client meets the error at the next offset.
        fetched.error = None;
    }
    fetched
}
