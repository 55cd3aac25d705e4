//! The keys of the file, read from the [model](super::model) by reflection.

use std::fmt::Write as _;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::formats::ValueFormat;
use super::model::Settings;

/// A key, or an element of a list.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    /// Description of the key.
    pub(super) doc: String,
    /// The default as Markdown; `None` if there is none.
    pub(super) default: Option<String>,
    pub(super) is_required: bool,
    pub(super) kind: Kind,
}

/// The values that are valid at a key.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Section(Vec<Key>),
    List {
        items: Box<Self>,
        is_empty_valid: bool,
    },
    Choice(Vec<String>),
    Boolean,
    Integer {
        min: u64,
        max: u64,
        is_port: bool,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// A text, with the least and the greatest value where there is a range.
    Text {
        format: &'static ValueFormat,
        range: Option<[String; 2]>,
    },
    /// A text, or a section instead of it.
    TextOrSection(&'static ValueFormat, Vec<Key>),
}

/// The keys at the top of the file.
pub(super) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    sections(settings.into_generator().into_root_schema_for::<Settings>().as_value())
});

fn sections(schema: &Value) -> Vec<Key> {
    let properties = schema["properties"].as_object();
    properties.into_iter().flatten().map(|(name, schema)| key(name, schema)).collect()
}

fn key(name: &str, schema: &Value) -> Key {
    let default = schema["x-default"].as_str().map(str::to_owned);
    let written = match &schema["default"] {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(format!("`{text}`")),
        other => Some(format!("`{other}`")),
    };
    let doc = schema["description"].as_str().unwrap_or_default();
    Key {
        name: name.to_owned(),
        doc: doc.split_whitespace().collect::<Vec<_>>().join(" "),
        default: default.or(written),
        is_required: schema["x-required"] == true,
        kind: kind(schema),
    }
}

fn kind(schema: &Value) -> Kind {
    let format = schema["format"].as_str().unwrap_or_default();
    if let Some(format) = ValueFormat::named(format) {
        let bound = |name: &str| schema[name].as_str().map(str::to_owned);
        let range = bound("x-minimum").zip(bound("x-maximum")).map(|(min, max)| [min, max]);
        return Kind::Text { format, range };
    }
    let choices = choices(schema);
    if !choices.is_empty() {
        return Kind::Choice(choices);
    }
    if let Some([text, section]) = schema["anyOf"].as_array().map(Vec::as_slice) {
        let Kind::Text { format, .. } = kind(text) else { unreachable!("{text}") };
        return Kind::TextOrSection(format, sections(section));
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind.unwrap_or_default() {
        "object" => Kind::Section(sections(schema)),
        "array" => Kind::List {
            items: Box::new(self::kind(&schema["items"])),
            is_empty_valid: schema["minItems"].as_u64().unwrap_or(0) == 0,
        },
        "boolean" => Kind::Boolean,
        "integer" => Kind::Integer {
            min: schema["minimum"].as_u64().unwrap_or(0),
            max: schema["maximum"].as_u64().unwrap_or(u64::MAX),
            is_port: format == "port",
        },
        "number" => Kind::Number {
            min: schema["minimum"].as_f64().unwrap_or(f64::MIN),
            max: schema["maximum"].as_f64().unwrap_or(f64::MAX),
        },
        other => unreachable!("`{other}` in {schema}"),
    }
}

/// The texts of an enumeration, whose variants schemars lists as `enum` or as `const`s.
fn choices(schema: &Value) -> Vec<String> {
    let lists = ["enum", "oneOf", "anyOf"].map(|name| schema[name].as_array());
    let values = lists.into_iter().flatten().flatten().flat_map(|value| match value {
        Value::String(text) => vec![text.clone()],
        Value::Object(_) => match &value["const"] {
            Value::String(text) => vec![text.clone()],
            _ => choices(value),
        },
        _ => Vec::new(),
    });
    values.collect()
}

impl Key {
    /// Returns the keys of the section at this key, if there can be one.
    pub(super) fn section(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::Section(keys) | Kind::TextOrSection(_, keys) => Some(keys),
            _ => None,
        }
    }
}

impl Kind {
    /// Returns what a message says is expected.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Section(keys) => {
                format!("a section with {}", quoted(keys.iter().map(|key| &key.name), "and"))
            }
            Self::List { items, .. } => match &**items {
                Self::Section(_) => "a list of sections".to_owned(),
                items => format!("a list of {}", items.expected()),
            },
            Self::Choice(choices) => quoted(choices, "or"),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Integer { min, max, .. } => format!("{min}–{max}"),
            Self::Number { min, max } => format!("{min}–{max}"),
            Self::Text { range: Some([min, max]), .. } => format!("{min}–{max}"),
            Self::Text { format, .. } | Self::TextOrSection(format, _) => {
                format.expected.to_owned()
            }
        }
    }

    /// Returns what a message calls an invalid value.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer { is_port: true, .. } => "port",
            Self::Integer { .. } | Self::Number { .. } => "number",
            Self::Text { format, .. } | Self::TextOrSection(format, _) => format.name,
            Self::Section(_) | Self::List { .. } | Self::Choice(_) => "value",
        }
    }
}

/// Joins names as in "`a`, `b` and `c`".
pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a String>, and: &str) -> String {
    let mut text = String::new();
    let mut names = names.into_iter().peekable();
    while let Some(name) = names.next() {
        let separator = match (text.is_empty(), names.peek()) {
            (true, _) => String::new(),
            (false, Some(_)) => ", ".to_owned(),
            (false, None) => format!(" {and} "),
        };
        let _infallible = write!(text, "{separator}`{name}`");
    }
    text
}

/// Returns the path of the section that has a key of this name.
pub(super) fn section_of(name: &str) -> Option<&'static str> {
    let has =
        |key: &&Key| key.section().is_some_and(|keys| keys.iter().any(|key| key.name == name));
    KEYS.iter().find(has).map(|key| key.name.as_str())
}
