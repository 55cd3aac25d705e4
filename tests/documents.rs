//! Links in documents resolve, and commands in them are valid.
//!
//! A line of a block of `sh` is a command of `odradek`, whose arguments are parsed, or a `make` target,
//! which must exist, or says why it is not checked: `# not run: …`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use odradek::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every document under version control.
fn documents() -> Vec<(PathBuf, String)> {
    let listed = Command::new("git").args(["ls-files", "-z", "*.md"]).current_dir(root()).output();
    let listed = listed.expect("git is needed to know what is committed");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    // Those in `src/` are parts of documents elsewhere.
    let is_whole = |name: &&str| !name.starts_with("src/");
    let read = |name: &str| {
        let path = root().join(name);
        fs::read_to_string(&path).ok().map(|text| (path, text))
    };
    let documents: Vec<_> =
        names.split_terminator('\0').filter(is_whole).filter_map(read).collect();
    assert!(documents.len() > 20, "{documents:?}");
    documents
}

/// Returns the lines of blocks of `sh`.
fn commands(text: &str) -> Vec<&str> {
    let (mut inside, mut found) = (false, Vec::new());
    for line in text.lines().map(str::trim) {
        match (inside, line) {
            (false, "```sh") => inside = true,
            (true, "```") => inside = false,
            (true, line) if !line.is_empty() => found.push(line),
            _ => {}
        }
    }
    found
}

#[test]
fn commands_in_documents_are_valid() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile exists");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, text) in documents() {
        for line in commands(&text) {
            seen += 1;
            let words: Vec<_> =
                line.split_whitespace().take_while(|w| ![">", "#"].contains(w)).collect();
            let is_right = match words[..] {
                _ if line.contains("# not run: ") => true,
                ["odradek", ..] => Cli::try_parse_from(&words).is_ok(),
                ["make", target] => makefile.contains(&format!("\n{target}:")),
                _ => false,
            };
            if !is_right {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(seen >= 10, "{seen} commands");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn links_in_documents_resolve() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let is_ours = |link: &&str| !link.contains("://") && !link.starts_with('#');
        for link in links.filter(is_ours) {
            let target = link.split('#').next().unwrap_or_default();
            let folder = path.parent().expect("a file is in a folder");
            if !folder.join(target).exists() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn commands_in_indented_blocks_are_found() {
    let text = "a\n```sh\nmake test\n\n```\n1. b\n\n   ```sh\n   odradek help\n   ```\n```\nc\n```";
    assert_eq!(commands(text), ["make test", "odradek help"]);
}
