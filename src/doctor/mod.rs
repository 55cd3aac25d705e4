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

use crate::cli::DoctorArgs;
use crate::config::Settings;

pub use report::{Finding, Level, Report};

/// Examines what a configuration names, prints what was found, and gives the exit code: 0 when
/// nothing is wrong, 1 when something is, 2 when `--strict` was asked for and something is doubtful.
///
/// # Errors
/// The outputs are closed.
pub async fn run(settings: Settings, args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if args.policy {
        return match store::iam_policy(&settings) {
            Some(policy) => Ok(writeln!(out, "{policy:#}").map(|()| ExitCode::SUCCESS)?),
            None => {
                writeln!(std::io::stderr(), "store: a policy is for s3:// alone")?;
                Ok(ExitCode::FAILURE)
            }
        };
    }
    let report = check(&settings).await;
    if args.json {
        report.print_json(&mut out)?
    } else {
        report.print(&mut out)?
    }
    Ok(ExitCode::from(match report.worst() {
        Level::Fail => 1,
        Level::Warn if args.strict => 2,
        Level::Warn | Level::Ok => 0,
    }))
}

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
