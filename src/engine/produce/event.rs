//! The input of the pipeline.

use tokio::sync::oneshot;

use super::refusal::UploadRefusal;
use super::request::AppendRequest;
use super::settings::FlushTuning;
use crate::coordinator::PartOutcome;

/// Input of the pipeline.
#[derive(Debug)]
pub(super) enum PipelineEvent {
    /// A request was admitted.
    Append(AppendRequest),
    /// The upload of the object with this sequence has ended.
    Uploaded { sequence: u32, result: Result<(), UploadRefusal> },
    /// The coordinator has decided parts of an object.
    Decided { sequence: u32, outcomes: Vec<PartOutcome> },
    /// The coordinator cannot commit these parts of an object, because their metadata is lost.
    Lost { sequence: u32, parts: Vec<u32> },
    /// Another process has taken over the objects of this one: nothing more can be decided.
    Fenced,
    /// Every part of a commit is decided or lost.
    CommitEnded { shard: u16, commit: u64 },
    /// The flush settings have changed.
    Reconfigure(FlushTuning),
    /// Seal without linger and without rate limit from now on.
    FlushNow,
    /// Reply when nothing is outstanding.
    Drain(oneshot::Sender<()>),
}
