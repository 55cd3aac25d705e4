//! One client connection: requests in, answers out in the same order.
//!
//! Two loops share one task. The reader takes frames, decides what becomes of each, and queues
//! what is owed; the writer pays in that order. A connection to a broker, where one is needed, is
//! this client's own: what the broker knows of the connection (authentication above all) is true
//! of the client.

mod broker_link;
mod broker_reader;
mod cross_zone;
mod outbound;
mod read_loop;
mod write_loop;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(super) use broker_link::{BrokerLink, TopicPermissions};

use cross_zone::CrossZoneTraffic;

use super::Proxy;
use super::client_zone::ClientOrigin;
use super::handlers::ResponseEdit;
use super::response::{CloseReason, ResponseFrame};
use crate::metrics::EndpointKind;

/// Requests of one connection that may wait for their answers; the socket is not read beyond.
const PENDING_MAX: usize = 64;

/// Where a client connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The bootstrap port: any broker behind it.
    Bootstrap,
    /// The endpoint of one broker.
    Broker(i32),
    /// Diskless node `k` of this zone.
    Node(u16),
}

impl Endpoint {
    pub(super) fn kind(self) -> EndpointKind {
        match self {
            Self::Bootstrap => EndpointKind::bootstrap,
            Self::Broker(_) => EndpointKind::classic,
            Self::Node(_) => EndpointKind::diskless,
        }
    }
}

/// What the writer owes, in the order of the requests.
pub(super) enum PendingResponse {
    /// Answers come from this broker connection from here on; whether it lives, and the counter
    /// of its bytes where they cross zones.
    BrokerConnected(OwnedReadHalf, Arc<AtomicBool>, Option<Counter>),
    /// The next answer of the broker, unread.
    Forward { api_key: i16, correlation_id: i32 },
    /// The next answer of the broker, edited.
    Edit { api_key: i16, correlation_id: i32, edit: ResponseEdit },
    /// The next answer of the broker is to a question of ours; without one the sender is dropped.
    Rpc { correlation_id: i32, reply: oneshot::Sender<Bytes> },
    /// An answer of ours.
    Local { api_key: i16, response: BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>> },
    /// The same, begun when everything before is with the client's socket.
    Deferred {
        api_key: i16,
        response: BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>>,
    },
    /// Close the connection once all before is answered.
    CloseReason(CloseReason),
}

/// Serves a connection until either side ends it or the replica drains.
pub async fn serve(
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    stream: TcpStream,
    client: ClientOrigin,
    shutdown: CancellationToken,
) {
    let peer = client.address;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection lost before it began");
        return;
    }
    let (client_read, client_write) = stream.into_split();
    let (sender, receiver) = mpsc::channel(PENDING_MAX);
    let metrics = Arc::clone(&proxy.metrics);
    let authenticated = Arc::new(AtomicBool::new(false));
    let cross_zone = Arc::new(CrossZoneTraffic::new(&metrics, endpoint));
    let client_write = outbound::ClientWriter::new(client_write, Arc::clone(&cross_zone));
    let writer =
        write_loop::WriteLoop::new(endpoint, client_write, receiver, Arc::clone(&authenticated));
    let connection = proxy.next_connection_id();
    let broker = BrokerLink::new(Arc::clone(&proxy), endpoint, connection, sender, authenticated);
    let reader = {
        let client = read_loop::ClientReader { read: client_read, client, cross_zone };
        read_loop::ReadLoop::new(proxy, endpoint, connection, client, broker, shutdown)
    };

    metrics.clients.connection_opened(endpoint.kind());
    let mut writing = std::pin::pin!(writer.run());
    let ended = tokio::select! {
        biased;
        result = &mut writing => result,
        // The client is gone for good: nobody is left to answer.
        result = reader.run() => match result {
            read_loop::ReadEnd::Disconnected => Ok(()),
            // What was asked before is still answered.
            read_loop::ReadEnd::Stopped => writing.await,
        },
    };
    metrics.clients.connection_closed(endpoint.kind());
    match ended {
        Ok(()) => tracing::debug!(%peer, ?endpoint, "connection closed"),
        Err(error @ CloseReason::Client(_)) => {
            tracing::info!(%peer, ?endpoint, %error, "connection refused");
        }
        Err(error @ (CloseReason::Upstream(_) | CloseReason::UnacknowledgedFailure)) => {
            tracing::debug!(%peer, ?endpoint, %error, "connection closed");
        }
        Err(error @ CloseReason::Internal(_)) => {
            tracing::error!(%peer, ?endpoint, %error, "connection closed")
        }
    }
}
