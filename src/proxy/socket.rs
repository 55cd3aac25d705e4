//! Options of sockets, which let the kernel end connections whose peer has vanished.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Time after which writes to a broker fail if it has accepted no byte. Longer than a broker takes to
/// read on while it throttles a client or waits for replicas; a client that does not wait as long
/// ends the connection itself.
pub(super) const BROKER_WRITE_TIMEOUT: Duration = Duration::from_secs(120);

/// The number of probes without a response after which a client is gone.
const CLIENT_PROBES: u32 = 4;

/// Prepares the socket of a client. A client whose host has vanished is noticed after two minutes.
///
/// `TCP_USER_TIMEOUT` is not set: it also ends connections of consumers that leave their receive
/// window closed while they process records, which a broker keeps. The idle timeout ends those.
///
/// # Errors
/// The connection is lost.
pub(super) fn prepare_client(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(CLIENT_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Prepares the socket of a broker. A broker that vanished, or that reads nothing, is noticed after
/// [`BROKER_WRITE_TIMEOUT`].
///
/// # Errors
/// The connection is lost.
pub(super) fn prepare_broker(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(BROKER_WRITE_TIMEOUT))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn sockets_of_both_sides_are_probed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (broker, client) = tokio::join!(connecting, listener.accept());
        let (broker, (client, _)) = (broker.unwrap(), client.unwrap());
        prepare_client(&client).unwrap();
        prepare_broker(&broker).unwrap();
        for stream in [&client, &broker] {
            assert!(SockRef::from(stream).keepalive().unwrap() && stream.nodelay().unwrap());
        }
        #[cfg(target_os = "linux")]
        {
            let timeout = |stream| SockRef::from(stream).tcp_user_timeout().unwrap();
            assert_eq!(timeout(&broker), Some(BROKER_WRITE_TIMEOUT));
            assert_eq!(timeout(&client), None);
        }
    }
}
