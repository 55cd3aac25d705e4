//! An object in the making: rows gather by partition and connection, then lie down as bytes.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::trace_span;

use super::{Append, AppendResult, ConnectionId, FlushProfile, ProducedBatch, RowOutcome};
use crate::engine::memory::MemoryPermit;
use crate::log::batch::Part;
use crate::log::ids::{ObjectId, TopicPartition};
use crate::log::object_format::{Footer, HEADER, JournalEntry, encode_footer};
use crate::logging::SPAN_TARGET;

/// One part's place in its partition's order.
pub(crate) type CommitLane = (TopicPartition, ConnectionId);

/// A request that waits for the outcomes of its rows.
#[derive(Debug)]
pub(crate) struct PendingAppend {
    reply: Option<oneshot::Sender<AppendResult>>,
    /// When it was taken in.
    appended: Instant,
    span: tracing::Span,
    outcomes: Vec<Option<RowOutcome>>,
    missing: usize,
    /// Held until the answer: the bytes count against the budget until then.
    permit: Option<MemoryPermit>,
}

impl PendingAppend {
    /// Notes one row's outcome, and answers the request when it was the last one missing; whether
    /// it was.
    pub(crate) fn complete(&mut self, row: usize, outcome: RowOutcome) -> bool {
        if self.outcomes[row].replace(outcome).is_none() {
            self.missing -= 1;
        }
        if self.missing == 0
            && let Some(reply) = self.reply.take()
        {
            let rows = self.outcomes.iter().filter_map(|o| *o).collect();
            self.permit = None;
            // The client may have gone; its batches stay committed.
            let _gone = reply.send(AppendResult { rows, at: Instant::now() });
            return true;
        }
        false
    }

    /// When it was taken in.
    pub(crate) fn appended(&self) -> Instant {
        self.appended
    }
}

/// Which row of which waiter a batch of a part came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRef {
    pub(crate) pending: usize,
    pub(crate) row: usize,
}

/// The object that takes rows now.
#[derive(Debug, Default)]
pub(crate) struct OpenObject {
    rows: BTreeMap<CommitLane, Vec<(ProducedBatch, RowRef)>>,
    pending_appends: Vec<PendingAppend>,
    bytes: usize,
    opened: Option<Instant>,
    last: Option<Instant>,
    /// Whether some batch does not want to wait.
    urgent: bool,
}

/// A sealed object: its bytes are fixed, its parts wait for their commit; parts that are settled
/// are gone from it.
#[derive(Debug)]
pub(crate) struct SealedObject {
    pub(crate) id: ObjectId,
    pub(crate) sealed_ms: i64,
    /// Until all of its parts are settled.
    pub(crate) span: tracing::Span,
    pub(crate) sealed_at: Instant,
    pub(crate) durable_at: Option<Instant>,
    /// Empty once they are durable.
    pub(crate) bytes: Bytes,
    pub(crate) parts: Vec<SealedPart>,
    pub(crate) pending_appends: Vec<PendingAppend>,
}

/// A part and the rows that it answers.
#[derive(Debug)]
pub(crate) struct SealedPart {
    pub(crate) lane: CommitLane,
    pub(crate) part: Part,
    pub(crate) rows: Vec<RowRef>,
}

impl OpenObject {
    pub(crate) fn push(&mut self, append: Append, now: Instant) {
        self.opened.get_or_insert(now);
        self.last = Some(now);
        let pending = self.pending_appends.len();
        self.pending_appends.push(PendingAppend {
            reply: Some(append.reply),
            appended: now,
            span: append.span,
            outcomes: vec![None; append.rows.len()],
            missing: append.rows.len(),
            permit: Some(append.permit),
        });
        for (row, append_row) in append.rows.into_iter().enumerate() {
            self.bytes += append_row.batch.len();
            self.urgent |= append_row.profile == FlushProfile::Fast;
            let key = (append_row.partition, append.connection);
            self.rows.entry(key).or_default().push((append_row, RowRef { pending, row }));
        }
    }

    /// Takes back rows that must not be committed, and answers that the metadata is lost.
    pub(crate) fn abort(&mut self, is_aborted: impl Fn(&CommitLane) -> bool) {
        for (append_row, at) in
            self.rows.extract_if(.., |lane, _| is_aborted(lane)).flat_map(|c| c.1)
        {
            self.bytes -= append_row.batch.len();
            self.pending_appends[at.pending].complete(at.row, RowOutcome::CoordinatorLost);
        }
        if self.rows.is_empty() {
            *self = Self::default();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of batches gathered so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some batch does not want to wait.
    pub(crate) fn urgent(&self) -> bool {
        self.urgent
    }

    /// When the last row came.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// When the first row came.
    pub(crate) fn opened(&self) -> Option<Instant> {
        self.opened
    }

    /// Lays the rows down: parts in the order of partition and connection, batches of a part in
    /// the order in which they were sent.
    pub(crate) fn seal(
        self,
        id: ObjectId,
        replica: &str,
        sealed_ms: i64,
        journal: Vec<JournalEntry>,
    ) -> SealedObject {
        let mut body = BytesMut::with_capacity(HEADER.len() + self.bytes + 256);
        body.extend_from_slice(&HEADER);
        let mut parts = Vec::with_capacity(self.rows.len());
        for (lane, rows) in self.rows {
            let mut part = Part {
                index: u32::try_from(parts.len()).unwrap_or(u32::MAX),
                partition: lane.0,
                start: body.len() as u64,
                batches: Vec::with_capacity(rows.len()),
            };
            let mut refs = Vec::with_capacity(rows.len());
            for (row, row_ref) in rows {
                body.extend_from_slice(&row.batch);
                part.batches.push(row.claim);
                refs.push(row_ref);
            }
            parts.push(SealedPart { lane, part, rows: refs });
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
        self.pending_appends.iter().for_each(|pending| {
            span.follows_from(&pending.span);
        });
        SealedObject {
            id,
            sealed_ms,
            span,
            sealed_at: Instant::now(),
            durable_at: None,
            bytes: body.freeze(),
            parts,
            pending_appends: self.pending_appends,
        }
    }
}
