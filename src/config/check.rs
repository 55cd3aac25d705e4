//! Checks a file against the [keys](super::keys) and converts it to what serde reads.

use serde_json::{Map, Value};

use super::formats::ValueFormat;
use super::interpolate::{Env, interpolate};
use super::keys::{Key, Kind, quoted, section_of};
use super::problems::{Problems, element, join, nearest, shown};
use super::tree::Node;

/// Collects all problems of a file.
pub(super) struct Checker<'a> {
    pub(super) problems: Problems,
    pub(super) env: Env<'a>,
}

impl Checker<'_> {
    /// Checks a section and returns its valid keys. The others are reported and left out, so that
    /// they get their defaults and checking continues.
    pub(super) fn section(&mut self, path: &str, node: &Node, keys: &[Key]) -> Value {
        let no_entries = Vec::new();
        let entries = match node {
            Node::Map(entries) => entries,
            Node::Null => &no_entries,
            other => {
                self.invalid(path, &other.shown(), &expected_section(other, keys));
                return Value::Null;
            }
        };
        let mut valid = Map::new();
        let mut names: Vec<String> = Vec::new();
        for (name, node) in entries {
            let name = name.name();
            let place = join(path, &name);
            match (keys.iter().find(|key| key.name == name), names.contains(&name)) {
                (_, true) => self.duplicate(place, &name, &names),
                (None, false) => self.problems.push(place, unknown_key(&name, keys)),
                // A section whose keys are commented out is absent.
                (Some(Key { is_required: false, kind: Kind::Section(_), .. }), false)
                    if matches!(node, Node::Null) => {}
                (Some(key), false) => {
                    if let Some(value) = self.value(&place, node, &key.kind) {
                        valid.insert(name.clone(), value);
                    }
                }
            }
            names.push(name);
        }
        for key in keys.iter().filter(|key| key.is_required && !names.contains(&key.name)) {
            self.missing(&join(path, &key.name), &key.kind);
        }
        Value::Object(valid)
    }

    /// Reports a key that occurs more than once, once.
    fn duplicate(&mut self, place: String, name: &String, names: &[String]) {
        if names.iter().filter(|other| *other == name).count() == 1 {
            self.problems.push(place, "duplicate key; delete all but one");
        }
    }

    fn missing(&mut self, path: &str, kind: &Kind) {
        match kind {
            Kind::Section(keys) => {
                self.section(path, &Node::Null, keys);
            }
            _ => self.problems.push(path, format!("missing key: expected {}", kind.expected())),
        }
    }

    fn value(&mut self, path: &str, node: &Node, kind: &Kind) -> Option<Value> {
        match (kind, node) {
            // An empty section is read as null.
            (Kind::Section(keys), Node::Null) if keys.iter().any(|key| key.is_required) => {
                self.missing(path, kind);
                None
            }
            (Kind::Section(_), Node::Null) => None,
            (Kind::Section(keys) | Kind::TextOrSection(_, keys), Node::Map(_))
            | (Kind::Section(keys), _) => {
                Some(self.section(path, node, keys)).filter(|value| !value.is_null())
            }
            (Kind::List { items, is_empty_valid }, Node::List(nodes)) => {
                if nodes.is_empty() && !is_empty_valid {
                    self.missing(path, kind);
                }
                Some(self.list(path, nodes, items))
            }
            (Kind::List { is_empty_valid: true, .. }, Node::Null) => None,
            (_, Node::Null) => {
                let expected = kind.expected();
                self.problems.push(path, format!("missing value: expected {expected}"));
                None
            }
            (Kind::List { .. }, _) | (_, Node::List(_) | Node::Map(_)) => {
                self.invalid(path, &node.shown(), &kind.expected());
                None
            }
            (_, Node::Text(text)) => match interpolate(text, self.env) {
                Ok(text) => self.scalar(path, &text, kind, None),
                Err(message) => {
                    self.problems.push(path, message);
                    None
                }
            },
            (_, Node::Other(text, yaml_type)) => self.scalar(path, text, kind, Some(yaml_type)),
        }
    }

    /// Sections keep their index, because problems between keys name them by it.
    fn list(&mut self, path: &str, nodes: &[Node], items: &Kind) -> Value {
        let mut values = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let path = element(path, index);
            let value = match items {
                Kind::Section(keys) => Some(self.section(&path, node, keys)),
                _ => self.value(&path, node, items),
            };
            let empty = || matches!(items, Kind::Section(_)).then(|| Value::Object(Map::new()));
            values.extend(value.filter(|value| !value.is_null()).or_else(empty));
        }
        Value::Array(values)
    }

    /// Parses a scalar; `yaml_type` is what YAML reads it as, if not as text.
    fn scalar(
        &mut self,
        path: &str,
        text: &str,
        kind: &Kind,
        yaml_type: Option<&str>,
    ) -> Option<Value> {
        let value = match parse(text, kind) {
            Ok(value) => value,
            Err(detail) => {
                let expected = format!("expected {}", kind.expected());
                let detail = if detail.is_empty() { expected } else { detail };
                let message = format!("invalid {} {}: {detail}", kind.noun(), shown(text));
                self.problems.push(path, message);
                return None;
            }
        };
        // What YAML reads as a number can be spelled differently, such as `007`.
        if let (Some(yaml_type), true) = (yaml_type, value.is_string()) {
            let message = format!("{} is a {yaml_type} in YAML; put it in quotes", shown(text));
            self.problems.push(path, message);
            return None;
        }
        Some(value)
    }

    fn invalid(&mut self, path: &str, value: &str, expected: &str) {
        self.problems.push(path, format!("invalid value {value}: expected {expected}"));
    }
}

/// Converts the text of a scalar.
///
/// # Errors
/// What is wrong with it; empty if the expected values say enough.
fn parse(text: &str, kind: &Kind) -> Result<Value, String> {
    let value = match kind {
        Kind::Choice(choices) => {
            let value = choices.iter().any(|choice| choice == text).then(|| Value::from(text));
            return value.ok_or_else(|| {
                let meant = nearest(text, choices.iter().map(String::as_str));
                meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"))
            });
        }
        Kind::Boolean => match text {
            "true" | "on" => Some(Value::from(true)),
            "false" | "off" => Some(Value::from(false)),
            _ => None,
        },
        Kind::Integer { min, max, .. } => {
            let number = text.parse::<u64>().ok().filter(|number| (min..=max).contains(&number));
            number.map(Value::from)
        }
        Kind::Number { min, max } => {
            let number = text.parse::<f64>().ok().filter(|number| (min..=max).contains(&number));
            number.map(Value::from)
        }
        Kind::Text { format, range } => {
            let value = (format.parse)(text)?;
            is_in_range(&value, format, range.as_ref()).then_some(value)
        }
        Kind::TextOrSection(format, _) => return (format.parse)(text),
        Kind::Section(_) | Kind::List { .. } => None,
    };
    value.ok_or_else(String::new)
}

fn is_in_range(value: &Value, format: &ValueFormat, range: Option<&[String; 2]>) -> bool {
    let Some(bounds) = range else { return true };
    let [min, max] = bounds.each_ref().map(|bound| (format.parse)(bound).ok()?.as_u64());
    let value = value.as_u64();
    min <= value && value <= max
}

/// Says which section is expected instead of another node; shows a text under the required key.
fn expected_section(node: &Node, keys: &[Key]) -> String {
    match (node, keys.iter().find(|key| key.is_required)) {
        (Node::Text(text), Some(key)) => {
            format!("a section such as `{}: {}`", key.name, text.escape_debug())
        }
        _ => format!("a section with {}", quoted(keys.iter().map(|key| &key.name), "and")),
    }
}

fn unknown_key(name: &str, keys: &[Key]) -> String {
    if let Some(meant) = nearest(name, keys.iter().map(|key| key.name.as_str())) {
        return format!("unknown key; did you mean `{meant}`?");
    }
    if let Some(section) = section_of(name) {
        return format!("unknown key; it belongs to `{section}`");
    }
    format!("unknown key: expected {}", quoted(keys.iter().map(|key| &key.name), "or"))
}
