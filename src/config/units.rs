//! Sizes, durations and addresses as people write them.

use std::fmt;
use std::time::Duration;

const SIZE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Reads a size in bytes: `8MiB`, `500 KB`, or a bare number of bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    if let Ok(bytes) = text.parse() {
        return Some(bytes);
    }
    with_unit(text, &SIZE_UNITS)
}

/// Reads a duration: `250ms`, `2s`, `5m`, `1h`. A bare number has no unit and is none.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    with_unit(text, &DURATION_UNITS).map(Duration::from_millis)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (text[..digits].parse::<u64>().ok()?, text[digits..].trim_start());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// A size as people read it.
pub(super) fn show_size(bytes: u64) -> String {
    let unit = SIZE_UNITS[..3].iter().rev().find(|(_, factor)| bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) if bytes > 0 => format!("{}{name}", bytes / factor),
        _ => format!("{bytes}B"),
    }
}

/// A host and a port to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Reads `host:port` or `[ipv6]:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => {
                address.parse::<std::net::Ipv6Addr>().ok()?;
                address
            }
            None => host,
        };
        is_host(host).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Whether a text is a host's name or an IP address, without brackets or port.
pub(super) fn is_host(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let rows = [
            ("8MiB", Some(8 << 20)),
            ("8 MiB", Some(8 << 20)),
            ("500KB", Some(500_000)),
            ("17", Some(17)),
            ("17B", Some(17)),
            ("8mib", None),
            ("8M", None),
            ("-1", None),
            ("1.5MiB", None),
            ("MiB", None),
            ("", None),
            ("99999999999GiB", None),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
        assert_eq!(show_size(8 << 20), "8MiB");
        assert_eq!(show_size(1025), "1025B");
        assert_eq!(show_size(0), "0B");
    }

    #[test]
    fn durations() {
        let rows = [
            ("250ms", Some(250)),
            ("2s", Some(2_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("250", None),
            ("1d", None),
            ("0.5s", None),
            ("-1s", None),
        ];
        for (text, millis) in rows {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        for text in ["kafka-1:9092", "10.0.0.1:1", "[::1]:9092", "a.b.example.:65535"] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "kafka",
            "kafka:",
            ":9092",
            "kafka:0",
            "kafka:65536",
            "a b:1",
            "http://a:1",
            "::1:9092",
            "[kafka]:1",
            "-a:1",
            "a..b:1",
        ] {
            let parsed = HostPort::parse(text);
            // `::1:9092` is an address of its own, so it is no host with a port either way.
            assert!(parsed.is_none() || text == "::1:9092", "{text} {parsed:?}");
        }
    }
}
