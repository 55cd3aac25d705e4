//! Runs scripts on the server that holds a hash tag, with deadlines and WAIT.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use tokio::time::{Instant, timeout_at};

use super::codec::unsupported_version;
use super::deployment::Deployment;
use super::keys::{HashTag, KEYS_VERSION, Keys};
use super::lanes::{Lane, LaneKind, Lanes};
use super::node::{Node, node_config};
use super::scripts::LuaScript;
use crate::coordinator::CoordinatorError;
use crate::log::format_version::UnsupportedVersion;
use crate::tasks;

/// The time that a blocking read of a stream waits in the server, in milliseconds.
pub(super) const BLOCK_MS: usize = 500;

/// The time limit of a blocking read; after it the connection is considered lost.
const BLOCKING_READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of attempts of one call, all within its timeout: a connection that was closed, and a
/// node that no longer owns the slot.
const ATTEMPTS_MAX: u32 = 3;

/// A client of one Redis deployment, with shared connections.
#[derive(Debug)]
pub(super) struct RedisClient {
    deployment: Arc<Deployment>,
    keys: Keys,
    lanes: Lanes,
    timeout: Duration,
    /// The number of replicas of Redis that must have what a script wrote.
    replicas: u8,
}

/// A connection of one subscription, for blocking reads.
pub(super) struct DedicatedConnection {
    connection: MultiplexedConnection,
    /// The node's address in a Cluster.
    pub(super) address: String,
}

/// One run of a script.
struct ScriptRun {
    code: &'static str,
    hash: String,
    key: String,
    args: Vec<Vec<u8>>,
    /// The number of replicas of Redis to wait for, and the time limit; `None` without WAIT.
    wait: Option<(u8, Duration)>,
    timeout: Duration,
}

impl RedisClient {
    /// Parses a URL with the scheme `redis`, `rediss`, `redis-sentinel` or `redis-cluster`;
    /// connects at the first call.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub(super) fn new(url: &str, keys: Keys, timeout: Duration, replicas: u8) -> RedisResult<Self> {
        let deployment = Arc::new(Deployment::new(url)?);
        Ok(Self { deployment, keys, lanes: Lanes::default(), timeout, replicas })
    }

    /// Returns whether replicas of Redis must have a change before it is acknowledged.
    pub(super) fn waits_for_replicas(&self) -> bool {
        self.replicas > 0
    }

    /// Returns whether a reply of this script implies that enough replicas of Redis have what this
    /// script and all earlier ones wrote.
    pub(super) fn must_wait(&self, script: &LuaScript) -> bool {
        self.waits_for_replicas() && script.lane != LaneKind::Unreplicated
    }

    /// Runs a script on the meta key of a hash tag.
    ///
    /// # Errors
    /// [`CoordinatorError::Unknown`] after the timeout; see [`redis_error`] for other failures.
    pub(super) async fn run(
        &self,
        script: &LuaScript,
        hash_tag: HashTag,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, CoordinatorError> {
        let deadline = Instant::now() + self.timeout;
        let lane = self.lane(hash_tag, script.lane);
        let Ok(permit) = timeout_at(deadline, lane.permit()).await else {
            let detail =
                format!("too many queries of {hash_tag:?}: not sent for {:?}", self.timeout);
            return Err(CoordinatorError::Unavailable(detail));
        };
        let run = ScriptRun {
            code: script.code,
            hash: script.script.get_hash().to_owned(),
            key: self.keys.meta(hash_tag),
            args,
            wait: self.must_wait(script).then_some((self.replicas, self.timeout / 4)),
            timeout: self.timeout,
        };
        let deployment = Arc::clone(&self.deployment);
        let is_bounded = permit.is_some();
        let sending = async move {
            let _until_the_reply = permit;
            run.send(&lane, &deployment).await
        };
        let sending = sending.boxed();
        let reply = if is_bounded {
            let sent = tasks::spawn("query", sending);
            timeout_at(deadline, sent)
                .await
                .map(|sent| sent.unwrap_or_else(|_| Err(redis_error(&ended()))))
        } else {
            timeout_at(deadline, sending).await
        };
        match reply {
            Ok(reply) => reply,
            Err(_) => Err(CoordinatorError::Unknown(format!("no reply within {:?}", self.timeout))),
        }
    }

    /// Opens a connection for blocking reads of the stream of a hash tag. `failed` is the address
    /// of the last one.
    ///
    /// # Errors
    /// When the server cannot be found or does not answer in time.
    pub(super) async fn dedicated(
        &self,
        hash_tag: HashTag,
        failed: Option<&str>,
    ) -> RedisResult<DedicatedConnection> {
        let node = self.deployment.master(self.keys.slot(hash_tag), failed).await?;
        DedicatedConnection::open(node).await
    }

    /// Opens a connection to every master.
    ///
    /// # Errors
    /// When the masters cannot be found; of each one that does not answer.
    pub(super) async fn masters(
        &self,
    ) -> RedisResult<Vec<(String, RedisResult<DedicatedConnection>)>> {
        let nodes = self.deployment.masters().await?;
        let opened = nodes
            .into_iter()
            .map(|node| async { (node.address.clone(), DedicatedConnection::open(node).await) });
        Ok(futures::future::join_all(opened).await)
    }

    /// Returns the lane of a hash tag. Shards have different ones wherever one of them may wait:
    /// for replicas of Redis, or for a server of its own.
    fn lane(&self, hash_tag: HashTag, kind: LaneKind) -> Arc<Lane> {
        let is_alone = self.waits_for_replicas() || self.deployment.is_cluster();
        self.lanes.get(is_alone.then_some(hash_tag), kind, self.keys.slot(hash_tag))
    }
}

impl ScriptRun {
    /// Runs the script; repeats it at once if the connection turned out to be closed, as after an
    /// idle time or a restart, or if another node owns the slot. Every script may be repeated.
    async fn send(&self, lane: &Lane, deployment: &Deployment) -> Result<Value, CoordinatorError> {
        let mut may_have_run = None;
        for attempt in 1.. {
            let error = match self.attempt(lane, deployment).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let is_closed = error.is_connection_dropped() && !error.is_connection_refusal();
            let classified = redis_error(&error);
            if attempt == ATTEMPTS_MAX || !(is_closed || error.code() == Some("MOVED")) {
                return Err(match (classified, may_have_run) {
                    (CoordinatorError::Unavailable(_), Some(unknown)) => unknown,
                    (classified, _) => classified,
                });
            }
            if matches!(classified, CoordinatorError::Unknown(_)) {
                may_have_run = Some(classified);
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn attempt(&self, lane: &Lane, deployment: &Deployment) -> RedisResult<Value> {
        let mut evalsha = redis::cmd("EVALSHA");
        evalsha.arg(&self.hash).arg(1).arg(&self.key).arg(&self.args);
        match self.query(evalsha, lane, deployment).await {
            // It did not run: the server has not cached it yet.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                let mut eval = redis::cmd("EVAL");
                eval.arg(self.code).arg(1).arg(&self.key).arg(&self.args);
                self.query(eval, lane, deployment).await
            }
            reply => reply,
        }
    }

    /// Sends a command and, if required, WAIT after it on the same connection: on another
    /// connection WAIT would wait for the writes of that connection, and in a script it does not
    /// wait at all.
    async fn query(&self, cmd: Cmd, lane: &Lane, deployment: &Deployment) -> RedisResult<Value> {
        let mut pipeline = Pipeline::new();
        pipeline.add_command(cmd);
        if let Some((replicas, limit)) = self.wait {
            pipeline.cmd("WAIT").arg(replicas).arg(limit.as_millis() as u64);
        }
        let mut replies = lane.send(deployment, &pipeline, self.timeout).await?.into_iter();
        let missing = || RedisError::from((ErrorKind::UnexpectedReturnType, "a reply is missing"));
        let reply = replies.next().ok_or_else(missing)?.extract_error()?;
        if let Some((replicas, _)) = self.wait {
            let acknowledged = replies.next().ok_or_else(missing)?.extract_error()?;
            let Value::Int(acknowledged) = acknowledged else { return Err(missing()) };
            if acknowledged < i64::from(replicas) {
                let detail = format!("{acknowledged} of {replicas} replicas of Redis have it");
                return Err(RedisError::from((
                    ErrorKind::UnexpectedReturnType,
                    "not replicated yet",
                    detail,
                )));
            }
        }
        Ok(reply)
    }
}

impl DedicatedConnection {
    async fn open(node: Node) -> RedisResult<Self> {
        let config = node_config(BLOCKING_READ_TIMEOUT, BLOCKING_READ_TIMEOUT);
        let connecting = node.client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self { connection: connecting.await?, address: node.address })
    }

    pub(super) async fn query(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        cmd.query_async(&mut self.connection).await
    }
}

fn ended() -> RedisError {
    RedisError::from((ErrorKind::Client, "the process is ending"))
}

/// Classifies an error by whether the call may have taken effect: a call that the server rejected
/// did not, a call whose connection failed may have.
pub(super) fn redis_error(error: &RedisError) -> CoordinatorError {
    let detail = error.to_string();
    match error.code() {
        Some("METADATALOST") => {
            CoordinatorError::MetadataLost(error.detail().unwrap_or(&detail).to_owned())
        }
        Some("UNSUPPORTEDFORMAT") => {
            let found = error.detail().and_then(|detail| detail.trim().parse().ok()).unwrap_or(0);
            let what = "the metadata in Redis";
            unsupported_version(UnsupportedVersion { what, found, known: KEYS_VERSION })
        }
        Some("WRONGTYPE") => CoordinatorError::Corrupt(detail),
        Some(
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "READONLY" | "OOM" | "BUSY" | "TRYAGAIN"
            | "MOVED" | "ASK" | "NOREPLICAS" | "MISCONF" | "NOAUTH" | "NOPERM" | "WRONGPASS"
            | "NOSCRIPT" | "CROSSSLOT",
        ) => CoordinatorError::Unavailable(detail),
        _ if error.is_connection_refusal() => CoordinatorError::Unavailable(detail),
        _ => match error.kind() {
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::EmptySentinelList
            | ErrorKind::ClusterConnectionNotFound => CoordinatorError::Unavailable(detail),
            _ => CoordinatorError::Unknown(detail),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str, cluster: &str, replicas: u8) -> RedisClient {
        RedisClient::new(url, Keys::new(cluster), Duration::from_secs(1), replicas).unwrap()
    }

    /// Returns the number of different lanes of the registry and four shards.
    fn count_lanes(client: &RedisClient, kinds: &[LaneKind]) -> usize {
        let hash_tags = || std::iter::once(HashTag::Registry).chain((0..4).map(HashTag::Shard));
        let lanes = kinds.iter().flat_map(|kind| hash_tags().map(|tag| client.lane(tag, *kind)));
        let addresses: Vec<_> = lanes.map(|lane| Arc::as_ptr(&lane)).collect();
        addresses.iter().collect::<std::collections::HashSet<_>>().len()
    }

    const ALL: [LaneKind; 3] = [LaneKind::Changes, LaneKind::Queries, LaneKind::Unreplicated];

    #[tokio::test]
    async fn shards_that_wait_for_replicas_have_a_lane_each() {
        for cluster in ["odradek", "prod", "c", "a-longer-name-0"] {
            let client = client("redis://localhost", cluster, 1);
            assert_eq!(count_lanes(&client, &[LaneKind::Changes]), 5, "{cluster}");
            assert_eq!(count_lanes(&client, &ALL), 15, "{cluster}");
        }
    }

    #[tokio::test]
    async fn shards_of_a_cluster_have_a_lane_each() {
        assert_eq!(count_lanes(&client("redis-cluster://a:1,b:1", "odradek", 0), &ALL), 15);
        assert_eq!(count_lanes(&client("redis://localhost", "odradek", 0), &ALL), 3);
    }

    #[test]
    fn rejected_calls_are_unavailable() {
        let error = |text: &str| {
            let value = redis::parse_redis_value(text.as_bytes()).and_then(Value::extract_error);
            redis_error(&value.expect_err("an error reply"))
        };
        assert!(matches!(error("-OOM no\r\n"), CoordinatorError::Unavailable(_)));
        assert!(matches!(error("-READONLY no\r\n"), CoordinatorError::Unavailable(_)));
        let newer = error("-UNSUPPORTEDFORMAT 9\r\n").to_string();
        assert!(newer.contains("the metadata in Redis has format version 9"), "{newer}");
        assert!(matches!(error("-METADATALOST gone\r\n"), CoordinatorError::MetadataLost(_)));
        assert!(matches!(error("-ERR something broke\r\n"), CoordinatorError::Unknown(_)));
    }
}
