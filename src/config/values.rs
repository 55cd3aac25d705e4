//! Single values of the file. What is wrong is said so that it reads on after the value itself.

use super::problems::nearest;
use super::topics::Profile;
use super::units::{HostPort, is_host};
use super::{CoordinatorSettings, RedisUrl, SaslMechanism, Surroundings};

/// Whether a text may name a cluster, a zone, a replica or a region.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    // It becomes part of a path and of keys: neither hidden, nor a step up.
    (1..=128).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('.')
        && !text.contains("..")
}

pub(super) fn default_replica(around: &Surroundings<'_>) -> String {
    let hostname = (around.env)("HOSTNAME").or_else(|| around.hostname.clone());
    let hostname = hostname.map(|name| name.trim().to_owned()).filter(|name| is_name(name));
    hostname.unwrap_or_else(|| "odradek-0".to_owned())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "is no port; write a number from 1 to 65535".to_owned())
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_not_one| "is no switch; write `true` or `false`".to_owned())
}

/// What YAML 1.1 makes of `on` and `off` on its way through a template counts as well.
pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("is neither; write `on` or `off`".to_owned()),
    }
}

pub(super) fn profile(text: &str) -> Result<Profile, String> {
    let names = Profile::NAMES;
    if let Some((_, profile)) = names.iter().find(|(name, _)| *name == text) {
        return Ok(*profile);
    }
    Err(match nearest(text, names.map(|(name, _)| name)) {
        Some(meant) => format!("is no profile; did you mean `{meant}`?"),
        None => "is no profile; write `fast` or `cheap`".to_owned(),
    })
}

pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let remedy = "is no endpoint; write `http://host:port` or `https://host`, without a path";
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| remedy.to_owned())?.trim_end_matches('/');
    match is_host(rest) || HostPort::parse(rest).is_some() {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(remedy.to_owned()),
    }
}

pub(super) fn secret_in(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot be read: {error}; name a file that this user may read"))?;
    let secret = text.trim();
    if secret.is_empty() || secret.contains(char::is_whitespace) {
        return Err("holds no secret; it is to hold one line with nothing else".to_owned());
    }
    Ok(secret.to_owned())
}

pub(super) fn sasl_mechanism(text: &str) -> Result<SaslMechanism, String> {
    let found = SaslMechanism::NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, mechanism)| *mechanism).ok_or_else(|| {
        "is no SASL mechanism known here; write `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`"
            .to_owned()
    })
}

/// A password may hold anything, but for the line's end that editors put behind it.
pub(super) fn password_in(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot be read: {error}; name a file that this user may read"))?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() || password.contains(['\n', '\r', '\0']) {
        return Err("holds no password; it is to hold one line with nothing else".to_owned());
    }
    Ok(password.to_owned())
}

pub(super) fn coordinator(text: &str) -> Result<CoordinatorSettings, String> {
    if text == "embedded" {
        return Ok(CoordinatorSettings::Embedded);
    }
    let remedy = "is no coordinator; write `redis://host:6379/0` (or rediss://, redis-sentinel://, \
                  redis-cluster://), or `embedded`";
    let (scheme, rest) = text.split_once("://").ok_or_else(|| remedy.to_owned())?;
    if !matches!(scheme, "redis" | "rediss" | "redis-sentinel" | "redis-cluster") {
        return Err(remedy.to_owned());
    }
    let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    let end = address.find(['/', '?']).unwrap_or(address.len());
    let hosts = address[..end].split(',');
    for host in hosts {
        if !(is_host(host) || HostPort::parse(host).is_some()) {
            return Err("names no host that can be; write `redis://host:6379/0`".to_owned());
        }
    }
    Ok(CoordinatorSettings::Redis { url: RedisUrl(text.to_owned()), replicas: 0 })
}
