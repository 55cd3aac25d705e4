//! Tells the program which commit it is built from.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=ODRADEK_COMMIT");
    // Where there is a repository: a new commit, and another branch.
    for path in ["HEAD", "index"] {
        if let Some(path) = git(&["rev-parse", "--git-path", path]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let told = std::env::var("ODRADEK_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = told.or_else(of_repository).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=ODRADEK_COMMIT={commit}");
}

fn of_repository() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
