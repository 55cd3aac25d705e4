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

use super::scripts::LuaScript;
use crate::coordinator::CoordinatorError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The time that a blocking read of a stream waits in the server, in milliseconds.
pub(super) const BLOCK_MS: usize = 2_000;

/// The time limit of a blocking read; after it the connection is considered lost.
const BLOCKING_READ_TIMEOUT: Duration = Duration::from_secs(6);

/// The number of connections of a client that waits for replicas of Redis: the default number of
/// shards.
const SHARED_CONNECTIONS: usize = 4;

const SENTINEL_PORT: u16 = 26379;

/// A client of one Redis deployment, with shared connections.
pub(super) struct RedisClient {
    target: Target,
    /// One, or several with WAIT, which blocks later commands on its connection.
    connections: Vec<SharedConnection>,
    timeout: Duration,
    /// The number of replicas of Redis that must have what a script wrote.
    replicas: u8,
}

enum Target {
    Single(Client),
    Sentinel(tokio::sync::Mutex<SentinelClient>),
    Cluster(redis::cluster::ClusterClient),
}

enum SharedConnection {
    Single(ConnectionManager),
    /// The master that the Sentinels named last; `None` after a call failed.
    Sentinel(tokio::sync::Mutex<Option<MultiplexedConnection>>),
    /// Connected at the first call; afterwards it follows changes of the cluster.
    Cluster(tokio::sync::OnceCell<ClusterConnection>),
}

/// A connection of one subscription, for blocking reads.
pub(super) enum DedicatedConnection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own Debug prints passwords.
        let target = match self.target {
            Target::Single(_) => "single",
            Target::Sentinel(_) => "sentinel",
            Target::Cluster(_) => "cluster",
        };
        f.debug_struct("RedisClient")
            .field("target", &target)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl RedisClient {
    /// Parses a URL with the scheme `redis`, `rediss`, `redis-sentinel` or `redis-cluster`;
    /// connects at the first call.
    pub(super) fn new(url: &str, timeout: Duration, replicas: u8) -> RedisResult<Self> {
        let count = if replicas == 0 { 1 } else { SHARED_CONNECTIONS };
        let (target, connections) = if let Some(rest) = url.strip_prefix("redis-sentinel://") {
            let client = tokio::sync::Mutex::new(sentinel_client(rest)?);
            let connection = |_| SharedConnection::Sentinel(tokio::sync::Mutex::new(None));
            (Target::Sentinel(client), (0..count).map(connection).collect())
        } else if let Some(rest) = url.strip_prefix("redis-cluster://") {
            let connection = |_| SharedConnection::Cluster(tokio::sync::OnceCell::new());
            (Target::Cluster(cluster_client(rest)?), (0..count).map(connection).collect())
        } else {
            let client = Client::open(without_delay(url.into_connection_info()?))?;
            // One retry here; the caller has its own deadline and retries.
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_max_delay(Duration::from_millis(100))
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(response_timeout(timeout)));
            let connection = |_| {
                client.get_connection_manager_lazy(config.clone()).map(SharedConnection::Single)
            };
            let connections = (0..count).map(connection).collect::<RedisResult<_>>()?;
            (Target::Single(client), connections)
        };
        Ok(Self { target, connections, timeout, replicas })
    }

    /// Returns whether replicas of Redis must have a change before it is acknowledged.
    pub(super) fn waits_for_replicas(&self) -> bool {
        self.replicas > 0
    }

    /// Returns whether a reply of this script implies that enough replicas of Redis have what this
    /// script and all earlier ones wrote.
    pub(super) fn must_wait(&self, script: &LuaScript) -> bool {
        self.waits_for_replicas() && script.awaits_replicas
    }

    /// Runs a script on one meta key.
    ///
    /// # Errors
    /// [`CoordinatorError::Unknown`] after the timeout; see [`redis_error`] for other failures.
    pub(super) async fn run(
        &self,
        script: &LuaScript,
        key: &str,
        args: &[Vec<u8>],
    ) -> Result<Value, CoordinatorError> {
        let call = async {
            let mut evalsha = redis::cmd("EVALSHA");
            evalsha.arg(script.script.get_hash()).arg(1).arg(key).arg(args);
            let must_wait = self.must_wait(script);
            match self.query(&evalsha, key, must_wait).await {
                // It did not run: the server has not cached it yet.
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    let mut eval = redis::cmd("EVAL");
                    eval.arg(script.code).arg(1).arg(key).arg(args);
                    self.query(&eval, key, must_wait).await
                }
                reply => reply,
            }
        };
        match tokio::time::timeout(self.timeout, call).await {
            Ok(reply) => reply.map_err(|e| redis_error(&e)),
            Err(_) => Err(CoordinatorError::Unknown(format!("no reply within {:?}", self.timeout))),
        }
    }

    /// Opens a connection for blocking reads.
    pub(super) async fn dedicated(&self) -> RedisResult<DedicatedConnection> {
        let client = match &self.target {
            Target::Single(client) => client.clone(),
            Target::Sentinel(client) => client.lock().await.async_get_client().await?,
            Target::Cluster(client) => {
                return Ok(DedicatedConnection::Cluster(client.get_async_connection().await?));
            }
        };
        let config = node_config(BLOCKING_READ_TIMEOUT);
        Ok(DedicatedConnection::Node(
            client.get_multiplexed_async_connection_with_config(&config).await?,
        ))
    }

    /// Sends a command and, if `must_wait`, WAIT after it on the same connection: on another
    /// connection WAIT would wait for the writes of that connection.
    async fn query(&self, cmd: &Cmd, key: &str, must_wait: bool) -> RedisResult<Value> {
        let mut pipeline = Pipeline::new();
        pipeline.add_command(cmd.clone());
        if must_wait {
            pipeline.cmd("WAIT").arg(self.replicas).arg((self.timeout / 4).as_millis() as u64);
        }
        let mut replies = self.send(&pipeline, self.connection_for(key)).await?.into_iter();
        let missing = || RedisError::from((ErrorKind::UnexpectedReturnType, "a reply is missing"));
        let reply = replies.next().ok_or_else(missing)?.extract_error()?;
        if must_wait {
            let acknowledged = replies.next().ok_or_else(missing)?.extract_error()?;
            let Value::Int(acknowledged) = acknowledged else { return Err(missing()) };
            if acknowledged < i64::from(self.replicas) {
                let detail =
                    format!("{acknowledged} of {} replicas of Redis have it", self.replicas);
                return Err(RedisError::from((ErrorKind::Io, "not replicated yet", detail)));
            }
        }
        Ok(reply)
    }

    /// Returns the connection of a shard. Shards have different ones, so that they do not wait for
    /// each other.
    fn connection_for(&self, key: &str) -> &SharedConnection {
        let hash = key.bytes().fold(0_usize, |hash, byte| hash * 31 % 8191 + usize::from(byte));
        &self.connections[hash % self.connections.len()]
    }

    async fn send(
        &self,
        pipeline: &Pipeline,
        connection: &SharedConnection,
    ) -> RedisResult<Vec<Value>> {
        let count = pipeline.len();
        match (connection, &self.target) {
            (SharedConnection::Single(manager), _) => {
                manager.clone().req_packed_commands(pipeline, 0, count).await
            }
            (SharedConnection::Sentinel(current), Target::Sentinel(client)) => {
                let mut connection = {
                    let mut current = current.lock().await;
                    match &*current {
                        Some(connection) => connection.clone(),
                        None => {
                            let master = client.lock().await.async_get_client().await?;
                            let config = node_config(response_timeout(self.timeout));
                            let fresh =
                                master.get_multiplexed_async_connection_with_config(&config);
                            current.insert(fresh.await?).clone()
                        }
                    }
                };
                let replies = connection.req_packed_commands(pipeline, 0, count).await;
                // After a failover the old master is unreachable or read-only.
                let readonly = |value: &Value| match value {
                    Value::ServerError(error) => error.code() == "READONLY",
                    _ => false,
                };
                let moved = match &replies {
                    Ok(values) => values.iter().any(readonly),
                    Err(error) => error.is_io_error() || error.code() == Some("READONLY"),
                };
                if moved {
                    *current.lock().await = None;
                }
                replies
            }
            (SharedConnection::Cluster(cell), Target::Cluster(client)) => {
                let connection = cell.get_or_try_init(|| client.get_async_connection()).await?;
                connection.clone().req_packed_commands(pipeline, 0, count).await
            }
            (SharedConnection::Sentinel(_) | SharedConnection::Cluster(_), _) => {
                unreachable!("target and connections are created together")
            }
        }
    }
}

impl DedicatedConnection {
    pub(super) async fn query(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Node(connection) => cmd.query_async(connection).await,
            Self::Cluster(connection) => {
                // The cluster client does not apply its response timeout here.
                let reply =
                    tokio::time::timeout(BLOCKING_READ_TIMEOUT, cmd.query_async(connection));
                reply.await.unwrap_or_else(|_| {
                    Err(RedisError::from((ErrorKind::Io, "the blocking read timed out")))
                })
            }
        }
    }
}

/// Returns the deadline of the connection, which is before the caller's: a cancelled call would
/// not close the connection, and a connection to a server that hangs would be used again.
fn response_timeout(timeout: Duration) -> Duration {
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
    // With retries the client would silently run a script again whose reply it lost.
    let mut builder = ClusterClientBuilder::new(nodes)
        .retries(0)
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(BLOCKING_READ_TIMEOUT)
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

/// Classifies an error by whether the call may have taken effect: a call that the server rejected
/// did not, a call whose connection failed may have.
pub(super) fn redis_error(error: &RedisError) -> CoordinatorError {
    let detail = error.to_string();
    match error.code() {
        Some("METADATALOST") => {
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
    async fn every_url_scheme_is_parsed() {
        for url in [
            "redis://localhost:6379/2",
            "redis://user:secret@localhost",
            "redis-sentinel://a:26379,b/main",
            "redis-sentinel://user:secret@a,b:1/main/3",
            "redis-cluster://a:7000,b:7001",
            "redis-cluster://user:secret@a:7000/",
        ] {
            let client = RedisClient::new(url, Duration::from_secs(1), 0);
            assert!(client.is_ok(), "{url}: {client:?}");
            assert!(!format!("{client:?}").contains("secret"));
        }
    }

    #[tokio::test]
    async fn incomplete_urls_are_rejected() {
        for url in
            ["http://a", "redis-sentinel://a:1", "redis-sentinel:///main", "redis-sentinel://a/m/x"]
        {
            assert!(RedisClient::new(url, Duration::from_secs(1), 0).is_err(), "{url}");
        }
    }

    #[test]
    fn rejected_calls_are_unavailable() {
        let error = |text: &str| {
            let value = redis::parse_redis_value(text.as_bytes()).and_then(Value::extract_error);
            redis_error(&value.expect_err("an error reply"))
        };
        assert!(matches!(error("-OOM no\r\n"), CoordinatorError::Unavailable(_)));
        assert!(matches!(error("-READONLY no\r\n"), CoordinatorError::Unavailable(_)));
        assert!(matches!(error("-METADATALOST gone\r\n"), CoordinatorError::MetadataLost(_)));
        assert!(matches!(error("-ERR something broke\r\n"), CoordinatorError::Unknown(_)));
    }
}
