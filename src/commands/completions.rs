//! `odradek completions SHELL`: prints a completion script.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints the script of `shell` to standard output.
pub(super) fn run(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "odradek", &mut text);
    let written = io::stdout().lock().write_all(&text);
    written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
