//! The formats of texts in the file: how a text is parsed, and what a message says is expected.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::Value;

use super::coordinator::EMBEDDED;
use super::secret::SecretFile;
use super::units::{ByteSize, HostPort, Interval, is_host};
use crate::logging::parse_filter;
use crate::store::open::StoreUrl;
use crate::topic_rules::TopicPattern;

/// A format of a text.
#[derive(Debug)]
pub(super) struct ValueFormat {
    /// The name, as `format` in the model and in messages.
    pub(super) name: &'static str,
    /// Expected value in messages, unless the key has a range.
    pub(super) expected: &'static str,
    /// An approximation of the format in the JSON schemas.
    pub(super) pattern: Option<&'static str>,
    /// True if a number without quotes is valid too.
    pub(super) is_number_valid: bool,
    /// Converts a text to the value that serde reads.
    ///
    /// # Errors
    /// What is wrong with the text; empty if `expected` says enough.
    pub(super) parse: fn(&str) -> Result<Value, String>,
}

impl ValueFormat {
    /// Returns the format of a name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    const fn new(
        name: &'static str,
        expected: &'static str,
        parse: fn(&str) -> Result<Value, String>,
    ) -> Self {
        Self { name, expected, pattern: None, is_number_valid: false, parse }
    }
}

/// All formats.
pub(super) const FORMATS: &[ValueFormat] = &[
    ValueFormat {
        pattern: Some("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"),
        ..ValueFormat::new(
            "name",
            "1–128 characters of A–Z, a–z, 0–9, `.`, `_` and `-`, without `..` or a leading `.`",
            |text| if_valid(text, is_name(text)),
        )
    },
    ValueFormat {
        is_number_valid: true,
        pattern: Some("^[0-9]+ *(B|KiB|MiB|GiB|KB|MB|GB)?$"),
        ..ValueFormat::new("byte size", "such as `8MiB`", |text| {
            Ok(Value::from(parsed::<ByteSize>(text)?.bytes()))
        })
    },
    ValueFormat {
        pattern: Some("^[0-9]+ *(ms|s|m|h)$"),
        ..ValueFormat::new("duration", "such as `250ms`", |text| {
            Ok(Value::from(parsed::<Interval>(text)?.millis()))
        })
    },
    ValueFormat::new("text", "at least one character", |text| {
        if_valid(text, !text.is_empty() && !text.contains('\0'))
    }),
    ValueFormat::new("broker address", "`host:port`, such as `kafka-1:9092`", |text| {
        if_valid(text, HostPort::parse(text).is_some())
    }),
    ValueFormat::new("IP address", "`0.0.0.0` or the address of one interface", |text| {
        parsed::<IpAddr>(text).map(|_| Value::from(text))
    }),
    ValueFormat::new("socket address", "`address:port`, such as `127.0.0.1:8180`", |text| {
        parsed::<SocketAddr>(text).map(|_| Value::from(text))
    }),
    ValueFormat::new("host", "a host name or an IP address, without a port", |text| {
        if_valid(text, is_host(text))
    }),
    ValueFormat::new("network", "CIDR notation, such as `10.2.0.0/16` or `fd00:2::/32`", network),
    ValueFormat::new("topic pattern", "a topic name or a pattern, such as `logs.*`", |text| {
        text.parse::<TopicPattern>().map(|_| Value::from(text))
    }),
    ValueFormat::new("store URL", "`s3://bucket/prefix`, `file:///path` or `memory:`", |text| {
        text.parse::<StoreUrl>().map(|_| Value::from(text)).map_err(|error| error.to_string())
    }),
    ValueFormat::new("endpoint", "`http://host:port` or `https://host`, without a path", |text| {
        endpoint(text, &["http://", "https://"])
    }),
    ValueFormat::new(
        "collector URL",
        "`http://host:port`, such as `http://collector:4318`",
        |text| endpoint(text, &["http://"]),
    ),
    ValueFormat::new("secret file", "the path of a file", |text| {
        text.parse::<SecretFile>().map(|_| Value::from(text))
    }),
    ValueFormat::new(
        "log filter",
        "`info`, `debug`, or levels such as `info,odradek::proxy=debug`",
        |text| parse_filter(text).map(|_| Value::from(text)),
    ),
    ValueFormat::new(
        "coordinator URL",
        "`redis://host:6379/0` (or `rediss://`, `redis-sentinel://`, `redis-cluster://`), or `embedded`",
        |text| if_valid(text, is_coordinator(text)),
    ),
];

fn if_valid(text: &str, is_valid: bool) -> Result<Value, String> {
    if is_valid { Ok(Value::from(text)) } else { Err(String::new()) }
}

fn parsed<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_not_one| String::new())
}

/// Returns whether a text can name a cluster, a zone or a replica. Names become parts of paths and
/// keys, so they must not be hidden files and must not lead to a parent folder.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('.')
        && !text.contains("..")
}

fn network(text: &str) -> Result<Value, String> {
    let network: IpNet = parsed(text)?;
    match network == network.trunc() {
        true => Ok(Value::from(text)),
        false => Err(format!("host bits are set; expected `{}`", network.trunc())),
    }
}

fn endpoint(text: &str, schemes: &[&str]) -> Result<Value, String> {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let host = rest.unwrap_or_default().trim_end_matches('/');
    if_valid(text.trim_end_matches('/'), is_host(host) || HostPort::parse(host).is_some())
}

fn is_coordinator(text: &str) -> bool {
    if text == EMBEDDED {
        return true;
    }
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    let end = address.find(['/', '?']).unwrap_or(address.len());
    let is_server = |host: &str| is_host(host) || HostPort::parse(host).is_some();
    matches!(scheme, "redis" | "rediss" | "redis-sentinel" | "redis-cluster")
        && address[..end].split(',').all(is_server)
}
