//! Sealed objects: immutable bytes, and parts that wait for their commits.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use tracing::trace_span;

use super::buffer::{BufferedBatch, CommitLane, LaneBatches, size};
use super::pending::{BatchRef, PendingAppends};
use super::sequencer::SequencedPart;
use crate::log::batch::Part;
use crate::log::ids::ObjectId;
use crate::log::object_format::{Footer, HEADER, JournalEntry, encode_footer};
use crate::logging::SPAN_TARGET;

/// The content of an object's footer besides its parts.
#[derive(Debug)]
pub(super) struct ObjectLabel<'a> {
    pub(super) id: ObjectId,
    /// The name of the replica.
    pub(super) replica: &'a str,
    pub(super) sealed_ms: i64,
    /// The lowest sequence of the process with a part that is not decided.
    pub(super) lowest_undecided: u32,
    pub(super) journal: Vec<JournalEntry>,
}

/// A sealed object. Its bytes are immutable, its parts wait for their commits.
#[derive(Debug)]
pub(super) struct SealedObject {
    pub(super) id: ObjectId,
    pub(super) sealed_ms: i64,
    /// Open until the last part is completed.
    pub(super) span: tracing::Span,
    pub(super) sealed_at: Instant,
    pub(super) durable_at: Option<Instant>,
    /// Empty once the object is durable.
    pub(super) bytes: Bytes,
    /// The outcomes that its footer reports.
    pub(super) journal: Vec<JournalEntry>,
    /// By index; `None` once completed.
    parts: Vec<Option<SealedPart>>,
    incomplete: usize,
}

/// A part and the batches whose outcomes it decides.
#[derive(Debug)]
pub(super) struct SealedPart {
    pub(super) lane: CommitLane,
    /// The shard of the coordinator that commits it.
    pub(super) shard: u16,
    pub(super) part: Part,
    pub(super) batches: Vec<BatchRef>,
}

impl SealedObject {
    /// Encodes an object: parts in the order of partition and connection, so that the parts of one
    /// partition are neighbours; the batches of a part in the order in which they were sent; then
    /// the footer.
    pub(super) fn seal(
        batches: LaneBatches,
        label: ObjectLabel<'_>,
        appends: &PendingAppends,
    ) -> Self {
        let mut body = BytesMut::with_capacity(HEADER.len() + size(&batches) + 256);
        body.extend_from_slice(&HEADER);
        let mut parts = Vec::with_capacity(batches.len());
        let parts_of_footer = Vec::with_capacity(batches.len());
        let mut footer = Footer {
            lowest_undecided: label.lowest_undecided,
            journal: label.journal,
            ..Footer::wal(label.id, label.replica, label.sealed_ms, parts_of_footer)
        };
        for (index, (lane, batches)) in (0..).zip(batches) {
            let mut part = Part {
                index,
                partition: lane.0,
                start: body.len() as u64,
                batches: Vec::with_capacity(batches.len()),
            };
            let mut refs = Vec::with_capacity(batches.len());
            for batch in batches {
                body.extend_from_slice(&batch.bytes);
                part.batches.push(batch.metadata);
                refs.push(batch.at);
            }
            footer.parts.push(part.clone());
            let shard = refs.first().map_or(0, |at: &BatchRef| at.shard);
            parts.push(Some(SealedPart { lane, shard, part, batches: refs }));
        }
        body.extend_from_slice(&encode_footer(&footer));
        let span = trace_span!(target: SPAN_TARGET, "object", object = %label.id, bytes = body.len(), partitions = parts.len());
        parts.iter().flatten().flat_map(|sealed| &sealed.batches).for_each(|batch| {
            appends.link(&span, *batch);
        });
        Self {
            id: label.id,
            sealed_ms: label.sealed_ms,
            span,
            sealed_at: Instant::now(),
            durable_at: None,
            bytes: body.freeze(),
            journal: footer.journal,
            incomplete: parts.len(),
            parts,
        }
    }

    /// Returns the parts that are not completed, in the order of their indexes.
    pub(super) fn parts(&self) -> impl Iterator<Item = &SealedPart> {
        self.parts.iter().flatten()
    }

    /// Returns the parts for the sequencer, by index. The object is new: none is completed.
    pub(super) fn sequenced(&self) -> impl Iterator<Item = SequencedPart> {
        self.parts().map(|sealed| SequencedPart { lane: sealed.lane, shard: sealed.shard })
    }

    /// Returns a part that is not completed.
    pub(super) fn part(&self, index: u32) -> Option<&SealedPart> {
        self.parts.get(index as usize)?.as_ref()
    }

    /// Removes a part that is completed.
    pub(super) fn take_part(&mut self, index: u32) -> Option<SealedPart> {
        let sealed = self.parts.get_mut(index as usize)?.take()?;
        self.incomplete -= 1;
        Some(sealed)
    }

    /// Returns the batches of the parts that are not completed. The object is not durable.
    pub(super) fn into_batches(self) -> LaneBatches {
        let mut batches = LaneBatches::new();
        for sealed in self.parts.into_iter().flatten() {
            let mut start = usize::try_from(sealed.part.start).unwrap_or(usize::MAX);
            let of_lane = sealed.part.batches.into_iter().zip(sealed.batches);
            let of_lane = of_lane.map(|(metadata, at)| {
                let end = start + metadata.bytes as usize;
                let bytes = self.bytes.slice(start..end);
                start = end;
                BufferedBatch { metadata, bytes, at }
            });
            batches.insert(sealed.lane, of_lane.collect());
        }
        batches
    }

    /// Returns whether every part is completed.
    pub(super) fn is_complete(&self) -> bool {
        self.incomplete == 0
    }
}
