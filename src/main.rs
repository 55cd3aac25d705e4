//! The `odradek` command: arguments → configuration → logs → runtime → exit code.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use odradek::cli::{self, Cli, Command, TopicCommand};
use odradek::config::Settings;
use odradek::{app, topic_command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Validate(config) => cli::run_validate(&config.file),
        Command::Docs(document) => cli::run_docs(document),
        Command::Serve(config) => with_settings(&config.file, app::serve),
        Command::Topic(TopicCommand::Create(create)) => {
            let file = create.file.clone();
            with_settings(&file, |settings| topic_command::create(settings, create))
        }
    }
}

/// Reads the configuration, and runs what needs it to its end.
fn with_settings<F>(file: &Path, run: impl FnOnce(Settings) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let settings = match Settings::load(file) {
        Ok(settings) => settings,
        Err(problems) => return cli::config_is_wrong(&problems),
    };
    // The one TLS provider of the process: several libraries link their own, and would panic.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ODRADEK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
