//! All problems of a configuration, reported at once.

use std::fmt;

/// A problem at one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key, such as `diskless.topics[1].match`; empty for the whole file.
    pub path: String,
    /// The mistake, with the value and the valid values.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// All problems of a configuration, in the order of the file. Problems between keys come last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Creates a list of one problem.
    pub fn one(path: impl Into<String>, message: impl Into<String>) -> Self {
        let mut problems = Self::default();
        problems.push(path, message);
        problems
    }

    /// Adds a problem.
    pub fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Returns whether there are no problems.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether there is a problem at a key or below it.
    pub(super) fn is_reported(&self, path: &str) -> bool {
        let below = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        self.0.iter().any(|problem| problem.path.strip_prefix(path).is_some_and(below))
    }

    /// Returns the problems in order.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Formats a value for a message: short, on one line, and without the user and password of a URL.
pub(super) fn shown(value: &str) -> String {
    let bare = without_userinfo(value);
    let mut shown: String = bare.escape_debug().take(80).collect();
    if shown.len() < bare.len() && bare.chars().count() > 80 {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Returns a URL with its user and password replaced by `***`.
pub(super) fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => url.to_owned(),
    }
}

/// Returns the candidate that was probably meant: equal except for case and separators, or with few
/// typing mistakes.
pub(super) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed = bare_letters(typed);
    let tolerated = (typed.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&typed, &bare_letters(candidate)), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn bare_letters(word: &str) -> String {
    // Bounded, because the comparison takes time proportional to the product of both lengths.
    let letters = word.chars().filter(|c| c.is_alphanumeric()).take(64);
    letters.flat_map(char::to_lowercase).collect()
}

/// Returns the number of letters to insert, delete or replace to change one word into the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// Returns the path of a key in a section.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Returns the path of an element of a list.
pub(super) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_ignores_case_separators_and_typing_mistakes() {
        let keys = ["bind", "advertisedHost", "bootstrapPort", "brokerPorts", "nodePorts"];
        let rows = [
            ("bootstrap_port", Some("bootstrapPort")),
            ("BOOTSTRAP-PORT", Some("bootstrapPort")),
            ("bootstapPort", Some("bootstrapPort")),
            ("nodePort", Some("nodePorts")),
            ("advertisdHots", Some("advertisedHost")),
            ("bin", Some("bind")),
            ("tls", None),
            ("", None),
        ];
        for (typed, meant) in rows {
            assert_eq!(nearest(typed, keys), meant, "{typed}");
        }
    }

    #[test]
    fn shown_values_contain_no_credentials() {
        assert_eq!(shown("redis://me:p@ss@host:1/0"), "`redis://***@host:1/0`");
        assert_eq!(shown("a\nb"), "`a\\nb`");
        assert!(shown(&"x".repeat(500)).chars().count() < 90);
    }
}
