//! The file as it is written: a tree that keeps what serde's own types throw away, so that a
//! reader can name every mistake instead of the first.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::interpolate::{Env, interpolate};
use super::keys::{children, section_of};
use super::problems::{Problems, nearest, shown};

/// A node of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Nothing: `zone:`.
    Null,
    /// A scalar that YAML takes for something else than text; how it is spelled, and as what.
    Other(String, &'static str),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A map, its order and its duplicates kept.
    Map(Vec<(Self, Self)>),
    /// A value whose interpolation failed; this has been said.
    Broken,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Other(value.to_string(), "a boolean"))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Other(value.to_string(), "a number"))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Other(value.to_string(), "a number"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Other(value.to_string(), "a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

impl Node {
    /// Puts every value below this node under its path.
    pub(super) fn flatten(&self, path: &str, into: &mut BTreeMap<String, String>) {
        match self {
            Self::Null | Self::Broken => {}
            Self::Other(text, _) | Self::Text(text) => {
                into.insert(path.to_owned(), text.clone());
            }
            Self::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    node.flatten(&format!("{path}[{index}]"), into);
                }
            }
            Self::Map(entries) => {
                for (key, node) in entries {
                    node.flatten(&join(path, &key_name(key)), into);
                }
            }
        }
    }

    /// What stands here, for people.
    fn describe(&self) -> String {
        match self {
            Self::Null | Self::Broken => "nothing".to_owned(),
            Self::Other(text, _) | Self::Text(text) => shown(text),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a section".to_owned(),
        }
    }
}

/// A section of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    node: Option<&'a Node>,
}

impl<'a> Section<'a> {
    /// What stands at a name. Of duplicates the first counts; that there are more is said once.
    pub(super) fn find(&self, name: &str) -> Option<&'a Node> {
        let Some(Node::Map(entries)) = self.node else { return None };
        let is_name = |key: &Node| matches!(key, Node::Text(key) if key == name);
        entries.iter().find(|(key, _)| is_name(key)).map(|(_, value)| value)
    }

    /// Whether the section names anything.
    pub(super) fn is_empty(&self) -> bool {
        !matches!(self.node, Some(Node::Map(entries)) if !entries.is_empty())
    }
}

/// Reads a tree, and notes what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What was wrong so far.
    pub(super) problems: Problems,
}

impl Reader {
    /// Replaces the references to variables in all values below.
    pub(super) fn interpolate(&mut self, path: &str, node: &mut Node, env: Env<'_>) {
        match node {
            Node::Text(text) => match interpolate(text, env) {
                Ok(replaced) => *text = replaced,
                Err(message) => {
                    self.problems.push(path, message);
                    *node = Node::Broken;
                }
            },
            Node::List(nodes) => {
                for (index, node) in nodes.iter_mut().enumerate() {
                    self.interpolate(&format!("{path}[{index}]"), node, env);
                }
            }
            Node::Map(entries) => {
                for (key, value) in entries {
                    self.interpolate(&join(path, &key_name(key)), value, env);
                }
            }
            Node::Null | Node::Other(..) | Node::Broken => {}
        }
    }

    /// The section at `path`, after a look at its keys: unknown ones and duplicates are mistakes.
    pub(super) fn section<'a>(&mut self, path: &str, node: Option<&'a Node>) -> Section<'a> {
        match node {
            None | Some(Node::Null | Node::Broken) => return Section { node: None },
            Some(Node::Map(entries)) => self.check_keys(path, entries),
            Some(other) => {
                let known: Vec<_> = children(path).collect();
                let (is, holds) = (other.describe(), known.join("`, `"));
                self.problems.push(path, format!("{is} is no section; it holds `{holds}`"));
                return Section { node: None };
            }
        }
        Section { node }
    }

    fn check_keys(&mut self, path: &str, entries: &[(Node, Node)]) {
        let mut seen: Vec<String> = Vec::new();
        for (key, _) in entries {
            let name = key_name(key);
            let place = join(path, &name);
            if seen.contains(&name) {
                // A thousand repetitions are one mistake.
                if seen.iter().filter(|other| **other == name).count() == 1 {
                    self.problems.push(place, "stands here twice; delete one of the two");
                }
            } else if !children(path).any(|known| known == name) {
                self.problems.push(place, unknown_key(path, &name));
            }
            seen.push(name);
        }
    }

    /// The elements of a list; None when there is no list at that place.
    pub(super) fn list<'a>(&mut self, path: &str, node: Option<&'a Node>) -> Option<&'a [Node]> {
        match node? {
            Node::List(nodes) => Some(nodes),
            Node::Broken => None,
            Node::Null => Some(&[]),
            other => {
                let is = other.describe();
                self.problems
                    .push(path, format!("{is} is no list; write `[a, b]` or lines of `- a`"));
                None
            }
        }
    }

    /// A value that is read from how it is spelled: a number, a size, a switch.
    pub(super) fn word<T>(
        &mut self,
        path: &str,
        node: Option<&Node>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match node? {
            Node::Text(text) | Node::Other(text, _) => self.parsed(path, text, parse),
            other => self.no_value(path, other),
        }
    }

    /// A value that is text: what YAML takes for a number may have lost zeros on the way.
    pub(super) fn text<T>(
        &mut self,
        path: &str,
        node: Option<&Node>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match node? {
            Node::Text(text) => self.parsed(path, text, parse),
            Node::Other(text, what) => {
                let message = format!("{} is {what} to YAML; put it in quotes", shown(text));
                self.problems.push(path, message);
                None
            }
            other => self.no_value(path, other),
        }
    }

    fn parsed<T>(
        &mut self,
        path: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problems.push(path, format!("{} {message}", shown(text)));
                None
            }
        }
    }

    fn no_value<T>(&mut self, path: &str, node: &Node) -> Option<T> {
        match node {
            Node::Broken => {}
            Node::Null => {
                self.problems.push(path, "has no value; give it one or delete the line");
            }
            other => {
                let is = other.describe();
                self.problems.push(path, format!("{is} stands where a single value belongs"));
            }
        }
        None
    }
}

fn unknown_key(path: &str, name: &str) -> String {
    if let Some(meant) = nearest(name, children(path)) {
        return format!("unknown key; did you mean `{meant}`?");
    }
    if let Some(section) = section_of(name) {
        return format!("unknown key; it belongs into `{section}`");
    }
    let known: Vec<_> = children(path).collect();
    format!("unknown key; known are `{}`", known.join("`, `"))
}

fn key_name(key: &Node) -> String {
    match key {
        Node::Text(text) | Node::Other(text, _) => text.escape_debug().take(80).collect(),
        other => other.describe(),
    }
}

/// The path of a name in a section.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
