//! The eviction policies of the masters: any but `noeviction` removes offsets and index entries
//! when the memory of Redis is full.

use redis::{RedisResult, Value, cmd, from_redis_value};

use super::client::{DedicatedConnection, RedisClient, redis_error};
use super::coordinator::RedisCoordinator;
use super::reply::info_text;
use crate::coordinator::CoordinatorError;

/// The only policy under which Redis keeps what it has acknowledged.
pub const NO_EVICTION: &str = "noeviction";

/// The eviction policy of one master.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvictionPolicy {
    /// `host:port` in a Cluster; empty for the only master.
    pub server: String,
    /// Its `maxmemory-policy`; `None` if the server does not tell.
    pub policy: Option<String>,
}

impl EvictionPolicy {
    /// Returns the reason not to use the server, with key, value and remedy; `None` if it evicts
    /// nothing, or does not tell.
    pub fn problem(&self) -> Option<String> {
        let policy = self.policy.as_deref().filter(|policy| *policy != NO_EVICTION)?;
        Some(format!(
            "maxmemory-policy of {} is `{policy}`, expected `{NO_EVICTION}`: it would remove offsets \
             and index entries when its memory is full. Run `CONFIG SET maxmemory-policy \
             {NO_EVICTION}` and write it into the configuration of Redis",
            self.name()
        ))
    }

    /// Returns the server's name in messages.
    pub fn name(&self) -> String {
        if self.server.is_empty() { "Redis".to_owned() } else { format!("Redis {}", self.server) }
    }
}

impl RedisCoordinator {
    /// Returns the eviction policy of every master that answers.
    ///
    /// # Errors
    /// When none answers, or the masters of a Cluster cannot be found.
    pub async fn eviction_policies(&self) -> Result<Vec<EvictionPolicy>, CoordinatorError> {
        eviction_policies(&self.shards.client).await.map_err(|error| redis_error(&error))
    }
}

/// Returns the eviction policy of every master that answers; fails if none does.
pub(super) async fn eviction_policies(client: &RedisClient) -> RedisResult<Vec<EvictionPolicy>> {
    let (mut policies, mut failure) = (Vec::new(), None);
    for (server, opened) in client.masters().await? {
        let policy = match opened {
            Ok(mut connection) => policy_of(&mut connection).await,
            Err(error) => Err(error),
        };
        match policy {
            Ok(policy) => policies.push(EvictionPolicy { server, policy }),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if policies.is_empty() => Err(error),
        _ => Ok(policies),
    }
}

async fn policy_of(connection: &mut DedicatedConnection) -> RedisResult<Option<String>> {
    if let Some(info) = unless_refused(connection.query(cmd("INFO").arg("memory")).await)? {
        let info = info_text(info);
        let line = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
        if let Some(policy) = line {
            return Ok(Some(policy.trim().to_owned()));
        }
    }
    let mut query = cmd("CONFIG");
    query.arg("GET").arg("maxmemory-policy");
    let reply = unless_refused(connection.query(&query).await)?;
    let pair: Vec<String> = reply.map_or(Ok(Vec::new()), from_redis_value)?;
    Ok(pair.into_iter().nth(1))
}

/// Returns `None` for a command that the server does not allow or know.
fn unless_refused(reply: RedisResult<Value>) -> RedisResult<Option<Value>> {
    match reply {
        Err(error) if !error.is_io_error() => Ok(None),
        reply => reply.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_but_one_is_a_problem() {
        let policy = |policy: Option<&str>| EvictionPolicy {
            server: "a:1".to_owned(),
            policy: policy.map(str::to_owned),
        };
        assert_eq!(policy(Some(NO_EVICTION)).problem(), None);
        assert_eq!(policy(None).problem(), None);
        let problem = policy(Some("volatile-lru")).problem().unwrap();
        assert!(
            problem.starts_with(
                "maxmemory-policy of Redis a:1 is `volatile-lru`, expected `noeviction`"
            )
        );
    }
}
