//! `odradek doctor`: finds what is wrong with the surroundings of a replica before a client does.
//!
//! Every check says what it found, why that matters and what to do. The store is written to, at a
//! key of the doctor's own that is deleted again; nothing else is changed.

mod coordinator;
mod kafka;
mod report;
mod store;

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::Doctor;
use crate::config::Settings;

pub use report::{Finding, Level, Report};

/// Examines what a configuration names, prints what was found, and gives the exit code: 0 when
/// nothing is wrong, 1 when something is, 2 when `--strict` was asked for and something is doubtful.
///
/// # Errors
/// The outputs are closed.
pub async fn run(settings: Settings, asked: Doctor) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if asked.policy {
        return match store::policy(&settings) {
            Some(policy) => Ok(writeln!(out, "{policy:#}").map(|()| ExitCode::SUCCESS)?),
            None => {
                writeln!(std::io::stderr(), "store: a policy is for s3:// alone")?;
                Ok(ExitCode::FAILURE)
            }
        };
    }
    let report = examine(&settings).await;
    if asked.json {
        report.print_json(&mut out)?
    } else {
        report.print(&mut out)?
    }
    Ok(ExitCode::from(match report.worst() {
        Level::Wrong => 1,
        Level::Doubtful if asked.strict => 2,
        Level::Doubtful | Level::Fine => 0,
    }))
}

/// All checks.
pub async fn examine(settings: &Settings) -> Report {
    let (kafka, store, coordinator) = tokio::join!(
        kafka::examine(settings),
        store::examine(settings),
        coordinator::examine(settings)
    );
    let written = settings.warnings().into_iter().map(|warning| {
        Finding::doubtful("configuration", warning, "it works, and is likely not what is wanted")
            .fix("see docs/configuration.md")
    });
    Report(written.chain(kafka).chain(store).chain(coordinator).collect())
}

/// Logs what is doubtful about brokers, addresses, topics and the coordinator, once at the start of
/// a replica: nothing shows it before the day when it costs records. What the store honours was
/// asked before.
pub async fn log_doubts(settings: &Settings) {
    let (kafka, coordinator) =
        tokio::join!(kafka::examine(settings), coordinator::examine(settings));
    for Finding { level, subject, what, why, fix } in kafka.into_iter().chain(coordinator) {
        if level != Level::Fine {
            tracing::warn!(why, fix, "{subject}: {what}");
        }
    }
}
