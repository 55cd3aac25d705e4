//! The `odradek` command: arguments → configuration → logs → runtime → exit code.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use odradek::cli::{self, Cli, Command, TopicCommand};
use odradek::config::Settings;
use odradek::{app, cost_command, doctor, topic_command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Validate(config) => cli::run_validate(&config.file),
        Command::Docs(document) => cli::run_docs(document),
        Command::Serve(config) => {
            with_settings(&config.file, "info", |settings| done(app::serve(settings)))
        }
        Command::Doctor(asked) => {
            let file = asked.file.clone();
            // What it finds is its output; what the libraries say meanwhile is not.
            with_settings(&file, "off", |settings| doctor::run(settings, asked))
        }
        Command::Cost(asked) => {
            let file = asked.file.clone();
            with_settings(&file, "error", |settings| cost_command::run(settings, asked))
        }
        Command::Topic(TopicCommand::Create(create)) => {
            let file = create.file.clone();
            with_settings(&file, "info", |settings| done(topic_command::create(settings, create)))
        }
    }
}

async fn done(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    run.await.map(|()| ExitCode::SUCCESS)
}

/// Reads the configuration, and runs what needs it to its end; logs what `level` says, unless the
/// environment says otherwise.
fn with_settings<F>(file: &Path, level: &str, run: impl FnOnce(Settings) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    let settings = match Settings::load(file) {
        Ok(settings) => settings,
        Err(problems) => return cli::config_is_wrong(&problems),
    };
    // The one TLS provider of the process: several libraries link their own, and would panic.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ODRADEK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(std::io::stderr)
        .init();
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(settings)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
