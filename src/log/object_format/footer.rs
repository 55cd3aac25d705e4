//! The contents of a footer.

use crate::log::batch::Part;
use crate::log::commit_outcome::CommitOutcome;
use crate::log::ids::ObjectId;

/// The description of an object that is stored in the object itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The id of the object. It differs from the key if the object was copied.
    pub object: ObjectId,
    /// The name of the replica that wrote the object; informational.
    pub replica: String,
    /// The seal time in milliseconds since the Unix epoch.
    pub sealed_ms: i64,
    /// The parts: `index` counts from 0, the byte ranges ascend and do not overlap.
    pub parts: Vec<Part>,
    /// The outcomes of earlier commits.
    pub journal: Vec<JournalEntry>,
}

/// The outcomes of one part of an earlier object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The earlier object.
    pub object: ObjectId,
    /// The index of the part in it.
    pub part: u32,
    /// One outcome for each batch, in order.
    pub outcomes: Vec<JournalOutcome>,
}

/// The part of a [`CommitOutcome`] that the journal stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalOutcome {
    /// Appended at this offset, 0 or above.
    Committed(i64),
    /// A duplicate of a batch at this offset, 0 or above.
    Duplicate(i64),
    /// Not appended.
    Refused,
}

impl From<CommitOutcome> for JournalOutcome {
    fn from(outcome: CommitOutcome) -> Self {
        match outcome {
            CommitOutcome::Committed { base_offset } => Self::Committed(base_offset),
            CommitOutcome::Duplicate { base_offset, .. } => Self::Duplicate(base_offset),
            CommitOutcome::Refused(_) => Self::Refused,
        }
    }
}
