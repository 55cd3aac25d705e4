//! What a Redis is and what it promises, for who looks after it.

use std::collections::HashMap;
use std::time::Duration;

use redis::{RedisResult, Value, cmd, from_redis_value};
use tokio::time::{Instant, timeout};

use super::codec::Packed;
use super::connection::{Dedicated, Link, redis_error};
use super::keys::Keys;
use crate::coordinator::{CoordinatorError, Member};

/// How long all questions together may take.
const WITHIN: Duration = Duration::from_secs(5);
const PINGS: u32 = 10;

/// What a Redis says of itself. What it does not say is `None`: a Cluster answers for each node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisDiagnostics {
    /// Its version, as `8.0.3`.
    pub version: Option<String>,
    /// What it does when its memory is full, as `noeviction`.
    pub eviction: Option<String>,
    /// Whether it keeps an append-only file.
    pub append_only: Option<bool>,
    /// Whether it is a master.
    pub is_master: Option<bool>,
    /// Replicas that are connected to it.
    pub replicas: Option<u32>,
    /// How long an answer takes on average.
    pub latency: Duration,
    /// Its clock, in milliseconds of Unix time.
    pub now_ms: Option<i64>,
    /// Members whose leases hold.
    pub members: Vec<Member>,
    /// Every zone ever seen.
    pub zones: Vec<String>,
}

/// Asks the Redis, or the master that its Sentinels name, at a URL as [`super::RedisSettings`] has
/// it; changes nothing.
///
/// # Errors
/// It does not answer, refuses the login, or runs no scripts.
pub async fn diagnose(url: &str, cluster: &str) -> Result<RedisDiagnostics, CoordinatorError> {
    let asking = async {
        let link = Link::new(url, WITHIN, 0)?;
        ask(link.dedicated().await?, &Keys::new(cluster)).await
    };
    match timeout(WITHIN, asking).await {
        Ok(asked) => asked.map_err(|error| redis_error(&error)),
        Err(_) => Err(CoordinatorError::Unavailable(format!("no answer in {WITHIN:?}"))),
    }
}

async fn ask(mut redis: Dedicated, keys: &Keys) -> RedisResult<RedisDiagnostics> {
    redis.query(cmd("EVAL").arg("return 1").arg(0)).await?;
    let info = match redis.query(&cmd("INFO")).await? {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    };
    let began = Instant::now();
    for _ in 0..PINGS {
        redis.query(&cmd("PING")).await?;
    }
    let latency = began.elapsed() / PINGS;
    let (members, zones) = keys.crowd();
    let (seconds, micros): (i64, i64) = from_redis_value(redis.query(&cmd("TIME")).await?)?;
    let now_ms = seconds * 1_000 + micros / 1_000;
    let rows: Vec<Vec<u8>> = from_redis_value(redis.query(cmd("HVALS").arg(members)).await?)?;
    let zones = from_redis_value(redis.query(cmd("LRANGE").arg(zones).arg(0).arg(-1)).await?)?;
    let members = rows.iter().filter_map(|row| holds(row, now_ms)).collect();
    Ok(RedisDiagnostics { latency, now_ms: Some(now_ms), members, zones, ..read(&info) })
}

/// A member whose lease holds; what cannot be read is none.
fn holds(row: &[u8], now_ms: i64) -> Option<Member> {
    let (until, member) = row.split_first_chunk()?;
    let holds = i64::from_be_bytes(*until) > now_ms;
    Packed::new("a member", member).member().ok().filter(|_| holds)
}

/// From the answer to INFO.
fn read(info: &str) -> RedisDiagnostics {
    let rows: HashMap<&str, &str> =
        info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let text = |key: &str| rows.get(key).map(|value| (*value).to_owned());
    RedisDiagnostics {
        version: text("valkey_version").or_else(|| text("redis_version")),
        eviction: text("maxmemory_policy"),
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
    fn info_is_read_whatever_it_lacks() {
        let info = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.0.3\r\nrole:slave\r\n\
                    aof_enabled:1\r\nconnected_slaves:2\r\nmaxmemory_policy:noeviction\r\n";
        let read_all = RedisDiagnostics {
            version: Some("8.0.3".to_owned()),
            eviction: Some("noeviction".to_owned()),
            append_only: Some(true),
            is_master: Some(false),
            replicas: Some(2),
            ..RedisDiagnostics::default()
        };
        assert_eq!(read(info), read_all);
        assert_eq!(read(""), RedisDiagnostics::default());
    }
}
