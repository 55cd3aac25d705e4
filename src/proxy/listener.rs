//! The ports: one to start at, one for each broker, one for each diskless node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};

use super::Proxy;
use super::client_zone::ClientOrigin;
use super::connection::{self, Endpoint};
use crate::tasks;

/// Client connections of a replica.
const CONNECTIONS_MAX: usize = 20_000;

/// A port that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address} for {endpoint:?}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    endpoint: Endpoint,
    source: std::io::Error,
}

/// Opens ports and serves what comes in.
#[derive(Debug)]
pub struct Listeners {
    proxy: Arc<Proxy>,
    drain: watch::Receiver<bool>,
    connections: Arc<Semaphore>,
    /// Brokers whose endpoint is open.
    brokers: Mutex<BTreeSet<i32>>,
}

impl Listeners {
    /// Opens nothing yet. When `drain` turns true, no more connections are taken.
    pub fn new(proxy: Arc<Proxy>, drain: watch::Receiver<bool>) -> Self {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { proxy, drain, connections, brokers: Mutex::default() }
    }

    /// Opens the ports at which clients start. Last, for they are told of all the others.
    pub async fn open_bootstrap(&self) -> Result<(), ListenError> {
        let settings = &self.proxy.settings;
        self.open(Endpoint::Bootstrap, settings.bootstrap_port, None).await?;
        for (port, zone) in &settings.client_zones.ports {
            self.open(Endpoint::Bootstrap, *port, Some(Arc::clone(zone))).await?;
        }
        Ok(())
    }

    /// Opens the ports of so many diskless nodes, as far as they are not open yet.
    pub async fn open_nodes(&self, nodes: u16) -> Result<(), ListenError> {
        let _one_at_a_time = self.brokers.lock().await;
        for k in self.proxy.topology.open_node_count()..nodes {
            let port = self.proxy.settings.node_ports.saturating_add(k);
            self.open(Endpoint::Node(k), port, None).await?;
            self.proxy.topology.set_open_node_count(k + 1);
        }
        Ok(())
    }

    /// Opens the endpoints of brokers that have none yet. One that cannot be opened is left out,
    /// loudly: the others still serve.
    pub async fn open_brokers(&self) {
        let mut open = self.brokers.lock().await;
        for &id in self.proxy.cluster.view().brokers.keys() {
            if open.contains(&id) {
                continue;
            }
            let Some(port) = self.proxy.broker_port(id) else {
                tracing::error!(
                    broker = id,
                    "no port for this broker: listeners.brokerPorts + {id} is taken by another \
                     listener or above 65535; choose another listeners.brokerPorts"
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

    /// Returns when no connection is left.
    pub async fn drained(&self) {
        // All permits are only there when no connection holds one.
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let _none_left = self.connections.acquire_many(all).await;
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
        let (proxy, drain) = (Arc::clone(&self.proxy), self.drain.clone());
        let connections = Arc::clone(&self.connections);
        let socket = ListenerSocket { endpoint, zone, listener };
        tasks::spawn_critical("listener", accept(proxy, socket, drain, connections));
        Ok(())
    }
}

/// An open port.
struct ListenerSocket {
    endpoint: Endpoint,
    /// The zone whose clients come here.
    zone: Option<Arc<str>>,
    listener: TcpListener,
}

async fn accept(
    proxy: Arc<Proxy>,
    socket: ListenerSocket,
    mut drain: watch::Receiver<bool>,
    connections: Arc<Semaphore>,
) {
    let ListenerSocket { endpoint, zone, listener } = socket;
    loop {
        // Waiting connections stay in the kernel's bounded backlog.
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            _ = drain.wait_for(|drain| *drain) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let client = ClientOrigin { address: peer.ip(), port_zone: zone.clone() };
                let session =
                    connection::serve(Arc::clone(&proxy), endpoint, stream, client, drain.clone());
                tasks::spawn("session", async move {
                    session.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: connections must end first.
                tracing::warn!(%error, ?endpoint, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
