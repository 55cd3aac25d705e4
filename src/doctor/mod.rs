//! Checks of a replica's environment: Kafka, the store, the coordinator and the configuration.
//!
//! Every finding states what was found, its impact and a remedy. The checks write to the store, at a
//! key of their own that is deleted again; they change nothing else.

mod clients;
mod connections;
mod coordinator;
mod kafka;
mod report;
mod store;

use crate::config::Settings;

pub use report::{Finding, Level, Report};
pub use store::iam_policy;

/// Runs all checks.
pub async fn check(settings: &Settings) -> Report {
    let (kafka, clients, store, coordinator) = tokio::join!(
        kafka::check(settings),
        clients::check(settings),
        store::check(settings),
        coordinator::check(settings)
    );
    let warnings = settings.warnings().into_iter().map(|warning| {
        Finding::warn(
            "configuration",
            warning,
            "the configuration is valid, but probably not intended",
        )
        .remedy("see docs/configuration.md")
    });
    Report(
        warnings
            .chain(connections::check(settings))
            .chain(kafka)
            .chain(clients)
            .chain(store)
            .chain(coordinator)
            .collect(),
    )
}

/// Logs the warnings and failures about brokers, addresses, topics and the coordinator, once after
/// the start of a replica. The capabilities of the store are checked at start-up.
pub async fn log_warnings(settings: &Settings) {
    let (kafka, clients, coordinator) = tokio::join!(
        kafka::check(settings),
        clients::check(settings),
        coordinator::check(settings)
    );
    let findings = connections::check(settings).into_iter();
    let findings = findings.chain(kafka).chain(clients).chain(coordinator);
    for Finding { level, subject, summary, impact, remedy } in findings {
        if level != Level::Ok {
            tracing::warn!(impact, remedy, "{subject}: {summary}");
        }
    }
}
