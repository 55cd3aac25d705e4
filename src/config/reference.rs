//! `docs/configuration.md`.

use std::fmt::Write as _;

use super::keys::{KEYS, Key, Kind, quoted};
use super::problems::join;

/// Returns `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    KEYS.iter().filter(|key| !matches!(key.kind, Kind::Section(_))).for_each(|key| {
        row(&mut text, "", key);
    });
    for key in KEYS.iter() {
        let Some(keys) = key.section() else { continue };
        let doc = match key.kind {
            Kind::Section(_) => &key.doc,
            _ => "As a section instead of a single value.",
        };
        let _infallible = writeln!(text, "\n## `{}`\n\n{doc}\n", key.name);
        rows(&mut text, &key.name, keys);
    }
    text
}

fn rows(text: &mut String, path: &str, keys: &[Key]) {
    for key in keys {
        row(text, path, key);
        let path = join(path, &key.name);
        match &key.kind {
            Kind::Section(keys) => rows(text, &path, keys),
            Kind::List { items, .. } => {
                if let Kind::Section(keys) = &**items {
                    rows(text, &format!("{path}[]"), keys);
                }
            }
            _ => {}
        }
    }
}

fn row(text: &mut String, path: &str, key: &Key) {
    let default = match (&key.default, &key.kind) {
        _ if key.is_required => ", **required**".to_owned(),
        (Some(default), _) => format!(", default: {default}"),
        (None, Kind::Section(_)) => String::new(),
        (None, _) => ", default: none".to_owned(),
    };
    let (path, kind) = (join(path, &key.name), kind(&key.kind));
    let _infallible = writeln!(text, "- `{path}` ({kind}{default}). {}", key.doc);
}

/// Describes the values that are valid at a key.
fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Section(_) => "section".to_owned(),
        Kind::List { items, .. } => match self::kind(items) {
            item if item.ends_with('s') => format!("list of {item}es"),
            item => format!("list of {item}s"),
        },
        Kind::Choice(choices) => quoted(choices, "or"),
        Kind::Boolean => "boolean".to_owned(),
        Kind::Integer { is_port: true, .. } => "port".to_owned(),
        Kind::Integer { .. } | Kind::Number { .. } => format!("number, {}", kind.expected()),
        Kind::Text { format, range } => match range {
            Some([min, max]) => format!("{}, {min}–{max}", format.name),
            None => format.name.to_owned(),
        },
        Kind::TextOrSection(format, _) => format!("{} or section", format.name),
    }
}

const HEAD: &str = "\
# Configuration

One YAML file per replica: `odradek serve FILE`.
`odradek validate FILE` reports every mistake at once and exits with 78.
Only `kafka.bootstrapServers` is required; [examples/odradek.yaml](../examples/odradek.yaml) shows every key.

In any value, `${VAR}` is an environment variable, `${VAR:-default}` has a default for a variable that is unset or empty, `${VAR:?message}` rejects such a variable, and `$$` is a dollar sign.
Byte sizes are written `8MiB` or `8MB`, durations `250ms`, `2s`, `5m` or `1h`, booleans `true` or `false` (also `on` or `off`).

<!-- Generated from src/config/model.rs; a test compares. UPDATE_DOCS=1 cargo test --lib config:: rewrites it. -->

## Top level

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_contain_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "{path} is out of date; UPDATE_DOCS=1 rewrites it");
    }
}
