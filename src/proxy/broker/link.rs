//! The connection to a broker that belongs to one client.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;

use super::client_status::ClientStatus;
use super::login_session::LoginSession;
use super::response_queue::{BrokerReadHalf, PendingResponse, ResponseQueue};
use crate::engine::produce::ConnectionId;
use crate::metrics::{ApiKind, Direction, TrafficPath};
use crate::proxy::context::Proxy;
use crate::proxy::endpoint::Endpoint;
use crate::proxy::response::CloseReason;
use crate::proxy::socket::BROKER_WRITE_TIMEOUT;
use crate::proxy::upstream::connection::connect;

struct BrokerWriteHalf {
    write: OwnedWriteHalf,
    /// Cleared by the write loop when the broker closes an idle connection.
    alive: Arc<AtomicBool>,
    /// Counts sent bytes if the broker is in another zone.
    cross_zone: Option<Counter>,
    /// The broker's id, if the address is one that brokers advertise.
    id: Option<i32>,
}

/// The client's own connection to a broker, opened by the first request that needs it.
pub(crate) struct BrokerLink {
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    connection: ConnectionId,
    responses: ResponseQueue,
    broker: Option<BrokerWriteHalf>,
    /// The number of connections so far: each begins with another broker.
    attempts: usize,
    /// Shared with the write loop.
    login: Arc<LoginSession>,
    status: Arc<ClientStatus>,
}

impl BrokerLink {
    pub(crate) fn new(
        proxy: Arc<Proxy>,
        endpoint: Endpoint,
        connection: ConnectionId,
        responses: ResponseQueue,
        login: Arc<LoginSession>,
        status: Arc<ClientStatus>,
    ) -> Self {
        Self { proxy, endpoint, connection, responses, broker: None, attempts: 0, login, status }
    }

    /// Returns the queue of responses to the client.
    pub(crate) fn responses(&self) -> &ResponseQueue {
        &self.responses
    }

    /// Returns the login of the client.
    pub(crate) fn login(&self) -> &Arc<LoginSession> {
        &self.login
    }

    /// Returns the broker to which the client is connected, once that is known.
    pub(super) fn broker_id(&self) -> Option<i32> {
        self.broker.as_ref().and_then(|broker| broker.id)
    }

    /// Returns what the loops know of the client.
    pub(super) fn status(&self) -> &ClientStatus {
        &self.status
    }

    /// Returns whether another connection may take the place of a lost one.
    pub(super) fn may_reconnect(&self) -> bool {
        matches!(self.endpoint, Endpoint::Node(_)) && !self.login.is_authenticated()
    }

    /// Sends frames to the broker; connects first if necessary.
    ///
    /// # Errors
    /// No broker is reachable, or the connection that the client authenticated is lost.
    pub(super) async fn send(&mut self, frames: &[Bytes]) -> Result<(), CloseReason> {
        match &self.broker {
            Some(broker) if broker.alive.load(Ordering::Acquire) => {}
            Some(_) if self.login.is_authenticated() => {
                let lost = "the broker connection that the client authenticated is lost";
                return Err(CloseReason::Upstream(lost.to_owned()));
            }
            Some(_) | None => self.connect().await?,
        }
        let Some(broker) = &mut self.broker else {
            return Err(CloseReason::Internal("no broker connection".to_owned()));
        };
        for frame in frames {
            if let Err(error) = write_frame(&mut broker.write, frame).await {
                broker.alive.store(false, Ordering::Release);
                return Err(CloseReason::Upstream(format!("broker: {error}")));
            }
            if let Some(cross_zone) = &broker.cross_zone {
                cross_zone.inc_by(frame.len() as u64);
            }
        }
        Ok(())
    }

    /// Connects to the endpoint's broker, or to any broker on the bootstrap port and on diskless
    /// nodes.
    async fn connect(&mut self) -> Result<(), CloseReason> {
        let addresses = match self.endpoint {
            Endpoint::Broker(id) => {
                let view = self.proxy.cluster.view();
                view.brokers.get(&id).map(|broker| broker.address()).into_iter().collect::<Vec<_>>()
            }
            // Connections that may go to any broker are spread over all of them.
            Endpoint::Bootstrap | Endpoint::Node(_) => {
                let first = (self.connection.0 as usize).wrapping_add(self.attempts);
                self.proxy.cluster.addresses_from(first)
            }
        };
        self.attempts += 1;
        let mut last = "no such broker".to_owned();
        for address in addresses {
            match connect(&address).await {
                Ok(stream) => {
                    let (read, write) = stream.into_split();
                    let alive = Arc::new(AtomicBool::new(true));
                    let (sent, received) = cross_zone_counters(&self.proxy, &address).unzip();
                    let id = broker_at(&self.proxy, &address);
                    let read_half = BrokerReadHalf {
                        read,
                        address,
                        alive: Arc::clone(&alive),
                        cross_zone: received,
                    };
                    self.broker = Some(BrokerWriteHalf { write, alive, cross_zone: sent, id });
                    return self.responses.push(PendingResponse::BrokerConnected(read_half)).await;
                }
                Err(error) => {
                    self.proxy.cluster.note_silent(&address);
                    last = error.to_string();
                }
            }
        }
        Err(CloseReason::Upstream(last))
    }
}

/// Writes a frame to a broker.
///
/// # Errors
/// The connection is lost, or the broker accepts no byte for [`BROKER_WRITE_TIMEOUT`].
async fn write_frame(write: &mut OwnedWriteHalf, mut frame: &[u8]) -> io::Result<()> {
    while !frame.is_empty() {
        let written = timeout(BROKER_WRITE_TIMEOUT, write.write(frame)).await;
        match written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            bytes => frame = &frame[bytes..],
        }
    }
    Ok(())
}

/// Returns the id of the broker that advertises an address.
fn broker_at(proxy: &Proxy, address: &str) -> Option<i32> {
    let view = proxy.cluster.view();
    view.brokers.iter().find(|(_, broker)| broker.address() == address).map(|(id, _)| *id)
}

/// Returns the counters of bytes sent to a broker in another zone and received from it; `None` if
/// the broker is in this zone or has no rack.
fn cross_zone_counters(proxy: &Proxy, address: &str) -> Option<(Counter, Counter)> {
    let view = proxy.cluster.view();
    let broker = view.brokers.values().find(|broker| broker.address() == address)?;
    let rack = broker.rack.as_ref()?;
    (*rack != proxy.settings.zone).then(|| {
        let clients = &proxy.metrics.clients;
        let counter = |direction| {
            clients.cross_zone_bytes(TrafficPath::replica_broker, ApiKind::any, direction)
        };
        (counter(Direction::sent), counter(Direction::received))
    })
}
