//! The house rules that no compiler checks: the order of layers, the length of files, the words of
//! texts, and what must not be committed.

#[path = "tidy/cycles.rs"]
mod cycles;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/words.rs"]
mod words;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layers of `src/` in their order, and what each may import beside itself. The most specific
/// row applies to a file.
const LAYERS: &[(&str, &[&str])] = &[
    // Pure: no IO, no clock, no randomness.
    ("log", &[]),
    ("wire", &["log"]),
    // Used by every layer above the pure ones.
    ("clock", &[]),
    ("entropy", &[]),
    ("tasks", &[]),
    ("logging", &[]),
    ("accept", &["tasks"]),
    ("retry", &["entropy"]),
    ("sasl", &[]),
    ("metrics", &["log", "clock", "tasks"]),
    // The ports and their adapters.
    ("store", &["log", "wire", "clock", "entropy", "tasks", "retry", "metrics"]),
    ("coordinator", &["log", "wire", "clock", "entropy", "tasks", "retry", "metrics"]),
    // Adapters of both ports: they keep their records as objects.
    (
        "coordinator/embedded",
        &["log", "wire", "clock", "entropy", "tasks", "retry", "metrics", "store"],
    ),
    (
        "coordinator/redis/loss_detection",
        &["log", "clock", "entropy", "tasks", "retry", "metrics", "store"],
    ),
    (
        "engine",
        &[
            "log",
            "wire",
            "clock",
            "entropy",
            "tasks",
            "logging",
            "retry",
            "metrics",
            "store",
            "coordinator",
        ],
    ),
    (
        "zone_cache",
        &[
            "log",
            "wire",
            "clock",
            "entropy",
            "tasks",
            "accept",
            "metrics",
            "store",
            "coordinator",
            "engine",
        ],
    ),
    ("topic_rules", &["engine"]),
    (
        "proxy",
        &[
            "log",
            "wire",
            "sasl",
            "topic_rules",
            "clock",
            "entropy",
            "tasks",
            "logging",
            "accept",
            "retry",
            "metrics",
            "store",
            "coordinator",
            "engine",
        ],
    ),
    ("cost", &["log", "metrics"]),
    ("config", &["log", "sasl", "logging", "store", "engine", "topic_rules", "cost"]),
    (
        "admin",
        &["log", "clock", "tasks", "logging", "accept", "metrics", "proxy", "cost", "config"],
    ),
    // The edge, which makes concrete adapters of settings.
    (
        "app",
        &[
            "log",
            "clock",
            "entropy",
            "tasks",
            "logging",
            "retry",
            "metrics",
            "store",
            "coordinator",
            "engine",
            "zone_cache",
            "proxy",
            "config",
            "admin",
        ],
    ),
    (
        "doctor",
        &["clock", "entropy", "topic_rules", "store", "coordinator", "proxy", "config", "app"],
    ),
    ("cli", &[]),
    (
        "commands",
        &[
            "log", "tasks", "logging", "metrics", "proxy", "cost", "config", "admin", "app",
            "doctor", "entropy", "cli",
        ],
    ),
    ("main", &[]),
    ("lib", &[]),
];

/// Adapters, which beyond their own layer only the edge may name.
const ADAPTERS: &[&str] = &[
    "store::file",
    "store::open",
    "store::s3",
    "store::memory",
    "coordinator::redis",
    "coordinator::embedded",
];

const EDGE: &[&str] = &["config", "app", "doctor"];

const LONGEST_FILE: usize = 450;

#[test]
fn the_layers_are_in_order() {
    let mut earlier = Vec::new();
    for (layer, imports) in LAYERS {
        let later: Vec<_> = imports.iter().filter(|import| !earlier.contains(*import)).collect();
        assert!(later.is_empty(), "`{layer}` may import {later:?}, which the table names after it");
        earlier.push(*layer);
    }
}

#[test]
fn imports_follow_the_layers() {
    let mut wrong = String::new();
    for file in rust_files("src") {
        let name = file.strip_prefix("src/").expect("it is below it").with_extension("");
        let name = name.to_string_lossy().into_owned();
        if is_test_code(&name) {
            continue;
        }
        let Some((layer, allowed)) = layer_of(&name) else {
            let _ = writeln!(wrong, "src/{name}.rs has no place in LAYERS");
            continue;
        };
        for (line, import) in imports(&production_code(&read(&file))) {
            let target = import.split("::").next().expect("a first component");
            let is_own = layer.split('/').next() == Some(target);
            if !is_own && !allowed.contains(&target) {
                let _ =
                    writeln!(wrong, "src/{name}.rs:{line}: `{layer}` may not import `{import}`");
            }
            let adapter = ADAPTERS.iter().find(|a| import.starts_with(**a));
            if adapter.is_some_and(|a| !EDGE.contains(layer) && !is_own_adapter(&name, a)) {
                let _ = writeln!(wrong, "src/{name}.rs:{line}: only the edge may name `{import}`");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = ["src", "tests", "xtask", "benches", "examples", "fuzz"]
        .into_iter()
        .flat_map(rust_files)
        .map(|file| (read(&file), file))
        .filter(|(text, _)| !text.starts_with("//! Generated "))
        .map(|(text, file)| (text.lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "over {LONGEST_FILE} lines:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    refuse(&[["TO", "DO"], ["FIX", "ME"], ["unimplem", "ented!"]].map(|halves| halves.concat()));
}

#[test]
fn no_path_of_one_machine_is_committed() {
    refuse(&["work", "root", "home", "tmp"].map(|top| format!("/{top}/")));
}

#[test]
fn every_decision_record_is_listed() {
    let records = root().join("docs/adr");
    let index = fs::read_to_string(records.join("README.md")).unwrap_or_default();
    let missing: Vec<String> = fs::read_dir(&records)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md") && name != "README.md" && !index.contains(name))
        .collect();
    assert!(missing.is_empty(), "not listed in docs/adr/README.md: {missing:?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_default()
}

/// Rust files below `dir`, relative to the repository, in a stable order.
fn rust_files(dir: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::from(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root().join(&dir)).into_iter().flatten().flatten() {
            let path = dir.join(entry.file_name());
            if entry.path().is_dir() && entry.file_name() != "target" {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn is_test_code(name: &str) -> bool {
    name.split('/').any(|part| part == "tests" || part == "testing" || part.ends_with("_tests"))
}

/// Returns the most specific row of the table for a file.
fn layer_of(name: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let is_below = |layer: &str| {
        name.strip_prefix(layer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    LAYERS.iter().filter(|(layer, _)| is_below(layer)).max_by_key(|(layer, _)| layer.len())
}

/// Returns whether an adapter belongs to the file's own layer, which may name it.
fn is_own_adapter(name: &str, adapter: &str) -> bool {
    name.split('/').next() == adapter.split("::").next()
}

/// The text above the tests at a file's end.
fn production_code(text: &str) -> String {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// Every `crate::a::b` with its line, those inside `crate::{…}` included.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let line = text[..at].lines().count().max(1);
        let path = &text[at + "crate::".len()..];
        let group = path.strip_prefix('{');
        let names = group.map_or_else(|| vec![path], members);
        for name in names {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            found.push((line, name[..end.unwrap_or(name.len())].trim_matches(':').to_owned()));
        }
    }
    found.retain(|(_, import)| import.chars().next().is_some_and(char::is_lowercase));
    found
}

/// The members of a `{…}` group whose opening brace has been read, nested groups left whole.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                members.push(group[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    members
}

/// Returns the files under version control, relative to the repository.
fn tracked_files() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = listed.expect("git is needed to know what is committed");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    names.split_terminator('\0').map(str::to_owned).collect()
}

/// Fails on every line of a file under version control that has one of these words.
#[track_caller]
fn refuse(words: &[String]) {
    let mut found = String::new();
    for file in tracked_files() {
        if file.ends_with(".lock") || file.ends_with("package-lock.json") {
            continue;
        }
        for (index, line) in read(Path::new(&file)).lines().enumerate() {
            if let Some(word) = words.iter().find(|word| has_word(line, word)) {
                let _ = writeln!(found, "{file}:{}: {word}", index + 1);
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// A path counts only where it begins: `{dir}/x/y` and `a/x/y` name no place on a machine.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "}>_*.)~-".contains(c))
    })
}

#[test]
fn imports_are_found_in_groups_too() {
    let text = "use crate::{log::batch::Run, store::{Store, s3}, clock};\ncrate::engine::go();\n";
    let names: Vec<String> = imports(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["log::batch::Run", "store", "clock", "engine::go"]);
}
