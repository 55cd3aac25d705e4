//! The commands of `odradek`, a file each: arguments → configuration → logs → runtime → exit code.

mod completions;
mod cost;
mod docs;
mod doctor;
mod objects;
mod serve;
mod topic;
mod validate;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{Command, TopicCommand};
use crate::config::Settings;
use crate::logging::{self, Logging, TraceExport};

/// Runs a command to its end and returns its exit code.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Validate(config) => validate::run(&config.file),
        Command::Docs(document) => docs::run(document),
        Command::Objects { files } => match objects::run(&files) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // A closed standard error cannot be reported anywhere.
                let _ = writeln!(io::stderr(), "odradek: {error:#}");
                ExitCode::FAILURE
            }
        },
        Command::Completions { shell } => completions::run(shell),
        Command::Serve(config) => {
            let file = config.file.clone();
            with_settings(&config.file, None, |settings, logging| {
                succeed(serve::run(settings, file, Some(logging)))
            })
        }
        Command::Doctor(args) => {
            let file = args.file.clone();
            // The findings are the output; the logs of libraries would repeat them.
            with_settings(&file, Some("off"), |settings, _| doctor::run(settings, args))
        }
        Command::Cost(args) => {
            let file = args.file.clone();
            with_settings(&file, Some("error"), |settings, _| cost::run(settings, args))
        }
        Command::Topic(TopicCommand::Create(args)) => {
            let file = args.file.clone();
            with_settings(&file, None, |settings, _| succeed(topic::create(settings, args)))
        }
    }
}

/// Maps success to its exit code.
async fn succeed(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    run.await.map(|()| ExitCode::SUCCESS)
}

/// Time for blocking calls that are under way when a command ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Prints every problem of a configuration file.
fn report_config_problems(problems: &crate::config::Problems) -> ExitCode {
    // The exit code reports the problems as well, so a closed output is ignored.
    let _unread = writeln!(io::stderr().lock(), "{problems}");
    ExitCode::from(validate::EXIT_CONFIG)
}

/// Loads the configuration, and runs a command with it. The log level is that of the environment,
/// else `level`, else the file's.
fn with_settings<F>(
    file: &Path,
    level: Option<&str>,
    run: impl FnOnce(Settings, Logging) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    let settings = match Settings::load(file) {
        Ok(settings) => settings,
        Err(problems) => return report_config_problems(&problems),
    };
    // Several libraries link their own TLS providers, and would panic without a default.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let from_env = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok();
    let endpoint = settings.log.traces.clone().or_else(|| from_env.filter(|url| !url.is_empty()));
    let level = level.unwrap_or(&settings.log.level);
    let (replica, zone) = (settings.replica.as_str(), settings.zone.as_str());
    let traces = endpoint.as_deref().map(|endpoint| TraceExport { endpoint, replica, zone });
    let logging = logging::start(settings.log.format, level, traces);
    let finished = logging.clone();
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(settings, logging));
            // A reader of standard output that does not read must not keep the process from ending.
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
            done
        }
        Err(error) => Err(error.into()),
    };
    finished.flush_spans();
    match done {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
