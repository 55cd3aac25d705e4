//! `odradek doctor`: finds what is wrong with the surroundings of a replica before a client does.
//!
//! Every check says what it found, why that matters and what to do. The store is written to, at a
//! key of the doctor's own that is deleted again; nothing else is changed.

mod coordinator;
mod kafka;
mod report;
mod store;

use crate::config::Settings;

pub use report::{Finding, Level, Report};
pub use store::iam_policy;

/// All checks.
pub async fn check(settings: &Settings) -> Report {
    let (kafka, store, coordinator) =
        tokio::join!(kafka::check(settings), store::check(settings), coordinator::check(settings));
    let written = settings.warnings().into_iter().map(|warning| {
        Finding::warn("configuration", warning, "it works, and is likely not what is wanted")
            .remedy("see docs/configuration.md")
    });
    Report(written.chain(kafka).chain(store).chain(coordinator).collect())
}

/// Logs what is doubtful about brokers, addresses, topics and the coordinator, once at the start of
/// a replica: nothing shows it before the day when it costs records. What the store honours was
/// asked before.
pub async fn log_warnings(settings: &Settings) {
    let (kafka, coordinator) = tokio::join!(kafka::check(settings), coordinator::check(settings));
    for Finding { level, subject, summary, impact, remedy } in kafka.into_iter().chain(coordinator)
    {
        if level != Level::Ok {
            tracing::warn!(impact, remedy, "{subject}: {summary}");
        }
    }
}
