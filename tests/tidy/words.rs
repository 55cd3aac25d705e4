//! The words that CONTRIBUTING.md's style section rules out.

use std::fmt::Write as _;
use std::path::Path;

use crate::{read, tracked_files};

/// Words and phrases that no text uses, in lower case. `_` ends a word, so names count too.
const WORDS: &[&str] = &[
    "whoever",
    "whomever",
    "whom",
    "nobody",
    "somebody",
    "anybody",
    "anew",
    "lately",
    "for ever",
    "of its own accord",
    ", for they",
];

/// `lies` before one of these means "is stored" or "is located", and says so less clearly.
const PLACES: &[&str] = &[
    "in", "at", "on", "below", "beside", "behind", "beyond", "between", "with", "under", "above",
    "outside", "inside", "within", "here", "there", "where", "before", "after",
];

/// A doc comment starts with a verb in the third person or a noun phrase, not with one of these.
const OPENINGS: &[&str] = &["What", "Who", "Whoever", "Whose", "How", "Whether", "Where", "Why"];

const EXTENSIONS: &[&str] = &["rs", "md", "lua", "sh", "yaml", "yml", "toml"];

/// Lists of words, and records of what was.
const EXEMPT: &[&str] = &["docs/renames.md", "CHANGELOG.md", "tests/tidy/words.rs"];

#[test]
fn text_uses_plain_words() {
    let mut found = String::new();
    for file in tracked_files() {
        let extension = Path::new(&file).extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|e| EXTENSIONS.contains(&e)) || EXEMPT.contains(&file.as_str()) {
            continue;
        }
        for (line, word) in offences(&read(Path::new(&file)), extension == Some("rs")) {
            let _ = writeln!(found, "{file}:{line}: {word}");
        }
    }
    assert!(found.is_empty(), "see the style section of CONTRIBUTING.md:\n{found}");
}

/// Returns the words of `text` that are ruled out, with their lines.
fn offences(text: &str, is_rust: bool) -> Vec<(usize, String)> {
    let (mut found, mut was_doc) = (Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        let words = WORDS.iter().filter(|word| has_word(&lower, word));
        found.extend(words.map(|word| (index + 1, (*word).to_owned())));
        let places = PLACES.iter().map(|place| format!("lies {place}"));
        found.extend(places.filter(|p| has_word(&lower, p)).map(|phrase| (index + 1, phrase)));
        let trimmed = line.trim_start();
        let doc = trimmed.strip_prefix("///").or_else(|| trimmed.strip_prefix("//!"));
        let doc = doc.filter(|_| is_rust);
        let first = doc.and_then(|text| text.split_whitespace().next());
        if let Some(first) = first.map(|word| word.trim_end_matches(|c: char| !c.is_alphabetic()))
            && !was_doc
            && OPENINGS.contains(&first)
        {
            found.push((index + 1, format!("a doc comment that starts with `{first}`")));
        }
        was_doc = doc.is_some();
    }
    found
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        [before, after].iter().flatten().all(|c| !c.is_alphanumeric())
    })
}

#[test]
fn words_and_openings_are_found() {
    let text = "//! Whether it works.\n//! How it works is no opening.\nfn while_nobody_waits() {}\n\
                // A renewal; truth lies in the log, nobodys too.\n/// Where.\n";
    let found = offences(text, true);
    let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 3, 4, 5], "{found:?}");
    assert_eq!(offences("/// What\n", false), []);
}
