//! Reads version, persistence and eviction settings of a Redis, for `odradek doctor`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use redis::{RedisResult, cmd, from_redis_value};
use tokio::time::{Instant, timeout};

use super::client::{DedicatedConnection, RedisClient, redis_error};
use super::codec::PackedReader;
use super::eviction::{EvictionPolicy, eviction_policies};
use super::keys::{HashTag, Keys};
use super::reply::info_text;
use crate::coordinator::{CoordinatorError, Member};

/// The time limit of all commands together.
const TIMEOUT: Duration = Duration::from_secs(5);
const PINGS: u32 = 10;

/// Properties of a Redis; `None` where it does not report one, as a Cluster for some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisDiagnostics {
    /// Its version, such as `8.0.3`.
    pub version: Option<String>,
    /// The eviction policies of all masters.
    pub eviction: Vec<EvictionPolicy>,
    /// True if it writes an append-only file.
    pub append_only: Option<bool>,
    /// True if it is a master.
    pub is_master: Option<bool>,
    /// The number of connected replicas.
    pub replicas: Option<u32>,
    /// The mean latency of a PING.
    pub latency: Duration,
    /// Its clock, in milliseconds since the Unix epoch.
    pub now_ms: Option<i64>,
    /// The members with a valid lease.
    pub members: Vec<Member>,
    /// The names of further ones, and why their records cannot be read.
    pub unreadable_members: BTreeMap<String, String>,
    /// All zones, by index.
    pub zones: Vec<String>,
}

/// Reads the diagnostics of the Redis at a URL in the form of [`RedisSettings::url`]; behind
/// Sentinels, of the master. Changes nothing.
///
/// [`RedisSettings::url`]: super::settings::RedisSettings::url
///
/// # Errors
/// When it does not respond within 5 seconds, rejects the login, or does not run scripts.
pub async fn diagnose(url: &str, cluster: &str) -> Result<RedisDiagnostics, CoordinatorError> {
    let reading = async {
        let keys = Keys::new(cluster);
        let client = RedisClient::new(url, keys.clone(), TIMEOUT, 0)?;
        let connection = client.dedicated(HashTag::Registry, None).await?;
        let eviction = eviction_policies(&client).await?;
        let diagnostics = read_diagnostics(connection, &keys).await?;
        Ok(RedisDiagnostics { eviction, ..diagnostics })
    };
    match timeout(TIMEOUT, reading).await {
        Ok(result) => result.map_err(|error| redis_error(&error)),
        Err(_) => Err(CoordinatorError::Unavailable(format!("no reply within {TIMEOUT:?}"))),
    }
}

async fn read_diagnostics(
    mut redis: DedicatedConnection,
    keys: &Keys,
) -> RedisResult<RedisDiagnostics> {
    redis.query(cmd("EVAL").arg("return 1").arg(0)).await?;
    let info = info_text(redis.query(&cmd("INFO")).await?);
    let start = Instant::now();
    for _ in 0..PINGS {
        redis.query(&cmd("PING")).await?;
    }
    let latency = start.elapsed() / PINGS;
    let (members, zones) = keys.membership();
    let (seconds, micros): (i64, i64) = from_redis_value(redis.query(&cmd("TIME")).await?)?;
    let now_ms = seconds * 1_000 + micros / 1_000;
    let rows: Vec<(String, Vec<u8>)> =
        from_redis_value(redis.query(cmd("HGETALL").arg(members)).await?)?;
    let zones = from_redis_value(redis.query(cmd("LRANGE").arg(zones).arg(0).arg(-1)).await?)?;
    let info = RedisDiagnostics { latency, now_ms: Some(now_ms), zones, ..parse_info(&info) };
    Ok(with_members(info, rows, now_ms))
}

/// Adds the members whose leases have not ended.
fn with_members(
    mut diagnostics: RedisDiagnostics,
    rows: Vec<(String, Vec<u8>)>,
    now_ms: i64,
) -> RedisDiagnostics {
    for (name, row) in rows {
        let Some((lease_end, member)) = row.split_first_chunk() else { continue };
        if i64::from_be_bytes(*lease_end) <= now_ms {
            continue;
        }
        match PackedReader::new("a member", member).member() {
            Ok(member) => diagnostics.members.push(member),
            Err(error) => {
                diagnostics.unreadable_members.insert(name, error.to_string());
            }
        }
    }
    diagnostics
}

/// Parses the reply to INFO.
fn parse_info(info: &str) -> RedisDiagnostics {
    let rows: HashMap<&str, &str> =
        info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let text = |key: &str| rows.get(key).map(|value| (*value).to_owned());
    RedisDiagnostics {
        version: text("valkey_version").or_else(|| text("redis_version")),
        append_only: text("aof_enabled").map(|value| value == "1"),
        is_master: text("role").map(|value| value == "master"),
        replicas: text("connected_slaves").and_then(|value| value.parse().ok()),
        ..RedisDiagnostics::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_parsed_with_fields_missing() {
        let info = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.0.3\r\nrole:slave\r\n\
                    aof_enabled:1\r\nconnected_slaves:2\r\n";
        let expected = RedisDiagnostics {
            version: Some("8.0.3".to_owned()),
            append_only: Some(true),
            is_master: Some(false),
            replicas: Some(2),
            ..RedisDiagnostics::default()
        };
        assert_eq!(parse_info(info), expected);
        assert_eq!(parse_info(""), RedisDiagnostics::default());
    }

    #[test]
    fn member_of_another_version_is_named() {
        let row = |lease_end: i64, version: u8| {
            let member = [[version].as_slice(), &[0; 12], &[0; 40]].concat();
            [lease_end.to_be_bytes().as_slice(), &member].concat()
        };
        let rows = [("ended", row(5, 9)), ("newer", row(15, 9)), ("readable", row(15, 1))];
        let rows = rows.map(|(name, row)| (name.to_owned(), row)).to_vec();
        let found = with_members(RedisDiagnostics::default(), rows, 10);
        let names: Vec<&str> = found.unreadable_members.keys().map(String::as_str).collect();
        assert_eq!((names, found.members.len()), (vec!["newer"], 1));
        assert!(found.unreadable_members["newer"].contains("format version 9"));
    }
}
