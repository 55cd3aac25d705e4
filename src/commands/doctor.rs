//! `odradek doctor FILE`: checks the environment of a replica.

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::DoctorArgs;
use crate::config::Settings;
use crate::doctor::{self, Level};

/// Runs every check, prints the findings, and returns the exit code: 0 if none failed, 1 if one
/// did, 2 if `--strict` is given and there is a warning.
///
/// # Errors
/// The output is closed.
pub(super) async fn run(settings: Settings, args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if args.policy {
        return match doctor::iam_policy(&settings) {
            Some(policy) => Ok(writeln!(out, "{policy:#}").map(|()| ExitCode::SUCCESS)?),
            None => {
                writeln!(std::io::stderr(), "store: only s3:// stores have a policy")?;
                Ok(ExitCode::FAILURE)
            }
        };
    }
    let report = doctor::check(&settings).await;
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
