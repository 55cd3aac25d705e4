//! The values that a file contains, to find out which of them changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::problems::{element, join};

/// The values of a file by their key paths. `Debug` does not show them, because they can be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Written(BTreeMap<String, String>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Written({} values)", self.0.len())
    }
}

impl Written {
    pub(super) fn of(file: &Value) -> Self {
        let mut values = BTreeMap::new();
        flatten(file, String::new(), &mut values);
        Self(values)
    }

    /// Returns whether the file contains a key, or one below it.
    pub(super) fn has(&self, path: &str) -> bool {
        let below = |key: &String| {
            key.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0.keys().any(below)
    }

    /// Returns the value of a key.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Returns the paths of the keys that were added, removed or changed.
    pub fn changed_from(&self, before: &Self) -> Vec<String> {
        let paths: BTreeSet<_> = self.0.keys().chain(before.0.keys()).collect();
        let is_changed = |path: &&&String| self.0.get(**path) != before.0.get(**path);
        paths.iter().filter(is_changed).map(ToString::to_string).collect()
    }
}

fn flatten(value: &Value, path: String, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(keys) => {
            keys.iter().for_each(|(name, value)| flatten(value, join(&path, name), into));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| flatten(value, element(&path, index), into));
        }
        Value::String(text) => {
            into.insert(path, text.clone());
        }
        other => {
            into.insert(path, other.to_string());
        }
    }
}
