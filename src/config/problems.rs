//! All that is wrong with a configuration, told at once.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, as `diskless.topics[1].match`; empty for the file as a whole.
    pub path: String,
    /// What is wrong there and what to write instead.
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

/// Every mistake of a configuration, in the order of the file; those of relations come last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// One mistake alone.
    pub fn one(path: impl Into<String>, message: impl Into<String>) -> Self {
        let mut problems = Self::default();
        problems.push(path, message);
        problems
    }

    /// Notes a mistake.
    pub fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after another.
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

/// A value as it may be shown: short, on one line, and without the user and password of a URL.
pub(super) fn shown(value: &str) -> String {
    let bare = without_userinfo(value);
    let mut shown: String = bare.escape_debug().take(80).collect();
    if shown.len() < bare.len() && bare.chars().count() > 80 {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// A URL whose user and password are starred out.
pub(super) fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => url.to_owned(),
    }
}

/// The candidate that was probably meant: spelled alike but for case and separators, or a typing
/// mistake or two away.
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
    // Bounded, because the comparison takes the product of both lengths.
    let letters = word.chars().filter(|c| c.is_alphanumeric()).take(64);
    letters.flat_map(char::to_lowercase).collect()
}

/// How many letters to insert, leave out or replace to make one word of the other.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_guessed_from_case_separators_and_typing_mistakes() {
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
    fn a_value_is_shown_without_what_is_secret_in_it() {
        assert_eq!(shown("redis://me:p@ss@host:1/0"), "`redis://***@host:1/0`");
        assert_eq!(shown("a\nb"), "`a\\nb`");
        assert!(shown(&"x".repeat(500)).chars().count() < 90);
    }
}
