//! Listens on the bootstrap port, a port for each broker and a port for each diskless node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::announced_client::{announces, read_announced};
use super::audit::{AuditEvent, AuditLog, AuditSubject};
use super::client_addresses::{ClientAddresses, CountedConnection};
use super::connection;
use super::context::Proxy;
use super::endpoint::Endpoint;
use super::routing::client_zone::ClientOrigin;
use super::socket;
use crate::accept::{Connections, LogLimit};
use crate::metrics::Refusal;

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
    admission: Arc<Admission>,
    /// Brokers whose endpoint is open.
    brokers: Mutex<BTreeSet<i32>>,
}

impl Listeners {
    /// Opens nothing yet. Once `shutdown` is cancelled, no connection is accepted and sessions
    /// read no further requests.
    pub fn new(proxy: Arc<Proxy>, shutdown: CancellationToken) -> Self {
        let (limits, metrics) = (proxy.settings.connections, &proxy.metrics.clients);
        metrics.connections_max.set(i64::try_from(limits.total).unwrap_or(i64::MAX));
        let audit = Arc::clone(&proxy.audit);
        let connections = Connections::new(limits.total, shutdown)
            .count_refused(metrics.connections_refused(Refusal::total_limit))
            .on_refusal(move |peer| audit_refusal(&audit, peer, "too many connections"));
        let admission = Arc::new(Admission {
            addresses: ClientAddresses::new(limits.per_address),
            per_address: limits.per_address,
            refused: metrics.connections_refused(Refusal::address_limit),
            refusals: LogLimit::default(),
            balancers: proxy.settings.proxy_protocol_from.clone(),
            headers_rejected: metrics.connections_refused(Refusal::proxy_header),
            rejections: LogLimit::default(),
            audit: Arc::clone(&proxy.audit),
        });
        Self { proxy, connections, admission, brokers: Mutex::default() }
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
        let admission = Arc::clone(&self.admission);
        self.connections.accept("session", listener, move |mut stream, peer| {
            let port_zone = zone.clone();
            let (proxy, shutdown) = (Arc::clone(&proxy), shutdown.clone());
            let admission = Arc::clone(&admission);
            async move {
                let admitted = admission.admit(&mut stream, peer.ip()).await;
                let Some((address, _counted)) = admitted else { return };
                let client = ClientOrigin { address, port_zone };
                connection::serve(proxy, endpoint, stream, client, shutdown).await;
            }
        });
        Ok(())
    }
}

fn audit_refusal(audit: &AuditLog, client: IpAddr, reason: &str) {
    audit.record(&AuditSubject::of_address(client), &AuditEvent::Connection { reason });
}

/// Decides about a connection before a request is read from it.
#[derive(Debug)]
struct Admission {
    addresses: Arc<ClientAddresses>,
    per_address: usize,
    refused: Counter,
    refusals: LogLimit,
    /// The networks whose connections begin with a header of the PROXY protocol.
    balancers: Vec<IpNet>,
    headers_rejected: Counter,
    rejections: LogLimit,
    audit: Arc<AuditLog>,
}

impl Admission {
    /// Prepares the socket, reads who the client is, and counts the connection. Returns `None` if the
    /// connection is lost, has no valid header where it must have one, or is one too many.
    async fn admit(
        &self,
        stream: &mut TcpStream,
        peer: IpAddr,
    ) -> Option<(IpAddr, CountedConnection)> {
        if let Err(error) = socket::prepare_client(stream) {
            tracing::debug!(%peer, %error, "connection lost before it began");
            return None;
        }
        let client = match announces(&self.balancers, peer) {
            true => self.announced(stream, peer).await?,
            false => peer,
        };
        let counted = self.addresses.open(client);
        if counted.is_none() {
            self.refused.inc();
            audit_refusal(&self.audit, client, "too many connections of this address");
            if let Some(refused) = self.refusals.occurred() {
                let max = self.per_address;
                tracing::warn!(%client, max, refused, "connections refused: too many of one address");
            }
        }
        Some((client, counted?))
    }

    /// Returns the address of the client that a load balancer announces.
    async fn announced(&self, stream: &mut TcpStream, peer: IpAddr) -> Option<IpAddr> {
        match read_announced(stream).await {
            Ok(client) => Some(client.unwrap_or(peer)),
            Err(error) => {
                self.headers_rejected.inc();
                audit_refusal(&self.audit, peer, "no valid header of the PROXY protocol");
                if let Some(rejected) = self.rejections.occurred() {
                    tracing::warn!(
                        %peer, %error, rejected,
                        "connections refused: addresses in listeners.proxyProtocolFrom must send a \
                         PROXY protocol header of version 2"
                    );
                }
                None
            }
        }
    }
}
