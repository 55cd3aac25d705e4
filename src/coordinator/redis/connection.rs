//! Connections to one Redis, to the master that Sentinels name, or to a Redis Cluster.

use std::fmt;
use std::time::Duration;

use redis::aio::{
    ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection,
};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, Pipeline, RedisError, RedisResult, Value,
};

use super::scripts::Script;
use crate::coordinator::CoordinatorError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a follower's read waits in the server before it asks again.
pub(super) const BLOCK_MS: usize = 2_000;

/// A follower whose read takes this long has lost its connection.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(6);

/// Connections of a link that waits for replicas of Redis: as many as shards, by default.
const LANES: usize = 4;

const SENTINEL_PORT: u16 = 26379;

/// Where to connect, and a shared connection.
pub(super) struct Link {
    target: Target,
    /// One, or with WAIT several: it holds up what comes behind it.
    lanes: Vec<Shared>,
    timeout: Duration,
    /// Replicas of Redis that must have what a script wrote.
    replicas: u8,
}

enum Target {
    Single(Client),
    Sentinel(tokio::sync::Mutex<SentinelClient>),
    Cluster(redis::cluster::ClusterClient),
}

enum Shared {
    Single(ConnectionManager),
    /// The master as last asked for; `None` after a call failed.
    Sentinel(tokio::sync::Mutex<Option<MultiplexedConnection>>),
    /// Connected at the first call; afterwards it follows the cluster by itself.
    Cluster(tokio::sync::OnceCell<ClusterConnection>),
}

/// A connection of a follower's own: its reads block.
pub(super) enum Dedicated {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own Debug prints passwords.
        let target = match self.target {
            Target::Single(_) => "single",
            Target::Sentinel(_) => "sentinel",
            Target::Cluster(_) => "cluster",
        };
        f.debug_struct("Link").field("target", &target).field("timeout", &self.timeout).finish()
    }
}

impl Link {
    /// Understands `redis://`, `rediss://`, `redis-sentinel://` and `redis-cluster://`; connects
    /// at the first call.
    pub(super) fn new(url: &str, timeout: Duration, replicas: u8) -> RedisResult<Self> {
        let count = if replicas == 0 { 1 } else { LANES };
        let (target, lanes) = if let Some(rest) = url.strip_prefix("redis-sentinel://") {
            let client = tokio::sync::Mutex::new(sentinel_client(rest)?);
            let lane = |_| Shared::Sentinel(tokio::sync::Mutex::new(None));
            (Target::Sentinel(client), (0..count).map(lane).collect())
        } else if let Some(rest) = url.strip_prefix("redis-cluster://") {
            let lane = |_| Shared::Cluster(tokio::sync::OnceCell::new());
            (Target::Cluster(cluster_client(rest)?), (0..count).map(lane).collect())
        } else {
            let client = Client::open(without_delay(url.into_connection_info()?))?;
            // One retry inside the manager: the caller's own deadline and repeats do the rest.
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_max_delay(Duration::from_millis(100))
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(noticed_within(timeout)));
            let lane = |_| client.get_connection_manager_lazy(config.clone()).map(Shared::Single);
            let lanes = (0..count).map(lane).collect::<RedisResult<_>>()?;
            (Target::Single(client), lanes)
        };
        Ok(Self { target, lanes, timeout, replicas })
    }

    /// Whether what scripts write must be on replicas of Redis as well.
    pub(super) fn waits(&self) -> bool {
        self.replicas > 0
    }

    /// Whether an answer of this script says that they have what it and all before it wrote.
    pub(super) fn proves(&self, script: &Script) -> bool {
        self.waits() && script.is_proven
    }

    /// Runs a script over one meta key, within the deadline.
    pub(super) async fn run(
        &self,
        script: &Script,
        key: &str,
        args: &[Vec<u8>],
    ) -> Result<Value, CoordinatorError> {
        let call = async {
            let mut evalsha = redis::cmd("EVALSHA");
            evalsha.arg(script.script.get_hash()).arg(1).arg(key).arg(args);
            let proves = self.proves(script);
            match self.query(&evalsha, key, proves).await {
                // It did not run: the server does not know it yet.
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    let mut eval = redis::cmd("EVAL");
                    eval.arg(script.code).arg(1).arg(key).arg(args);
                    self.query(&eval, key, proves).await
                }
                answer => answer,
            }
        };
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(|e| redis_error(&e)),
            Err(_) => Err(CoordinatorError::Unknown(format!("no answer in {:?}", self.timeout))),
        }
    }

    /// A connection for reads that block.
    pub(super) async fn dedicated(&self) -> RedisResult<Dedicated> {
        let client = match &self.target {
            Target::Single(client) => client.clone(),
            Target::Sentinel(client) => client.lock().await.async_get_client().await?,
            Target::Cluster(client) => {
                return Ok(Dedicated::Cluster(client.get_async_connection().await?));
            }
        };
        let config = node_config(FOLLOW_TIMEOUT);
        Ok(Dedicated::Node(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    /// Sends a command and, if it is to be proven, WAIT right behind it on the same connection:
    /// on another one WAIT would speak of what that one wrote.
    async fn query(&self, cmd: &Cmd, key: &str, proves: bool) -> RedisResult<Value> {
        let mut pipeline = Pipeline::new();
        pipeline.add_command(cmd.clone());
        if proves {
            pipeline.cmd("WAIT").arg(self.replicas).arg((self.timeout / 4).as_millis() as u64);
        }
        let mut answers = self.send(&pipeline, self.lane(key)).await?.into_iter();
        let missing =
            || RedisError::from((ErrorKind::UnexpectedReturnType, "an answer is missing"));
        let answer = answers.next().ok_or_else(missing)?.extract_error()?;
        if proves {
            let have = answers.next().ok_or_else(missing)?.extract_error()?;
            let Value::Int(have) = have else { return Err(missing()) };
            if have < i64::from(self.replicas) {
                let detail = format!("{have} of {} replicas of Redis have it", self.replicas);
                return Err(RedisError::from((ErrorKind::Io, "not replicated yet", detail)));
            }
        }
        Ok(answer)
    }

    /// A shard keeps to one lane, so that shards do not wait for each other.
    fn lane(&self, key: &str) -> &Shared {
        let hash = key.bytes().fold(0_usize, |hash, byte| hash * 31 % 8191 + usize::from(byte));
        &self.lanes[hash % self.lanes.len()]
    }

    async fn send(&self, pipeline: &Pipeline, lane: &Shared) -> RedisResult<Vec<Value>> {
        let count = pipeline.len();
        match (lane, &self.target) {
            (Shared::Single(manager), _) => {
                manager.clone().req_packed_commands(pipeline, 0, count).await
            }
            (Shared::Sentinel(current), Target::Sentinel(client)) => {
                let mut connection = {
                    let mut current = current.lock().await;
                    match &*current {
                        Some(connection) => connection.clone(),
                        None => {
                            let master = client.lock().await.async_get_client().await?;
                            let config = node_config(noticed_within(self.timeout));
                            let fresh =
                                master.get_multiplexed_async_connection_with_config(&config);
                            current.insert(fresh.await?).clone()
                        }
                    }
                };
                let answers = connection.req_packed_commands(pipeline, 0, count).await;
                // After a failover the old master is gone or read-only: ask the Sentinels again.
                let readonly = |value: &Value| match value {
                    Value::ServerError(error) => error.code() == "READONLY",
                    _ => false,
                };
                let moved = match &answers {
                    Ok(values) => values.iter().any(readonly),
                    Err(error) => error.is_io_error() || error.code() == Some("READONLY"),
                };
                if moved {
                    *current.lock().await = None;
                }
                answers
            }
            (Shared::Cluster(cell), Target::Cluster(client)) => {
                let connection = cell.get_or_try_init(|| client.get_async_connection()).await?;
                connection.clone().req_packed_commands(pipeline, 0, count).await
            }
            (Shared::Sentinel(_) | Shared::Cluster(_), _) => {
                unreachable!("a link's two halves are made together")
            }
        }
    }
}

impl Dedicated {
    pub(super) async fn query(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Node(connection) => cmd.query_async(connection).await,
            Self::Cluster(connection) => {
                // The cluster client has no response timeout of its own here.
                let answer = tokio::time::timeout(FOLLOW_TIMEOUT, cmd.query_async(connection));
                answer.await.unwrap_or_else(|_| {
                    Err(RedisError::from((ErrorKind::Io, "the blocking read timed out")))
                })
            }
        }
    }
}

/// The connection's own deadline, before the caller's: a call that is cancelled tells nobody that
/// the server hangs, and the dead connection would be used again.
fn noticed_within(timeout: Duration) -> Duration {
    timeout.mul_f64(0.9)
}

fn node_config(response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response))
}

fn without_delay(info: ConnectionInfo) -> ConnectionInfo {
    info.set_tcp_settings(TcpSettings::default().set_nodelay(true))
}

/// `[user:password@]host:port,host:port/master[/db]`.
fn sentinel_client(rest: &str) -> RedisResult<SentinelClient> {
    let invalid = || {
        RedisError::from((
            ErrorKind::InvalidClientConfig,
            "redis-sentinel://host:port,…/master[/db]",
        ))
    };
    let (login, rest) = split_login(rest);
    let mut fields = rest.split('/');
    let hosts = fields.next().filter(|h| !h.is_empty()).ok_or_else(invalid)?;
    let master = fields.next().filter(|m| !m.is_empty()).ok_or_else(invalid)?;
    let sentinels: Option<Vec<_>> = hosts.split(',').map(|h| host_port(h, SENTINEL_PORT)).collect();
    let tcp = || TcpSettings::default().set_nodelay(true);
    let sentinels = sentinels.ok_or_else(invalid)?;
    let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(db) = fields.next() {
        builder = builder.set_client_to_redis_db(db.parse().map_err(|_| invalid())?);
    }
    if let Some((user, password)) = login {
        builder = builder.set_client_to_redis_password(password);
        if !user.is_empty() {
            builder = builder.set_client_to_redis_username(user);
        }
    }
    builder.build()
}

/// `[user:password@]host:port,host:port`.
fn cluster_client(rest: &str) -> RedisResult<redis::cluster::ClusterClient> {
    let (login, hosts) = split_login(rest);
    let nodes = hosts.trim_end_matches('/').split(',').map(|host| format!("redis://{host}"));
    // With retries the client would run a script again whose reply it lost, unknown to us.
    let mut builder = ClusterClientBuilder::new(nodes)
        .retries(0)
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(FOLLOW_TIMEOUT)
        .tcp_settings(TcpSettings::default().set_nodelay(true));
    if let Some((user, password)) = login {
        builder = builder.password(password);
        if !user.is_empty() {
            builder = builder.username(user);
        }
    }
    builder.build()
}

fn split_login(rest: &str) -> (Option<(&str, &str)>, &str) {
    match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(login.split_once(':').unwrap_or(("", login))), rest),
        None => (None, rest),
    }
}

fn host_port(text: &str, default_port: u16) -> Option<ConnectionAddr> {
    match text.rsplit_once(':') {
        Some((host, port)) => Some(ConnectionAddr::Tcp(host.to_owned(), port.parse().ok()?)),
        None => Some(ConnectionAddr::Tcp(text.to_owned(), default_port)),
    }
}

/// Whether it happened decides: what the server turned down did not, what broke may have.
pub(super) fn redis_error(error: &RedisError) -> CoordinatorError {
    let detail = error.to_string();
    match error.code() {
        Some("ODRADEKLOST") => {
            CoordinatorError::MetadataLost(error.detail().unwrap_or(&detail).to_owned())
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

    #[tokio::test]
    async fn every_kind_of_url_is_understood() {
        for url in [
            "redis://localhost:6379/2",
            "redis://user:secret@localhost",
            "redis-sentinel://a:26379,b/main",
            "redis-sentinel://user:secret@a,b:1/main/3",
            "redis-cluster://a:7000,b:7001",
            "redis-cluster://user:secret@a:7000/",
        ] {
            let link = Link::new(url, Duration::from_secs(1), 0);
            assert!(link.is_ok(), "{url}: {link:?}");
            assert!(!format!("{link:?}").contains("secret"));
        }
    }

    #[tokio::test]
    async fn a_url_without_what_it_needs_is_refused() {
        for url in
            ["http://a", "redis-sentinel://a:1", "redis-sentinel:///main", "redis-sentinel://a/m/x"]
        {
            assert!(Link::new(url, Duration::from_secs(1), 0).is_err(), "{url}");
        }
    }

    #[test]
    fn what_the_server_turned_down_did_not_happen() {
        let error = |text: &str| {
            let value = redis::parse_redis_value(text.as_bytes()).and_then(Value::extract_error);
            redis_error(&value.expect_err("an error reply"))
        };
        assert!(matches!(error("-OOM no\r\n"), CoordinatorError::Unavailable(_)));
        assert!(matches!(error("-READONLY no\r\n"), CoordinatorError::Unavailable(_)));
        assert!(matches!(error("-ODRADEKLOST gone\r\n"), CoordinatorError::MetadataLost(_)));
        assert!(matches!(error("-ERR something broke\r\n"), CoordinatorError::Unknown(_)));
    }
}
