//! Buffers batches by partition and connection, and seals them into WAL objects.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::trace_span;

use super::request::{
    AppendOutcome, AppendRequest, AppendResult, ConnectionId, FlushProfile, ProducedBatch,
};
use crate::engine::memory::MemoryPermit;
use crate::log::batch::Part;
use crate::log::ids::{ObjectId, TopicPartition};
use crate::log::object_format::{Footer, HEADER, JournalEntry, encode_footer};
use crate::logging::SPAN_TARGET;

/// The scope of ordering: commits within a lane keep the order in which the batches were sent.
pub(super) type CommitLane = (TopicPartition, ConnectionId);

/// An append that waits for the outcomes of its batches.
#[derive(Debug)]
pub(super) struct PendingAppend {
    reply: Option<oneshot::Sender<AppendResult>>,
    received_at: Instant,
    span: tracing::Span,
    outcomes: Vec<Option<AppendOutcome>>,
    outstanding: usize,
    /// Held until the last outcome is known.
    permit: Option<MemoryPermit>,
}

impl PendingAppend {
    /// Records the outcome of one batch. Sends the result and returns true if it was the last one
    /// outstanding.
    pub(super) fn complete(&mut self, batch: usize, outcome: AppendOutcome) -> bool {
        if self.outcomes[batch].replace(outcome).is_none() {
            self.outstanding -= 1;
        }
        if self.outstanding > 0 {
            return false;
        }
        let Some(reply) = self.reply.take() else { return false };
        let outcomes = self.outcomes.iter().filter_map(|outcome| *outcome).collect();
        self.permit = None;
        // The receiver is gone if the client disconnected; its batches stay committed.
        let _closed = reply.send(AppendResult { outcomes, completed_at: Instant::now() });
        true
    }

    /// Returns the time at which the append was received.
    pub(super) fn received_at(&self) -> Instant {
        self.received_at
    }
}

/// Refers to a batch of a pending append.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchRef {
    /// Index into [`SealedObject::appends`].
    pub(super) append: usize,
    /// Index of the batch within the append.
    pub(super) batch: usize,
}

/// The open object, which accepts batches.
#[derive(Debug, Default)]
pub(super) struct OpenObject {
    batches: BTreeMap<CommitLane, Vec<(ProducedBatch, BatchRef)>>,
    appends: Vec<PendingAppend>,
    bytes: usize,
    first_append_at: Option<Instant>,
    last_append_at: Option<Instant>,
    has_fast_batch: bool,
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
    /// The parts that are not completed yet.
    pub(super) parts: Vec<SealedPart>,
    pub(super) appends: Vec<PendingAppend>,
}

/// A part and the batches whose outcomes it decides.
#[derive(Debug)]
pub(super) struct SealedPart {
    pub(super) lane: CommitLane,
    pub(super) part: Part,
    pub(super) batches: Vec<BatchRef>,
}

impl OpenObject {
    /// Adds the batches of a request.
    pub(super) fn push(&mut self, request: AppendRequest, now: Instant) {
        self.first_append_at.get_or_insert(now);
        self.last_append_at = Some(now);
        let append = self.appends.len();
        self.appends.push(PendingAppend {
            reply: Some(request.reply),
            received_at: now,
            span: request.span,
            outcomes: vec![None; request.batches.len()],
            outstanding: request.batches.len(),
            permit: Some(request.permit),
        });
        for (batch, produced) in request.batches.into_iter().enumerate() {
            self.bytes += produced.batch.len();
            self.has_fast_batch |= produced.profile == FlushProfile::Fast;
            let lane = (produced.partition, request.connection);
            self.batches.entry(lane).or_default().push((produced, BatchRef { append, batch }));
        }
    }

    /// Removes the batches of the lanes that must not be committed, and completes them with
    /// [`AppendOutcome::MetadataLost`].
    pub(super) fn abort(&mut self, is_aborted: impl Fn(&CommitLane) -> bool) {
        let aborted = self.batches.extract_if(.., |lane, _| is_aborted(lane));
        for (produced, at) in aborted.flat_map(|(_, batches)| batches) {
            self.bytes -= produced.batch.len();
            self.appends[at.append].complete(at.batch, AppendOutcome::MetadataLost);
        }
        if self.batches.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the size of the buffered batches, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether a buffered batch has [`FlushProfile::Fast`].
    pub(super) fn has_fast_batch(&self) -> bool {
        self.has_fast_batch
    }

    /// Returns the time of the first append.
    pub(super) fn first_append_at(&self) -> Option<Instant> {
        self.first_append_at
    }

    /// Returns the time of the last append.
    pub(super) fn last_append_at(&self) -> Option<Instant> {
        self.last_append_at
    }

    /// Encodes the object: parts in the order of partition and connection, the batches of a part in
    /// the order in which they were sent, then the footer with `journal`.
    pub(super) fn seal(
        self,
        id: ObjectId,
        replica: &str,
        sealed_ms: i64,
        journal: Vec<JournalEntry>,
    ) -> SealedObject {
        let mut body = BytesMut::with_capacity(HEADER.len() + self.bytes + 256);
        body.extend_from_slice(&HEADER);
        let mut parts = Vec::with_capacity(self.batches.len());
        for (lane, batches) in self.batches {
            let mut part = Part {
                index: u32::try_from(parts.len()).unwrap_or(u32::MAX),
                partition: lane.0,
                start: body.len() as u64,
                batches: Vec::with_capacity(batches.len()),
            };
            let mut refs = Vec::with_capacity(batches.len());
            for (produced, batch_ref) in batches {
                body.extend_from_slice(&produced.batch);
                part.batches.push(produced.metadata);
                refs.push(batch_ref);
            }
            parts.push(SealedPart { lane, part, batches: refs });
        }
        let footer = Footer {
            object: id,
            replica: replica.to_owned(),
            sealed_ms,
            parts: parts.iter().map(|sealed| sealed.part.clone()).collect(),
            journal,
        };
        body.extend_from_slice(&encode_footer(&footer));
        let span = trace_span!(target: SPAN_TARGET, "object", object = %id, bytes = body.len(), partitions = parts.len());
        self.appends.iter().for_each(|append| {
            span.follows_from(&append.span);
        });
        SealedObject {
            id,
            sealed_ms,
            span,
            sealed_at: Instant::now(),
            durable_at: None,
            bytes: body.freeze(),
            parts,
            appends: self.appends,
        }
    }
}
