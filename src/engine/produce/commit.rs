//! Commits parts of an object, and repeats the call until they are decided.

use std::time::Duration;

use tokio::sync::mpsc;

use super::event::PipelineEvent;
use crate::coordinator::{Commit, CoordinatorError, CoordinatorResult, PartOutcome};
use crate::engine::Components;
use crate::log::batch::Part;
use crate::metrics::Metrics;

/// Deadline of a commit, after which it is repeated. Adapters have shorter deadlines for their own
/// calls; this one covers whatever they do not.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Repeats a commit with the same ids until every part is decided or lost, and sends the results
/// as they arrive.
pub(super) async fn commit_until_decided(
    components: &Components,
    mut commit: Commit,
    metrics: &Metrics,
    events: &mpsc::Sender<PipelineEvent>,
) {
    let sequence = commit.object.sequence;
    let mut delays = components.retry_delays();
    for attempt in 0_u32.. {
        let results = commit_once(components, &commit).await;
        let (mut outcomes, mut lost, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
        let (mut retried, mut is_fenced) = (None, false);
        for (part, result) in std::mem::take(&mut commit.parts).into_iter().zip(results) {
            match result {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) if is_retriable(&error) => {
                    undecided.push(part);
                    retried = Some(error);
                }
                Err(CoordinatorError::Fenced(detail)) => {
                    // The process that took over may have committed it. The outcome cannot be known
                    // here, and this process ends.
                    tracing::error!(object = %commit.object, detail, "another process has taken over");
                    is_fenced = true;
                }
                Err(error) => {
                    log_lost_part(&commit, &part, &error);
                    lost.push(part.index);
                }
            }
        }
        // The pipeline ends only with the process.
        if !outcomes.is_empty() {
            let _closed = events.send(PipelineEvent::Decided { sequence, outcomes }).await;
        }
        if !lost.is_empty() {
            let _closed = events.send(PipelineEvent::Lost { sequence, parts: lost }).await;
        }
        if is_fenced {
            let _closed = events.send(PipelineEvent::Fenced).await;
        }
        let Some(error) = retried else { return };
        metrics.produce.commit_retries.inc();
        tracing::warn!(object = %commit.object, attempt, %error, "commit failed or indeterminate; retrying");
        commit.parts = undecided;
        delays.wait().await;
    }
}

/// Makes one call; returns one result for each part.
async fn commit_once(
    components: &Components,
    commit: &Commit,
) -> Vec<CoordinatorResult<PartOutcome>> {
    let call = components.coordinator.commit(commit);
    let error = match tokio::time::timeout(COMMIT_TIMEOUT, call).await {
        Ok(results) if results.len() == commit.parts.len() => return results,
        Ok(results) => CoordinatorError::Unknown(format!("{} results", results.len())),
        Err(_) => CoordinatorError::Unknown(format!("no response within {COMMIT_TIMEOUT:?}")),
    };
    commit.parts.iter().map(|_| Err(error.clone())).collect()
}

fn is_retriable(error: &CoordinatorError) -> bool {
    matches!(error, CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_))
}

fn log_lost_part(commit: &Commit, part: &Part, error: &CoordinatorError) {
    if matches!(error, CoordinatorError::MetadataLost(_)) {
        // Reported once, by the monitor of the metadata's health.
        tracing::debug!(object = %commit.object, %error, "commit rejected");
    } else {
        let partition = part.partition;
        tracing::error!(object = %commit.object, %partition, %error, "commit failed permanently");
    }
}
