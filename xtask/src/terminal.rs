//! Terminal output and settings from the environment.

use std::io::{IsTerminal as _, Write as _};

/// Prints a heading.
pub(crate) fn say(text: &str) {
    let (bold, plain) = match std::io::stdout().is_terminal() {
        true => ("\x1b[1m", "\x1b[0m"),
        false => ("", ""),
    };
    println!("{bold}== {text}{plain}");
}

/// Prints a line below a heading.
pub(crate) fn note(text: &str) {
    println!("   {text}");
}

/// Prints the beginning of a row at once; the rest follows when it has been measured.
pub(crate) fn begin_row(text: &str) {
    print!("{text}");
    // Nothing can be done about a closed terminal.
    let _ = std::io::stdout().flush();
}

#[expect(clippy::print_stderr, reason = "an error belongs there")]
pub(crate) fn fail(why: &str) {
    eprintln!("xtask: {why}");
}

/// The value of an environment variable, unless it is empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A number from an environment variable, or the default.
pub(crate) fn number(name: &str, default: u64) -> Result<u64, String> {
    let Some(text) = variable(name) else { return Ok(default) };
    text.parse().map_err(|_| format!("invalid {name} `{text}`: expected a whole number"))
}

/// Words from an environment variable, each of which must be known; all that are known by default.
pub(crate) fn words(name: &str, known: &[&'static str]) -> Result<Vec<&'static str>, String> {
    let Some(text) = variable(name) else { return Ok(known.to_vec()) };
    let find = |word: &str| known.iter().copied().find(|k| *k == word);
    let unknown = |word: &str| format!("invalid {name} `{word}`: expected {}", known.join(", "));
    text.split_whitespace().map(|word| find(word).ok_or_else(|| unknown(word))).collect()
}
