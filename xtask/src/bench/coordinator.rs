//! `make bench-coordinator`: runs the benchmark in `benches/coordinator`, which calls the adapter
//! itself, without a replica around it.

use std::process::Command;

use testbed::repository;

use crate::build::setup;

/// Builds and runs the benchmark.
pub(crate) fn run() -> Result<(), String> {
    setup(&["redis"])?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repository()).args(["bench", "--locked", "--bench", "coordinator"]);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the benchmark ended with {status}")),
        Err(error) => Err(format!("cannot run cargo: {error}")),
    }
}
