//! The `odradek` command.

use std::process::ExitCode;

use clap::Parser as _;
use odradek::cli::Cli;

fn main() -> ExitCode {
    odradek::commands::run(Cli::parse().command)
}
