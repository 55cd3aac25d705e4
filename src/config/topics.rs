//! Which topics become diskless when they are created.

use std::fmt;

/// What a diskless topic is tuned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Latency: objects are written early.
    Fast,
    /// Cost: objects are written large.
    Cheap,
}

impl Profile {
    /// All of them, as the file names them.
    pub const NAMES: [(&'static str, Self); 2] = [("fast", Self::Fast), ("cheap", Self::Cheap)];
}

/// The kind that a topic is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicType {
    /// It lives on the Kafka cluster.
    Classic,
    /// It lives in object storage.
    Diskless(Profile),
}

/// A topic's name, or a pattern in which `*` is any text and `?` any one character.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong and what to write instead, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; write a topic's name, or `*` for all topics".to_owned());
        }
        if text.len() > 249 {
            return Err("is longer than the 249 characters of a topic's name".to_owned());
        }
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '?');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            return Err(format!(
                "has `{}`, which stands in no topic's name; a pattern knows only `*` (any text) and \
                 `?` (any one character)",
                other.escape_debug()
            ));
        }
        if matches!(text, "." | "..") {
            return Err("is no topic's name".to_owned());
        }
        if text.starts_with("__") {
            return Err("topics that begin with `__` are Kafka's own (offsets, transactions) and \
                        always classic; delete this rule"
                .to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether the pattern matches the whole of `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        glob(self.0.as_bytes(), topic.as_bytes())
    }

    /// Whether every topic that `other` matches is matched by this one, as far as that is plain.
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

/// What happens to the topics that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// Which topics.
    pub pattern: TopicPattern,
    /// What they become.
    pub kind: TopicType,
}

/// The rules of a configuration, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRules(Vec<TopicRule>);

impl TopicRules {
    /// These rules; the first that matches a topic decides.
    pub fn new(rules: Vec<TopicRule>) -> Self {
        Self(rules)
    }

    /// One after another.
    pub fn iter(&self) -> impl Iterator<Item = &TopicRule> {
        self.0.iter()
    }

    /// The kind that a topic of this name is given when it is created. Kafka's own topics, and
    /// those that no rule matches, are classic.
    pub fn kind_of(&self, topic: &str) -> TopicType {
        if topic.starts_with("__") {
            return TopicType::Classic;
        }
        let first = self.0.iter().find(|rule| rule.pattern.matches(topic));
        first.map_or(TopicType::Classic, |rule| rule.kind)
    }

    /// The rule before `index` that leaves nothing to the rule there.
    pub(super) fn shadow_of(&self, index: usize) -> Option<usize> {
        let rule = self.0.get(index)?;
        self.0[..index].iter().position(|earlier| earlier.pattern.covers(&rule.pattern))
    }
}

/// Goes back only to the last `*`: time is bounded by the product of both lengths.
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

    fn rule(pattern: &str, kind: TopicType) -> TopicRule {
        TopicRule { pattern: TopicPattern::parse(pattern).unwrap(), kind }
    }

    #[test]
    fn patterns() {
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
            let parsed = TopicPattern::parse(pattern).unwrap();
            yes.iter().for_each(|topic| assert!(parsed.matches(topic), "{pattern} {topic}"));
            no.iter().for_each(|topic| assert!(!parsed.matches(topic), "{pattern} {topic}"));
        }
        let (stars, text) = ("*a".repeat(100), "a".repeat(249) + "b");
        assert!(!TopicPattern::parse(&stars).unwrap().matches(&text), "and it ends soon");
    }

    #[test]
    fn the_first_match_decides() {
        let rules = TopicRules::new(vec![
            rule("logs.audit", TopicType::Classic),
            rule("logs.*", TopicType::Diskless(Profile::Cheap)),
            rule("*", TopicType::Diskless(Profile::Fast)),
        ]);
        assert_eq!(rules.kind_of("logs.audit"), TopicType::Classic);
        assert_eq!(rules.kind_of("logs.web"), TopicType::Diskless(Profile::Cheap));
        assert_eq!(rules.kind_of("clicks"), TopicType::Diskless(Profile::Fast));
        assert_eq!(rules.kind_of("__consumer_offsets"), TopicType::Classic);
        assert_eq!(rules.kind_of("_schemas"), TopicType::Diskless(Profile::Fast));
        assert_eq!(TopicRules::default().kind_of("clicks"), TopicType::Classic);
    }

    #[test]
    fn a_rule_that_an_earlier_one_leaves_nothing_to_is_found() {
        let rules = ["a.*", "b", "a.x", "b", "c?", "*", "z*"];
        let rules = rules.map(|pattern| rule(pattern, TopicType::Classic)).to_vec();
        let rules = TopicRules::new(rules);
        let shadows: Vec<_> = (0..7).map(|index| rules.shadow_of(index)).collect();
        assert_eq!(shadows, [None, None, Some(0), Some(1), None, None, Some(5)]);
    }
}
