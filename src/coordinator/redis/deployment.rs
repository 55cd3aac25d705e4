//! The servers behind a URL: one Redis, the master that Sentinels name, or a Redis Cluster.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    RedisResult,
};
use tokio::time::Instant;

use super::cluster::ClusterNodes;
use super::node::{Node, without_delay};

const SENTINEL_PORT: u16 = 26379;
/// The age up to which the master that the Sentinels named is used for another connection.
const MASTER_FRESH: Duration = Duration::from_millis(200);

/// The servers of one URL.
pub(super) enum Deployment {
    Single(Client),
    Sentinel(Box<tokio::sync::Mutex<SentinelMaster>>),
    Cluster(ClusterNodes),
}

/// The master of a set of Sentinels.
pub(super) struct SentinelMaster {
    sentinels: SentinelClient,
    last: Option<(Instant, Client)>,
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own Debug prints passwords.
        f.write_str(match self {
            Self::Single(_) => "single",
            Self::Sentinel(_) => "sentinel",
            Self::Cluster(_) => "cluster",
        })
    }
}

impl Deployment {
    /// Parses a URL with the scheme `redis`, `rediss`, `redis-sentinel` or `redis-cluster`;
    /// connects to nothing.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub(super) fn new(url: &str) -> RedisResult<Self> {
        if let Some(rest) = url.strip_prefix("redis-sentinel://") {
            let master = SentinelMaster { sentinels: sentinel_client(rest)?, last: None };
            Ok(Self::Sentinel(Box::new(tokio::sync::Mutex::new(master))))
        } else if let Some(rest) = url.strip_prefix("redis-cluster://") {
            Ok(Self::Cluster(cluster_nodes(rest)?))
        } else {
            Ok(Self::Single(Client::open(without_delay(url.into_connection_info()?))?))
        }
    }

    /// Returns whether the hash tags may be on different servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Returns the master of a slot; `failed` is the address at which the caller found none.
    ///
    /// # Errors
    /// When neither Sentinels nor nodes name one.
    pub(super) async fn master(&self, slot: u16, failed: Option<&str>) -> RedisResult<Node> {
        match self {
            Self::Single(client) => Ok(Node { address: String::new(), client: client.clone() }),
            Self::Sentinel(master) => {
                let client = master.lock().await.current().await?;
                Ok(Node { address: String::new(), client })
            }
            Self::Cluster(nodes) => {
                let address = nodes.owner(slot, failed).await?;
                Ok(Node { client: nodes.client(&address)?, address })
            }
        }
    }

    /// Returns the node that a redirection names.
    ///
    /// # Errors
    /// When the address is invalid, or this is no Cluster.
    pub(super) fn redirected(&self, address: &str) -> RedisResult<Node> {
        match self {
            Self::Cluster(nodes) => {
                Ok(Node { client: nodes.client(address)?, address: address.to_owned() })
            }
            _ => Err(RedisError::from((ErrorKind::Client, "a redirection without a Cluster"))),
        }
    }

    /// Returns every master.
    ///
    /// # Errors
    /// When neither Sentinels nor nodes name one.
    pub(super) async fn masters(&self) -> RedisResult<Vec<Node>> {
        let Self::Cluster(nodes) = self else { return Ok(vec![self.master(0, None).await?]) };
        let masters = nodes.masters().await?.into_iter();
        masters.map(|address| Ok(Node { client: nodes.client(&address)?, address })).collect()
    }
}

impl SentinelMaster {
    async fn current(&mut self) -> RedisResult<Client> {
        match &self.last {
            Some((at, client)) if at.elapsed() < MASTER_FRESH => Ok(client.clone()),
            _ => {
                let client = self.sentinels.async_get_client().await?;
                self.last = Some((Instant::now(), client.clone()));
                Ok(client)
            }
        }
    }
}

/// `[user:password@]host:port,host:port/master[/db]`.
fn sentinel_client(rest: &str) -> RedisResult<SentinelClient> {
    let invalid = || {
        RedisError::from((
            ErrorKind::InvalidClientConfig,
            "redis-sentinel://host:port,…/master[/db]",
        ))
    };
    let (login, rest) = split_login(rest)?;
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
    if let Some(password) = login.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = login.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    builder.build()
}

/// `[user:password@]host:port,host:port`.
fn cluster_nodes(rest: &str) -> RedisResult<ClusterNodes> {
    let (login, hosts) = split_login(rest)?;
    let mut addresses = std::collections::BTreeSet::new();
    for host in hosts.trim_end_matches('/').split(',') {
        let info = format!("redis://{host}").into_connection_info()?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, "not host:port")));
        };
        addresses.insert(format!("{host}:{port}"));
    }
    Ok(ClusterNodes::new(login, addresses))
}

/// Splits off the login, a password alone or `user:password`.
fn split_login(rest: &str) -> RedisResult<(RedisConnectionInfo, &str)> {
    let Some((login, rest)) = rest.rsplit_once('@') else {
        return Ok((RedisConnectionInfo::default(), rest));
    };
    let separator = if login.contains(':') { "" } else { ":" };
    // As part of a URL, so that it is decoded as in the other schemes.
    let info = format!("redis://{separator}{login}@localhost").into_connection_info()?;
    Ok((info.redis_settings().clone(), rest))
}

fn host_port(text: &str, default_port: u16) -> Option<ConnectionAddr> {
    match text.rsplit_once(':') {
        Some((host, port)) => Some(ConnectionAddr::Tcp(host.to_owned(), port.parse().ok()?)),
        None => Some(ConnectionAddr::Tcp(text.to_owned(), default_port)),
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
            let deployment = Deployment::new(url);
            assert!(deployment.is_ok(), "{url}: {deployment:?}");
            assert!(!format!("{deployment:?}").contains("secret"));
        }
    }

    #[test]
    fn login_is_decoded() {
        let login = |rest| {
            let (login, hosts) = split_login(rest).unwrap();
            assert_eq!(hosts, "a:1/main");
            (login.username().map(str::to_owned), login.password().map(str::to_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(login("us%65r:p%40ss%2Fword@a:1/main"), (some("user"), some("p@ss/word")));
        assert_eq!(login(":secret@a:1/main"), (None, some("secret")));
        assert_eq!(login("secret@a:1/main"), (None, some("secret")));
        assert_eq!(login("a:1/main"), (None, None));
    }

    #[tokio::test]
    async fn incomplete_urls_are_rejected() {
        for url in
            ["http://a", "redis-sentinel://a:1", "redis-sentinel:///main", "redis-sentinel://a/m/x"]
        {
            assert!(Deployment::new(url).is_err(), "{url}");
        }
    }
}
