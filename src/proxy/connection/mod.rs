//! One client connection: requests in, responses out in the same order.
//!
//! Two loops share one task. The read loop takes frames, decides what happens to each, and queues
//! the response; the write loop writes the responses in that order. A connection to a broker, if one
//! is needed, belongs to this client alone: what the broker knows of the connection, above all the
//! authentication, is true of the client.

mod broker_side;
mod cross_zone;
mod frame_memory;
mod incoming;
mod login;
mod outbound;
mod read_loop;
mod write_loop;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio_util::sync::CancellationToken;

use self::broker_side::BrokerSide;
use self::cross_zone::CrossZoneTraffic;
use self::outbound::ClientWriter;
use self::read_loop::{ClientReader, ReadEnd, ReadLoop};
use self::write_loop::WriteLoop;
use super::broker::client_status::ClientStatus;
use super::broker::link::BrokerLink;
use super::broker::login_session::LoginSession;
use super::broker::response_queue::ResponseQueue;
use super::broker::session::BrokerSession;
use super::context::Proxy;
use super::endpoint::Endpoint;
use super::response::CloseReason;
use super::routing::client_zone::ClientOrigin;
use crate::metrics::Expiry;

/// Interval at which a connection whose client keeps sending is checked for its end.
const GONE_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which requests that a client sent before it closed the connection may wait to be read.
const GONE_GRACE: Duration = Duration::from_secs(5);

/// Serves a connection until either side ends it or the replica drains.
pub async fn serve(
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    stream: TcpStream,
    client: ClientOrigin,
    shutdown: CancellationToken,
) {
    let peer = client.address;
    let (client_read, client_write) = stream.into_split();
    let client_read = Arc::new(client_read);
    let (responses, receiver) = ResponseQueue::new();
    let metrics = Arc::clone(&proxy.metrics);
    let (login, status) = (Arc::new(LoginSession::default()), Arc::new(ClientStatus::new()));
    let cross_zone = Arc::new(CrossZoneTraffic::new(&metrics, endpoint));
    let client_write = ClientWriter::new(client_write, Arc::clone(&cross_zone));
    let broker = BrokerSide::new(Arc::clone(&proxy.cluster), endpoint, Arc::clone(&login));
    let writer = WriteLoop::new(client_write, receiver, broker, Arc::clone(&status));
    let connection = proxy.next_connection_id();
    let idle_timeout = proxy.settings.idle_timeout;
    let reader = {
        let link = BrokerLink::new(
            Arc::clone(&proxy),
            endpoint,
            connection,
            responses,
            login,
            Arc::clone(&status),
        );
        let broker = BrokerSession::new(Arc::clone(&proxy), link, client.address);
        let client = ClientReader {
            read: Arc::clone(&client_read),
            origin: client,
            cross_zone,
            status: Arc::clone(&status),
        };
        ReadLoop::new(proxy, endpoint, connection, client, broker, shutdown)
    };

    metrics.clients.connection_opened(endpoint.kind());
    let mut writing = std::pin::pin!(writer.run());
    let ended = tokio::select! {
        biased;
        result = &mut writing => result,
        // The client is gone: no response can be delivered.
        result = reader.run() => match result {
            ReadEnd::Disconnected => Ok(()),
            // Requests that were read still get responses.
            ReadEnd::Stopped => tokio::select! {
                biased;
                result = &mut writing => result,
                () = status.idle(idle_timeout) => Ok(()),
                () = client_gone(&client_read, &status) => Ok(()),
            },
        },
        () = client_gone(&client_read, &status) => Ok(()),
        () = status.turn_overdue() => Err(CloseReason::Client(
            "responses are not read while a large request waits for its turn".to_owned(),
        )),
        // Whatever the loops wait for: as a broker does.
        () = status.idle(idle_timeout) => {
            metrics.clients.connection_expired(Expiry::idle);
            Ok(())
        }
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

/// Returns once the client has closed the connection and nothing that it sent before has been read
/// for a while, because the loops wait for something else. No response can be delivered any more.
async fn client_gone(read: &OwnedReadHalf, status: &ClientStatus) {
    loop {
        match read.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(GONE_INTERVAL).await,
            Ok(_) | Err(_) => break,
        }
    }
    tokio::time::sleep(GONE_GRACE).await;
    status.idle(GONE_GRACE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of the task of an idle connection, of which a replica has thousands. What serves a
    /// request is allocated for its duration.
    const TASK_BYTES_MAX: usize = 5 << 10;

    fn future_bytes<F>(
        _serve: impl Fn(Arc<Proxy>, Endpoint, TcpStream, ClientOrigin, CancellationToken) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn task_of_a_connection_is_small() {
        let bytes = future_bytes(serve);
        assert!(bytes <= TASK_BYTES_MAX, "{bytes} bytes");
    }
}
