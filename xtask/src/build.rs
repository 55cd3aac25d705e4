//! Builds and installs what a task needs before it can run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testbed::{repository, script};

use crate::terminal::{say, variable};

/// Runs `scripts/setup.sh` for what is missing.
pub(crate) fn setup(needs: &[&str]) -> Result<(), String> {
    let status = script("setup.sh").args(needs).status();
    let status = status.map_err(|e| format!("cannot run scripts/setup.sh: {e}"))?;
    if status.success() { Ok(()) } else { Err("scripts/setup.sh failed".to_owned()) }
}

/// Returns the binary that the environment variable names, or that of a fresh build.
pub(crate) fn build(
    package: &str,
    binary: &str,
    profile: &str,
    given: &str,
) -> Result<PathBuf, String> {
    if let Some(path) = variable(given) {
        let path = PathBuf::from(path);
        let missing = || format!("invalid {given} `{}`: no such file", path.display());
        return fs::canonicalize(&path).map_err(|_| missing());
    }
    say(&format!("{binary}: {profile} build (a few minutes the first time)"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repository()).args(["build", "--locked", "--profile", profile]);
    let status = command.args(["--package", package, "--bin", binary]).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(format!("{binary} could not be built"));
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    let target =
        variable("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), Into::into);
    Ok(target.join(folder).join(binary))
}
