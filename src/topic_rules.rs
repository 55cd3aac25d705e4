//! The rules that decide whether a topic is diskless when it is created.

use std::fmt;
use std::str::FromStr;

use crate::engine::produce::FlushProfile;

/// A topic name, or a pattern in which `*` matches any text and `?` any one character.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TopicPattern(String);

impl FromStr for TopicPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '?');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            return Err(format!(
                "`{}` is not allowed in topic names; expected A–Z, a–z, 0–9, `.`, `_`, `-`, `*` (any \
                 text) and `?` (any one character)",
                other.escape_debug()
            ));
        }
        if text.is_empty() || text.len() > 249 || matches!(text, "." | "..") {
            return Err(
                "expected a topic name (1–249 characters), or `*` for all topics".to_owned()
            );
        }
        if text.starts_with("__") {
            return Err("topics that begin with `__` are Kafka's own (offsets, transactions) and \
                        always classic; delete this rule"
                .to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl TopicPattern {
    /// Returns whether the pattern matches a topic name.
    pub fn matches(&self, topic: &str) -> bool {
        glob(self.0.as_bytes(), topic.as_bytes())
    }

    /// Returns whether this pattern matches every topic that `other` matches; `false` if unsure.
    fn covers(&self, other: &Self) -> bool {
        let exact = !other.0.contains(['*', '?']);
        self == other || self.0 == "*" || (exact && self.matches(&other.0))
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A rule for the topics that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// The pattern.
    pub pattern: TopicPattern,
    /// The flush profile of the topics if they are diskless; `None`: they are classic.
    pub profile: Option<FlushProfile>,
}

/// The rules of a configuration, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRules(Vec<TopicRule>);

impl TopicRules {
    /// Creates a list of rules. The first that matches a topic applies.
    pub fn new(rules: Vec<TopicRule>) -> Self {
        Self(rules)
    }

    /// Returns the rules in order.
    pub fn iter(&self) -> impl Iterator<Item = &TopicRule> {
        self.0.iter()
    }

    /// Returns the flush profile of a topic that is diskless when it is created; `None`: it is
    /// classic. Kafka's own topics and topics without a matching rule are classic.
    pub fn diskless_profile(&self, topic: &str) -> Option<FlushProfile> {
        let mut rules = self.0.iter().filter(|_| !topic.starts_with("__"));
        rules.find(|rule| rule.pattern.matches(topic))?.profile
    }

    /// Returns the index of an earlier rule that matches everything that the rule at `index`
    /// matches.
    pub(crate) fn shadow_of(&self, index: usize) -> Option<usize> {
        let rule = self.0.get(index)?;
        self.0[..index].iter().position(|earlier| earlier.pattern.covers(&rule.pattern))
    }
}

/// Matches a pattern. It backtracks to the last `*` only, so time is bounded by the product of both
/// lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, profile: Option<FlushProfile>) -> TopicRule {
        TopicRule { pattern: pattern.parse().unwrap(), profile }
    }

    #[test]
    fn patterns_match() {
        let rows: [(&str, &[&str], &[&str]); 7] = [
            ("clicks", &["clicks"], &["click", "clicks2", "Clicks", ""]),
            ("logs.*", &["logs.", "logs.a", "logs.a.b"], &["logs", "xlogs.a"]),
            ("*", &["a", "a.b", ""], &[]),
            ("a?c", &["abc", "a.c"], &["ac", "abbc"]),
            ("*a*b*", &["ab", "xaxbx", "aabb"], &["ba", "a"]),
            ("*.audit", &["x.audit", ".audit", "a.audit.audit"], &["audit", "x.audit2"]),
            ("a**", &["a", "ab"], &["b"]),
        ];
        for (pattern, yes, no) in rows {
            let parsed = pattern.parse::<TopicPattern>().unwrap();
            yes.iter().for_each(|topic| assert!(parsed.matches(topic), "{pattern} {topic}"));
            no.iter().for_each(|topic| assert!(!parsed.matches(topic), "{pattern} {topic}"));
        }
        let (stars, text) = ("*a".repeat(100), "a".repeat(249) + "b");
        assert!(
            !stars.parse::<TopicPattern>().unwrap().matches(&text),
            "without exponential backtracking"
        );
    }

    #[test]
    fn first_match_applies() {
        let rules = TopicRules::new(vec![
            rule("logs.audit", None),
            rule("logs.*", Some(FlushProfile::Cheap)),
            rule("*", Some(FlushProfile::Fast)),
        ]);
        assert_eq!(rules.diskless_profile("logs.audit"), None);
        assert_eq!(rules.diskless_profile("logs.web"), Some(FlushProfile::Cheap));
        assert_eq!(rules.diskless_profile("clicks"), Some(FlushProfile::Fast));
        assert_eq!(rules.diskless_profile("__consumer_offsets"), None);
        assert_eq!(rules.diskless_profile("_schemas"), Some(FlushProfile::Fast));
        assert_eq!(TopicRules::default().diskless_profile("clicks"), None);
    }

    #[test]
    fn shadowed_rules_are_found() {
        let rules = ["a.*", "b", "a.x", "b", "c?", "*", "z*"];
        let rules = rules.map(|pattern| rule(pattern, None)).to_vec();
        let rules = TopicRules::new(rules);
        let shadows: Vec<_> = (0..7).map(|index| rules.shadow_of(index)).collect();
        assert_eq!(shadows, [None, None, Some(0), Some(1), None, None, Some(5)]);
    }
}
