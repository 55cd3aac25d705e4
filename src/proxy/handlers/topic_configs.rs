//! Configs of topics that requests name: Kafka's constants for them, and the flag that makes a topic
//! diskless.

use crate::proxy::topics::includes_compact;

/// The config that makes a topic diskless.
pub(super) const DISKLESS_ENABLE: &str = "diskless.enable";
/// The name of the same config in Inkless.
const INKLESS_ENABLE: &str = "inkless.enable";

/// `ConfigResource.Type` of a topic.
pub(super) const RESOURCE_TOPIC: i8 = 2;
/// `ConfigSource` of a config that is set on the topic itself.
pub(super) const SOURCE_TOPIC: i8 = 1;

/// Returns whether a config is the diskless flag, which the brokers do not know.
pub(super) fn is_diskless_flag(name: &str) -> bool {
    matches!(name, DISKLESS_ENABLE | INKLESS_ENABLE)
}

/// Parses the value of the diskless flag as Kafka parses booleans.
///
/// # Errors
/// Returns a message for the client if the value is neither `true` nor `false`.
pub(super) fn parse_diskless_flag(name: &str, value: Option<&str>) -> Result<bool, String> {
    let value = value.unwrap_or_default().trim();
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("invalid value `{value}` of {name}: expected true or false")),
    }
}

/// Returns whether a config with this value makes a topic compacted.
pub(super) fn is_compaction(name: &str, value: Option<&str>) -> bool {
    name == "cleanup.policy" && value.is_some_and(includes_compact)
}
