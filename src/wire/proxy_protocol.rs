//! The header of the PROXY protocol, version 2, with which a load balancer announces the address of
//! the client whose connection it forwards. Sans-IO: the caller reads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first bytes of a header.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, the version and the command, the family, and the length of what follows.
const FIXED_BYTES: usize = 16;
/// The largest length of what follows: addresses, and what load balancers add to them.
const REST_BYTES_MAX: usize = 2 << 10;
/// The most bytes of a header.
pub const HEADER_BYTES_MAX: usize = FIXED_BYTES + REST_BYTES_MAX;

/// The source of a connection according to a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncedSource {
    /// The load balancer's own connection, such as a health check, or one whose source it does not
    /// know: the address of the socket counts.
    Socket,
    /// The client's address.
    Client(IpAddr),
}

/// Reason that bytes are not a header. The connection has to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Other bytes than a header's: the load balancer does not send one, or one of version 1.
    #[error("no PROXY protocol header of version 2")]
    Signature,
    /// Another version.
    #[error("PROXY protocol version {0}: expected 2")]
    Version(u8),
    /// An unknown command.
    #[error("PROXY protocol command {0}: expected LOCAL (0) or PROXY (1)")]
    Command(u8),
    /// A protocol other than TCP over IPv4 or IPv6.
    #[error("PROXY protocol family {0:#04x}: expected TCP over IPv4 (0x11) or IPv6 (0x21)")]
    Family(u8),
    /// A length that cannot hold the addresses, or is over the limit.
    #[error(
        "PROXY protocol header of {0} bytes after the first 16: expected its addresses, and at most {REST_BYTES_MAX}"
    )]
    Length(usize),
}

/// Returns the length of the header at the beginning of a stream and the source that it announces, or
/// `None` if more bytes are needed.
///
/// # Errors
/// [`HeaderError`] as soon as the bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, AnnouncedSource)>, HeaderError> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(HeaderError::Signature);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., version_and_command, family, length_high, length_low] = *fixed;
    let (version, command) = (version_and_command >> 4, version_and_command & 0xf);
    if version != 2 {
        return Err(HeaderError::Version(version));
    }
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if length > REST_BYTES_MAX {
        return Err(HeaderError::Length(length));
    }
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let short = HeaderError::Length(length);
    let source = match (command, family) {
        (0, _) | (1, 0) => AnnouncedSource::Socket,
        // Source and destination address, source and destination port.
        (1, 0x11) if length < 12 => return Err(short),
        (1, 0x11) => {
            let (source, _) = rest.split_first_chunk::<4>().ok_or(short)?;
            AnnouncedSource::Client(IpAddr::V4(Ipv4Addr::from(*source)))
        }
        (1, 0x21) if length < 36 => return Err(short),
        (1, 0x21) => {
            let (source, _) = rest.split_first_chunk::<16>().ok_or(short)?;
            AnnouncedSource::Client(IpAddr::V6(Ipv6Addr::from(*source)))
        }
        (1, family) => return Err(HeaderError::Family(family)),
        (command, _) => return Err(HeaderError::Command(command)),
    };
    Ok(Some((FIXED_BYTES + length, source)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x20 | command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    fn addresses(bytes: usize, more: usize) -> Vec<u8> {
        (1..=bytes as u8).chain(std::iter::repeat_n(0xee, more)).collect()
    }

    #[test]
    fn announces_clients_by_ipv4_and_ipv6() {
        let v4 = AnnouncedSource::Client("1.2.3.4".parse().unwrap());
        assert_eq!(parse(&header(1, 0x11, &addresses(12, 0))), Ok(Some((28, v4))));
        // What load balancers add is skipped, and what the client sends is not part of it.
        let mut long = header(1, 0x11, &addresses(12, 100));
        long.extend(b"\0\0\0\x10");
        assert_eq!(parse(&long), Ok(Some((128, v4))));
        let v6 = AnnouncedSource::Client("102:304:506:708:90a:b0c:d0e:f10".parse().unwrap());
        assert_eq!(parse(&header(1, 0x21, &addresses(36, 7))), Ok(Some((59, v6))));
    }

    #[test]
    fn own_connections_of_a_load_balancer_announce_nothing() {
        for (command, family) in [(0, 0), (0, 0x11), (0, 0x31), (1, 0)] {
            let parsed = parse(&header(command, family, &[]));
            assert_eq!(parsed, Ok(Some((16, AnnouncedSource::Socket))));
        }
    }

    #[test]
    fn rejects_what_is_no_header() {
        assert_eq!(parse(b"PROXY TCP4 1.2.3.4"), Err(HeaderError::Signature));
        assert_eq!(parse(&[0, 0, 0, 4]), Err(HeaderError::Signature));
        let mut version = header(1, 0x11, &addresses(12, 0));
        version[12] = 0x11;
        assert_eq!(parse(&version), Err(HeaderError::Version(1)));
        assert_eq!(parse(&header(2, 0x11, &addresses(12, 0))), Err(HeaderError::Command(2)));
        assert_eq!(parse(&header(1, 0x12, &addresses(12, 0))), Err(HeaderError::Family(0x12)));
        assert_eq!(parse(&header(1, 0x31, &addresses(216, 0))), Err(HeaderError::Family(0x31)));
        assert_eq!(parse(&header(1, 0x11, &addresses(11, 0))), Err(HeaderError::Length(11)));
        assert_eq!(parse(&header(1, 0x21, &addresses(35, 0))), Err(HeaderError::Length(35)));
        let long = header(0, 0, &vec![0; REST_BYTES_MAX + 1]);
        assert_eq!(parse(&long[..16]), Err(HeaderError::Length(REST_BYTES_MAX + 1)));
    }

    #[test]
    fn incomplete_headers_need_more_bytes() {
        let whole = header(1, 0x21, &addresses(36, 20));
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Ok(None), "{end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_an_error_or_incomplete(
            mut bytes in prop::collection::vec(any::<u8>(), 0..100),
            signed in any::<bool>(),
        ) {
            if signed {
                bytes.splice(0..0, SIGNATURE.iter().copied());
            }
            if let Ok(Some((length, _))) = parse(&bytes) {
                prop_assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
                // The same result whatever follows.
                prop_assert_eq!(parse(&bytes[..length]), parse(&bytes));
            }
        }
    }
}
