//! Events of the audit log, and their form as lines of JSON. `docs/audit.md` documents every field.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::repeats::RepeatKey;
use crate::proxy::error_code::ErrorCode;

/// The version of the form. It rises when a field changes its meaning or disappears.
const VERSION: u32 = 1;
/// The longest name that is written, in bytes: one more than that of a topic may have.
const NAME_BYTES_MAX: usize = 250;
/// The principal of a client that has not authenticated.
const ANONYMOUS: &str = "ANONYMOUS";

/// The client that acts, and its address.
#[derive(Clone, Debug)]
pub struct AuditSubject {
    /// The name with which the client authenticated at its broker, once that has accepted it.
    pub principal: Option<Arc<str>>,
    /// The address of the client: behind a load balancer, the one that it announces.
    pub address: IpAddr,
    /// The client id of the request, if it has one.
    pub client_id: Option<Arc<str>>,
}

impl AuditSubject {
    /// Returns a client that has not sent anything.
    pub fn of_address(address: IpAddr) -> Self {
        Self { principal: None, address: address.to_canonical(), client_id: None }
    }
}

/// The outcome of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Success,
    /// The client may not do it.
    Denied(ErrorCode),
    /// It failed for another reason.
    Failed(ErrorCode),
}

impl AuditOutcome {
    /// Returns the outcome that an error code in a response states.
    pub fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NONE => Self::Success,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::SASL_AUTHENTICATION_FAILED => Self::Denied(code),
            _ => Self::Failed(code),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied(_) => "denied",
            Self::Failed(_) => "failed",
        }
    }

    fn code(self) -> Option<i16> {
        match self {
            Self::Success => None,
            Self::Denied(code) | Self::Failed(code) => Some(code.0),
        }
    }
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub enum AuditEvent<'a> {
    /// A client may not perform an operation on a diskless topic.
    Access {
        /// The name of the API.
        api: &'a str,
        /// The name of the operation, as of Kafka's ACLs.
        operation: &'a str,
        /// The topic.
        topic: &'a str,
    },
    /// A broker rejected a login.
    Login {
        /// The name that the client gave.
        name: Option<&'a str>,
        /// The broker's error code.
        code: ErrorCode,
    },
    /// A connection was closed before anything was read from it.
    Connection {
        /// The reason.
        reason: &'a str,
    },
    /// A topic was created.
    CreateTopic {
        /// The topic.
        topic: &'a str,
        /// `diskless` or `classic`.
        topic_type: &'a str,
        /// The outcome.
        outcome: AuditOutcome,
    },
    /// A topic was deleted.
    DeleteTopic {
        /// The topic, if the client named it.
        topic: Option<&'a str>,
        /// The topic id.
        topic_id: Option<&'a str>,
        /// The outcome.
        outcome: AuditOutcome,
    },
    /// Records of a diskless topic were deleted.
    DeleteRecords {
        /// The topic.
        topic: &'a str,
        /// The number of partitions.
        partitions: usize,
        /// The outcome: of several partitions, the first that is no success.
        outcome: AuditOutcome,
    },
    /// A classic topic was made diskless.
    ChangeTopicType {
        /// The topic.
        topic: &'a str,
        /// The outcome.
        outcome: AuditOutcome,
    },
}

impl AuditEvent<'_> {
    /// Returns the key of events that count as repetitions of this one; `None` if each is written.
    pub(super) fn repeats_as(&self, subject: &AuditSubject) -> Option<RepeatKey> {
        let (what, topic) = match *self {
            Self::Access { operation, topic, .. } => (operation, topic),
            Self::Login { name, .. } => ("login", name.unwrap_or_default()),
            Self::Connection { reason } => ("connection", reason),
            Self::CreateTopic { topic, outcome, .. }
            | Self::DeleteRecords { topic, outcome, .. }
            | Self::ChangeTopicType { topic, outcome }
                if outcome != AuditOutcome::Success =>
            {
                (self.name(), topic)
            }
            Self::DeleteTopic { topic, topic_id, outcome } if outcome != AuditOutcome::Success => {
                (self.name(), topic.or(topic_id).unwrap_or_default())
            }
            _ => return None,
        };
        let principal = subject.principal.as_deref().unwrap_or(ANONYMOUS);
        Some(RepeatKey::of(subject.address, &[principal, what, topic]))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Access { .. } => "access",
            Self::Login { .. } => "login",
            Self::Connection { .. } => "connection",
            Self::CreateTopic { .. } => "create_topic",
            Self::DeleteTopic { .. } => "delete_topic",
            Self::DeleteRecords { .. } => "delete_records",
            Self::ChangeTopicType { .. } => "change_topic_type",
        }
    }

    fn outcome(&self) -> AuditOutcome {
        match *self {
            Self::Access { .. } => AuditOutcome::Denied(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            Self::Login { code, .. } => AuditOutcome::Denied(code),
            Self::Connection { .. } => AuditOutcome::Denied(ErrorCode::NONE),
            Self::CreateTopic { outcome, .. }
            | Self::DeleteTopic { outcome, .. }
            | Self::DeleteRecords { outcome, .. }
            | Self::ChangeTopicType { outcome, .. } => outcome,
        }
    }
}

/// A line of the log.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    version: u32,
    time: String,
    replica: &'a str,
    zone: &'a str,
    event: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<i16>,
    principal: &'a str,
    client_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// The number of events like this one since the last that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<u64>,
}

/// Returns the line of an event, with its end. Control characters in names are escaped by JSON.
pub(super) fn line(
    subject: &AuditSubject,
    event: &AuditEvent<'_>,
    (replica, zone): (&str, &str),
    now_ms: i64,
    repeated: u64,
) -> String {
    let mut line = Line {
        version: VERSION,
        time: rfc3339(now_ms),
        replica,
        zone,
        event: event.name(),
        outcome: event.outcome().name(),
        error_code: event.outcome().code().filter(|code| *code != ErrorCode::NONE.0),
        principal: subject.principal.as_deref().unwrap_or(ANONYMOUS),
        client_address: subject.address.to_string(),
        client_id: subject.client_id.as_deref().map(cut),
        repeated: Some(repeated).filter(|count| *count > 0),
        ..Line::default()
    };
    match *event {
        AuditEvent::Access { api, operation, topic } => {
            (line.api, line.operation, line.topic) = (Some(api), Some(operation), Some(cut(topic)));
        }
        AuditEvent::Login { name, .. } => line.principal = name.unwrap_or(ANONYMOUS),
        AuditEvent::Connection { reason } => line.reason = Some(reason),
        AuditEvent::CreateTopic { topic, topic_type, .. } => {
            (line.topic, line.topic_type) = (Some(cut(topic)), Some(topic_type));
        }
        AuditEvent::DeleteTopic { topic, topic_id, .. } => {
            (line.topic, line.topic_id) = (topic.map(cut), topic_id);
        }
        AuditEvent::DeleteRecords { topic, partitions, .. } => {
            (line.topic, line.partitions) = (Some(cut(topic)), Some(partitions));
        }
        AuditEvent::ChangeTopicType { topic, .. } => {
            (line.topic, line.topic_type) = (Some(cut(topic)), Some("diskless"));
        }
    }
    // Strings and numbers only, which always have a form in JSON.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text = escape_invisible(&text);
    text.push('\n');
    text
}

/// Escapes the characters that JSON leaves as they are, although terminals act on them: control
/// characters beyond ASCII, and those that change the direction of text. All are in strings.
fn escape_invisible(json: &str) -> String {
    let is_invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let escape = |c: char| match is_invisible(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    json.chars().map(escape).collect()
}

/// Returns the beginning of a name that a client chose.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

fn rfc3339(now_ms: i64) -> String {
    let nanoseconds = i128::from(now_ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn names_of_clients_are_cut_and_escaped() {
        let client_id = Some("x".repeat(32 << 10).into());
        let subject =
            AuditSubject { client_id, ..AuditSubject::of_address(Ipv4Addr::LOCALHOST.into()) };
        let topic = format!("a\u{1b}\u{85}\u{202e}{}", "é".repeat(1_000));
        let outcome = AuditOutcome::Denied(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        let event = AuditEvent::DeleteTopic { topic: Some(&topic), topic_id: None, outcome };
        let line = line(&subject, &event, ("r", "z"), 0, 0);
        assert!(line.len() < 1_000, "{} bytes", line.len());
        assert!(line.contains(r"a\u001b\u0085\u202eé"), "{line}");
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(topic.starts_with(parsed["topic"].as_str().unwrap()));
        assert_eq!(parsed["time"], "1970-01-01T00:00:00Z");
    }
}
