//! Responses that a client still has to get, in the order of its requests.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

use crate::proxy::response::{CloseReason, ResponseEdit, ResponseFrame};

/// Responses of one connection that may be outstanding. While the queue is full, the client's
/// socket is not read.
const PENDING_MAX: usize = 64;

/// A response that the proxy computes; `None` if the client expects none.
pub(crate) type LocalResponse = BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>>;

/// Next step of the write loop.
pub(crate) enum PendingResponse {
    /// Reads responses of the broker from this connection from here on.
    BrokerConnected(BrokerReadHalf),
    /// Passes the broker's next response through, undecoded.
    Forward { api_key: i16, correlation_id: i32 },
    /// Edits the broker's next response.
    Edit { api_key: i16, correlation_id: i32, edit: ResponseEdit },
    /// Hands the broker's next response to a request of the proxy itself, once it has arrived; later
    /// responses of the proxy do not wait for it. Drops the sender if there is no response.
    Rpc { correlation_id: i32, sender: oneshot::Sender<Bytes> },
    /// Writes a response of the proxy.
    Local { api_key: i16, response: LocalResponse },
    /// Writes a response of the proxy that is not computed before the client's socket has taken
    /// everything earlier.
    Deferred { api_key: i16, response: LocalResponse },
    /// Closes the connection after everything earlier is written.
    Close(CloseReason),
}

/// The reading half of a connection to a broker.
pub(crate) struct BrokerReadHalf {
    pub(crate) read: OwnedReadHalf,
    /// The broker's `host:port`.
    pub(crate) address: String,
    /// Cleared when the broker closes the connection.
    pub(crate) alive: Arc<AtomicBool>,
    /// Counts received bytes if the broker is in another zone.
    pub(crate) cross_zone: Option<Counter>,
}

/// The sending side of the queue.
#[derive(Clone, Debug)]
pub(crate) struct ResponseQueue(mpsc::Sender<PendingResponse>);

impl ResponseQueue {
    /// Creates a queue and its receiving side.
    pub(crate) fn new() -> (Self, mpsc::Receiver<PendingResponse>) {
        let (sender, receiver) = mpsc::channel(PENDING_MAX);
        (Self(sender), receiver)
    }

    /// Appends a response; waits while the queue is full.
    ///
    /// # Errors
    /// The write loop has ended.
    pub(crate) async fn push(&self, response: PendingResponse) -> Result<(), CloseReason> {
        let sent = self.0.send(response).await;
        sent.map_err(|_| CloseReason::Upstream("the connection is closing".to_owned()))
    }
}
