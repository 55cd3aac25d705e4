//! The `odradek` command: arguments → configuration → logs → runtime → exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use odradek::cli::{self, Cli, Command, TopicCommand};
use odradek::config::Settings;
use odradek::logging::{self, Logging, TraceExport};
use odradek::{app, cost_command, doctor, objects_command, topic_command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Validate(config) => cli::run_validate(&config.file),
        Command::Docs(document) => cli::run_docs(document),
        Command::Serve(config) => {
            let file = config.file.clone();
            with_settings(&config.file, None, |settings, logging| {
                done(app::serve(settings, file, Some(logging)))
            })
        }
        Command::Objects { files } => match objects_command::run(&files) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // A closed standard error cannot be reported anywhere.
                let _ = writeln!(std::io::stderr(), "odradek: {error:#}");
                ExitCode::FAILURE
            }
        },
        Command::Completions { shell } => cli::run_completions(shell),
        Command::Doctor(asked) => {
            let file = asked.file.clone();
            // What it finds is its output; what the libraries say meanwhile is not.
            with_settings(&file, Some("off"), |settings, _| doctor::run(settings, asked))
        }
        Command::Cost(asked) => {
            let file = asked.file.clone();
            with_settings(&file, Some("error"), |settings, _| cost_command::run(settings, asked))
        }
        Command::Topic(TopicCommand::Create(create)) => {
            let file = create.file.clone();
            with_settings(&file, None, |settings, _| done(topic_command::create(settings, create)))
        }
    }
}

async fn done(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    run.await.map(|()| ExitCode::SUCCESS)
}

/// Reads the configuration, and runs what needs it to its end; logs what `level` says, else what
/// the file says, unless the environment says otherwise.
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
        Err(problems) => return cli::report_config_problems(&problems),
    };
    // The one TLS provider of the process: several libraries link their own, and would panic.
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
        Ok(runtime) => runtime.block_on(run(settings, logging)),
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
