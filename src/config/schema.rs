//! The JSON Schema of the file, for editors and for who writes files by program. What the schema
//! takes may still be wrong (`odradek validate` knows more); what it refuses is.

use serde_json::{Map, Value, json};

use super::keys::KEYS;

/// What may stand at a key.
#[derive(Clone, Copy)]
enum Kind {
    Section,
    /// A list of sections.
    Sections,
    /// A list of texts.
    Texts,
    Text,
    /// A name of a cluster, a zone or a replica.
    Name,
    Switch,
    OnOff,
    /// A whole number between these.
    Whole(u64, u64),
    /// A number between these.
    Number(f64, f64),
    Size,
    Duration,
    OneOf(&'static [&'static str]),
    /// A text, or a section in its place.
    TextOrSection,
}

/// What may stand at each key, and whether its section must have it.
const KINDS: &[(&str, Kind, bool)] = &[
    ("cluster", Kind::Name, false),
    ("zone", Kind::Name, false),
    ("replica", Kind::Name, false),
    ("writer", Kind::OnOff, false),
    ("kafka", Kind::Section, true),
    ("kafka.bootstrapServers", Kind::Texts, true),
    ("kafka.sasl", Kind::Section, false),
    ("kafka.sasl.mechanism", Kind::OneOf(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), true),
    ("kafka.sasl.username", Kind::Text, true),
    ("kafka.sasl.passwordFile", Kind::Text, true),
    ("listeners", Kind::Section, false),
    ("listeners.bind", Kind::Text, false),
    ("listeners.advertisedHost", Kind::Text, false),
    ("listeners.bootstrapPort", Kind::Whole(1, 65_535), false),
    ("listeners.brokerPorts", Kind::Whole(1, 65_535), false),
    ("listeners.nodePorts", Kind::Whole(1, 65_535), false),
    ("clients", Kind::Section, false),
    ("clients.zones", Kind::Sections, false),
    ("clients.zones[].zone", Kind::Name, true),
    ("clients.zones[].port", Kind::Whole(1, 65_535), false),
    ("clients.zones[].cidrs", Kind::Texts, false),
    ("clients.telemetry", Kind::Duration, false),
    ("diskless", Kind::Section, false),
    ("diskless.topics", Kind::Sections, false),
    ("diskless.topics[].match", Kind::Text, true),
    ("diskless.topics[].profile", Kind::OneOf(&["fast", "cheap"]), false),
    ("diskless.topics[].exclude", Kind::Switch, false),
    ("diskless.nodesPerZone", Kind::Whole(1, 64), false),
    ("store", Kind::Text, false),
    ("s3", Kind::Section, false),
    ("s3.endpoint", Kind::Text, false),
    ("s3.region", Kind::Text, false),
    ("s3.pathStyle", Kind::Switch, false),
    ("s3.accessKeyId", Kind::Text, false),
    ("s3.secretAccessKeyFile", Kind::Text, false),
    ("coordinator", Kind::TextOrSection, false),
    ("coordinator.url", Kind::Text, true),
    ("coordinator.replicas", Kind::Whole(0, 5), false),
    ("flush", Kind::Section, false),
    ("flush.interval", Kind::Duration, false),
    ("flush.size", Kind::Size, false),
    ("flush.profile", Kind::OneOf(&["fast", "cheap"]), false),
    ("flush.maxPutsPerSecond", Kind::Number(0.1, 10_000.0), false),
    ("memory", Kind::Section, false),
    ("memory.requests", Kind::Size, false),
    ("memory.connection", Kind::Size, false),
    ("memory.responses", Kind::Size, false),
    ("memory.cache", Kind::Size, false),
    ("peers", Kind::Section, false),
    ("peers.bind", Kind::Text, false),
    ("peers.advertisedHost", Kind::Text, false),
    ("admin", Kind::Section, false),
    ("admin.bind", Kind::Text, false),
    ("log", Kind::Section, false),
    ("log.format", Kind::OneOf(&["text", "json"]), false),
    ("log.level", Kind::Text, false),
    ("log.traces", Kind::Text, false),
    ("metrics", Kind::Section, false),
    ("metrics.perTopic", Kind::OnOff, false),
    ("costs", Kind::Section, false),
    ("costs.crossZonePerGiB", Kind::Number(0.0, 1e6), false),
    ("costs.putsPer1000", Kind::Number(0.0, 1e6), false),
    ("costs.getsPer1000", Kind::Number(0.0, 1e6), false),
    ("costs.storagePerGiBMonth", Kind::Number(0.0, 1e6), false),
    ("costs.replicationFactor", Kind::Whole(1, 9), false),
    ("costs.replicationIsCharged", Kind::Switch, false),
    ("costs.fetchFromFollower", Kind::Switch, false),
    ("costs.zones", Kind::Whole(1, 64), false),
];

/// The schema, as JSON.
pub fn schema() -> String {
    let mut schema = section("");
    let head = [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("title", "Odradek's configuration"),
    ];
    for (key, value) in head {
        schema.insert(key.to_owned(), json!(value));
    }
    // A tree of JSON values is always printed.
    let text = serde_json::to_string_pretty(&Value::Object(schema)).unwrap_or_default();
    format!("{text}\n")
}

/// The keys right below a path.
fn section(path: &str) -> Map<String, Value> {
    let base = if path.is_empty() { String::new() } else { format!("{path}.") };
    let below = KINDS.iter().filter_map(|(key, kind, required)| {
        let name = key.strip_prefix(base.as_str())?;
        (!name.contains('.')).then_some((*key, name, *kind, *required))
    });
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (key, name, kind, is_required) in below {
        if is_required {
            required.push(name);
        }
        let mut value = value(key, kind);
        let doc = KEYS.iter().find(|known| known.path == key).map_or("", |known| known.doc);
        value.insert("description".to_owned(), json!(doc));
        properties.insert(name.to_owned(), Value::Object(value));
    }
    let object = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    });
    as_map(object)
}

fn value(key: &str, kind: Kind) -> Map<String, Value> {
    let scalar = |schema: Value| json!({ "anyOf": [schema, variable()] });
    let schema = match kind {
        // A section may be empty, which YAML reads as nothing.
        Kind::Section => json!({ "anyOf": [section(key), { "type": "null" }] }),
        Kind::Sections => {
            json!({ "type": ["array", "null"], "items": section(&format!("{key}[]")) })
        }
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Name => {
            scalar(json!({ "type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$" }))
        }
        Kind::Switch => scalar(json!({ "enum": [true, false, "true", "false"] })),
        Kind::OnOff => scalar(json!({ "enum": ["on", "off", true, false, "true", "false"] })),
        Kind::Whole(least, most) => {
            scalar(json!({ "type": "integer", "minimum": least, "maximum": most }))
        }
        Kind::Number(least, most) => {
            scalar(json!({ "type": "number", "minimum": least, "maximum": most }))
        }
        Kind::Size => scalar(json!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|KB|MB|GB)?$" },
            ]
        })),
        Kind::Duration => scalar(json!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h)$" })),
        Kind::OneOf(words) => scalar(json!({ "enum": words })),
        Kind::TextOrSection => json!({ "anyOf": [{ "type": "string" }, section(key)] }),
    };
    as_map(schema)
}

/// A value that is put in from the environment may be anything.
fn variable() -> Value {
    json!({ "type": "string", "pattern": "\\$" })
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::config::tests::parse_with;

    fn takes(text: &str) -> bool {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let file: Value = serde_yaml::from_str(text).unwrap();
        validator.is_valid(&file)
    }

    #[test]
    fn the_schema_is_the_one_that_is_kept() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/odradek.schema.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, schema()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == schema(), "{path} is out of date; UPDATE_DOCS=1 rewrites it");
    }

    #[test]
    fn the_schema_has_the_keys_that_the_reader_knows_and_no_others() {
        let known: Vec<_> = KEYS.iter().map(|key| key.path).collect();
        for (path, _, required) in KINDS {
            let key = KEYS.iter().find(|key| key.path == *path);
            let key = key.unwrap_or_else(|| panic!("the reader does not know {path}"));
            let says_so = key.default.starts_with("**required**") || *path == "coordinator.url";
            assert_eq!(*required && *path != "kafka", says_so, "{path}");
        }
        for path in known {
            assert!(KINDS.iter().any(|(kind, ..)| *kind == path), "{path} is not in the schema");
        }
    }

    /// What the one takes the other takes; what the schema refuses the reader refuses too.
    #[test]
    fn the_schema_and_the_reader_agree() {
        let kafka = "kafka: {bootstrapServers: [k:9092]}\n";
        let right = [
            "",
            "zone: ${ZONE}",
            "writer: off\ncoordinator: redis://r:6379/0",
            "flush: {interval: 5ms, size: 1MiB, maxPutsPerSecond: 2.5}",
            "coordinator: {url: \"redis://r:6379/0\", replicas: 2}",
            "diskless:\n  topics:\n    - match: a*\n      profile: cheap\n    - {match: b, exclude: true}",
            "clients: {zones: [{zone: b, port: 9093, cidrs: [10.0.0.0/8]}]}",
            "memory: {cache: 268435456}\nlog:\nmetrics: {perTopic: on}",
        ];
        for text in right.map(|text| format!("{kafka}{text}")) {
            assert!(parse_with(&text, &[("ZONE", "a")]).is_ok(), "{text}");
            assert!(takes(&text), "{text}");
        }
        let wrong = [
            "zonne: a",
            "zone: two words",
            "flush: {interval: 250}",
            "flush: {linger: 5ms}",
            "listeners: {brokerPorts: 70000}",
            "diskless: {nodesPerZone: 65}",
            "diskless: {topics: [{profile: cheap}]}",
            "flush: {profile: quick}",
            "costs: {zones: 0}",
            "memory: {cache: much}",
            "writer: maybe",
            "kafka: {bootstrapServers: k}",
        ];
        for text in wrong {
            let text =
                if text.starts_with("kafka") { text.to_owned() } else { format!("{kafka}{text}") };
            assert!(parse_with(&text, &[]).is_err(), "{text}");
            assert!(!takes(&text), "{text}");
        }
        assert!(!takes("zone: a"), "the brokers are required");
    }

    #[test]
    fn every_example_is_right() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let example = std::fs::read_to_string(root.join("examples/odradek.yaml")).unwrap();
        assert!(takes(&example));
        let _is_read: Settings = parse_with(&example, &[]).unwrap();
    }
}
