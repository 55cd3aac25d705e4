//! The JSON schemas of the file and of the Helm chart's values, for editors and generators. The
//! schemas accept some invalid values, which `odradek validate` finds; what they reject is invalid.

use serde_json::{Map, Value, json};

use super::formats::ValueFormat;
use super::keys::{KEYS, Key, Kind};

/// Returns the schema of the file, as JSON.
pub fn schema() -> String {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Odradek's configuration",
    });
    if let (Some(schema), Value::Object(keys)) = (schema.as_object_mut(), section(&KEYS)) {
        schema.extend(keys);
    }
    // A tree of JSON values is always serializable.
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    format!("{text}\n")
}

/// Returns the schema of the Helm value `config`, which the chart completes with keys of its own.
pub fn helm_schema() -> Value {
    let mut schema = section(&KEYS);
    for path in ["", "/properties/kafka", "/properties/peers"] {
        if let Some(section) = schema.pointer_mut(path).and_then(Value::as_object_mut) {
            section.remove("required");
        }
    }
    schema
}

fn section(keys: &[Key]) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = json!({ "description": key.doc });
        if let (Some(schema), Value::Object(value)) = (schema.as_object_mut(), value(&key.kind)) {
            schema.extend(value);
        }
        properties.insert(key.name.clone(), schema);
    }
    let required: Vec<_> = keys.iter().filter(|key| key.is_required).map(|key| &key.name).collect();
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Section(keys) => {
            let mut schema = section(keys);
            // YAML reads an empty section as null.
            schema["type"] = json!(["object", "null"]);
            schema
        }
        Kind::List { items, is_empty_valid } => {
            let mut schema = json!({ "type": "array", "items": value(items) });
            match is_empty_valid {
                true => schema["type"] = json!(["array", "null"]),
                false => schema["minItems"] = json!(1),
            }
            schema
        }
        Kind::Choice(choices) => or_variable(&json!({ "enum": choices })),
        Kind::Boolean => {
            or_variable(&json!({ "enum": [true, false, "true", "false", "on", "off"] }))
        }
        Kind::Integer { min, max, .. } => {
            or_variable(&json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Kind::Number { min, max } => {
            or_variable(&json!({ "type": "number", "minimum": min, "maximum": max }))
        }
        Kind::Text { format, .. } => text(format),
        Kind::TextOrSection(format, keys) => json!({ "anyOf": [text(format), section(keys)] }),
    }
}

fn text(format: &ValueFormat) -> Value {
    match format.pattern {
        None => json!({ "type": "string" }),
        Some(pattern) if format.is_number_valid => or_variable(&json!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": pattern },
            ]
        })),
        Some(pattern) => or_variable(&json!({ "type": "string", "pattern": pattern })),
    }
}

/// Accepts references to variables too.
fn or_variable(schema: &Value) -> Value {
    json!({ "anyOf": [schema, { "type": "string", "pattern": "\\$" }] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::config::tests::parse_with;

    fn is_valid(text: &str) -> bool {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let file: Value = serde_yaml::from_str(text).unwrap();
        validator.is_valid(&file)
    }

    #[test]
    fn docs_contain_the_schema() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/odradek.schema.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, schema()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == schema(), "{path} is out of date; UPDATE_DOCS=1 rewrites it");
    }

    #[test]
    fn helm_values_contain_the_schema() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/odradek/values.schema.json");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once("\n    \"config\": {").unwrap();
        let (_, after) = rest.split_once("\n    \"sidecar\": {").unwrap();
        let config = serde_json::to_string_pretty(&helm_schema()).unwrap().replace('\n', "\n    ");
        let expected = format!("{before}\n    \"config\": {config},\n    \"sidecar\": {{{after}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(written == expected, "{path} is out of date; UPDATE_DOCS=1 rewrites it");
        let values: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(values["properties"]["config"], helm_schema());
    }

    /// The reader and the schema accept the same files; what the schema rejects the reader rejects.
    #[test]
    fn schema_and_reader_agree() {
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
            assert!(is_valid(&text), "{text}");
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
            assert!(!is_valid(&text), "{text}");
        }
        assert!(!is_valid("zone: a"), "the brokers are required");
    }

    #[test]
    fn examples_are_valid() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let example = std::fs::read_to_string(root.join("examples/odradek.yaml")).unwrap();
        assert!(is_valid(&example));
        let _is_read: Settings = parse_with(&example, &[]).unwrap();
    }
}
