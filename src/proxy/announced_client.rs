//! Reads the address of a client that a load balancer announces with the PROXY protocol.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::wire::proxy_protocol::{AnnouncedSource, HEADER_BYTES_MAX, HeaderError, parse};

/// Time in which the whole header has to arrive: load balancers send it first thing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of a header that is read first, after which its length is known.
const FIRST_BYTES: usize = 16;

/// Reason that a connection of a load balancer has to close.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnnouncementError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("no PROXY protocol header within {HEADER_TIMEOUT:?}")]
    Timeout,
    #[error("connection lost before the end of the PROXY protocol header: {0}")]
    Io(#[from] io::Error),
}

/// Returns whether connections from an address begin with a header.
pub(super) fn announces(balancers: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    balancers.iter().any(|network| network.contains(&address))
}

/// Reads the header at the beginning of a connection, and not a byte more. Returns the address of the
/// client; `None` if the connection is the load balancer's own.
pub(super) async fn read_announced<R: AsyncRead + Unpin>(
    stream: &mut R,
) -> Result<Option<IpAddr>, AnnouncementError> {
    let read = timeout(HEADER_TIMEOUT, read_header(stream));
    match read.await.map_err(|_| AnnouncementError::Timeout)?? {
        AnnouncedSource::Client(address) => Ok(Some(address)),
        AnnouncedSource::Socket => Ok(None),
    }
}

async fn read_header<R: AsyncRead + Unpin>(
    stream: &mut R,
) -> Result<AnnouncedSource, AnnouncementError> {
    let mut header = [0; HEADER_BYTES_MAX];
    let mut arrived = 0;
    let mut wanted = FIRST_BYTES;
    loop {
        // Other bytes than a header's are noticed before the client sends as many.
        let read = stream.read(&mut header[arrived..wanted]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        arrived += read;
        if let Some((_, source)) = parse(&header[..arrived])? {
            return Ok(source);
        }
        if arrived >= FIRST_BYTES {
            let rest = u16::from_be_bytes([header[FIRST_BYTES - 2], header[FIRST_BYTES - 1]]);
            wanted = FIRST_BYTES + usize::from(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const HEADER: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\x0a\x01\x02\x03\x0a\0\0\x01\x10\0\x23\x84\x04\0\0";

    #[tokio::test]
    async fn header_is_read_in_pieces_and_nothing_behind_it() {
        let (mut balancer, mut replica) = tokio::io::duplex(7);
        let sent = async {
            balancer.write_all(HEADER).await.unwrap();
            balancer.write_all(b"kafka").await.unwrap();
        };
        let (announced, ()) = tokio::join!(
            async {
                let announced = read_announced(&mut replica).await.unwrap();
                let mut behind = [0; 5];
                replica.read_exact(&mut behind).await.unwrap();
                assert_eq!(&behind, b"kafka");
                announced
            },
            sent
        );
        assert_eq!(announced, Some("10.1.2.3".parse().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn header_has_a_deadline() {
        let (mut balancer, mut replica) = tokio::io::duplex(64);
        balancer.write_all(&HEADER[..20]).await.unwrap();
        let read = read_announced(&mut replica).await;
        assert!(matches!(read, Err(AnnouncementError::Timeout)), "{read:?}");
    }

    #[tokio::test]
    async fn other_bytes_are_rejected_at_once() {
        let (mut client, mut replica) = tokio::io::duplex(64);
        client.write_all(&[0, 0, 0, 20]).await.unwrap();
        let read = read_announced(&mut replica).await;
        assert!(matches!(read, Err(AnnouncementError::Header(HeaderError::Signature))), "{read:?}");
    }

    #[test]
    fn networks_contain_addresses_of_dual_stack_sockets() {
        let balancers = ["10.1.0.0/16".parse().unwrap()];
        assert!(announces(&balancers, "10.1.9.9".parse().unwrap()));
        assert!(announces(&balancers, "::ffff:10.1.9.9".parse().unwrap()));
        assert!(!announces(&balancers, "10.2.0.1".parse().unwrap()));
    }
}
