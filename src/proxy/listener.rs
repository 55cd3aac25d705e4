//! Listens on the bootstrap port, a port for each broker and a port for each diskless node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::connection;
use super::context::Proxy;
use super::endpoint::Endpoint;
use super::routing::client_zone::ClientOrigin;
use crate::accept::Connections;

/// The maximum number of client connections of a replica.
const CONNECTIONS_MAX: usize = 20_000;

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address} for {endpoint:?}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    endpoint: Endpoint,
    source: std::io::Error,
}

/// Opens ports and serves the connections that they accept.
#[derive(Debug)]
pub struct Listeners {
    proxy: Arc<Proxy>,
    connections: Connections,
    /// Brokers whose endpoint is open.
    brokers: Mutex<BTreeSet<i32>>,
}

impl Listeners {
    /// Opens nothing yet. Once `shutdown` is cancelled, no connection is accepted and sessions
    /// read no further requests.
    pub fn new(proxy: Arc<Proxy>, shutdown: CancellationToken) -> Self {
        let connections = Connections::new(CONNECTIONS_MAX, shutdown);
        Self { proxy, connections, brokers: Mutex::default() }
    }

    /// Opens the bootstrap ports. Called last, because clients learn the other ports from them.
    pub async fn open_bootstrap(&self) -> Result<(), ListenError> {
        let settings = &self.proxy.settings;
        self.open(Endpoint::Bootstrap, settings.bootstrap_port, None).await?;
        for (port, zone) in &settings.client_zones.ports {
            self.open(Endpoint::Bootstrap, *port, Some(Arc::clone(zone))).await?;
        }
        Ok(())
    }

    /// Opens the ports of the first `nodes` diskless nodes that are not open yet.
    pub async fn open_nodes(&self, nodes: u16) -> Result<(), ListenError> {
        let _one_at_a_time = self.brokers.lock().await;
        for k in self.proxy.topology.open_node_count()..nodes {
            let port = self.proxy.settings.node_ports.saturating_add(k);
            self.open(Endpoint::Node(k), port, None).await?;
            self.proxy.topology.set_open_node_count(k + 1);
        }
        Ok(())
    }

    /// Opens the endpoints of brokers that have none yet. Logs an error for one that cannot be
    /// opened, and opens the others.
    pub async fn open_brokers(&self) {
        let mut open = self.brokers.lock().await;
        for &id in self.proxy.cluster.view().brokers.keys() {
            if open.contains(&id) {
                continue;
            }
            let Some(port) = self.proxy.broker_port(id) else {
                tracing::error!(
                    broker = id,
                    "no port for this broker: listeners.brokerPorts + {id} is at or above \
                     listeners.nodePorts, above 65535, or taken by another listener; raise \
                     listeners.nodePorts, or choose another listeners.brokerPorts"
                );
                continue;
            };
            match self.open(Endpoint::Broker(id), port, None).await {
                Ok(()) => {
                    open.insert(id);
                }
                Err(error) => tracing::error!(broker = id, %error, "broker endpoint not open"),
            }
        }
    }

    /// Waits until the last connection has ended after a shutdown.
    pub async fn drained(&self) {
        self.connections.drained().await;
    }

    async fn open(
        &self,
        endpoint: Endpoint,
        port: u16,
        zone: Option<Arc<str>>,
    ) -> Result<(), ListenError> {
        let address = SocketAddr::new(self.proxy.settings.bind, port);
        let listener = TcpListener::bind(address).await.map_err(|source| ListenError {
            address,
            endpoint,
            source,
        })?;
        tracing::debug!(%address, ?endpoint, "listening");
        let (proxy, shutdown) = (Arc::clone(&self.proxy), self.connections.shutdown().clone());
        self.connections.accept("session", listener, move |stream, peer| {
            let client = ClientOrigin { address: peer.ip(), port_zone: zone.clone() };
            connection::serve(Arc::clone(&proxy), endpoint, stream, client, shutdown.clone())
        });
        Ok(())
    }
}
