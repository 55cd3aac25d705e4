//! Limits and constants of the peer protocol, shared by client and server.

use std::time::Duration;

/// Longest range that is requested from a peer, in bytes. Longer ones are read from the store.
pub(super) const RANGE_BYTES_MAX: u64 = 64 << 20;
/// Idle time after which the client closes a connection, before the server does.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(30);
/// Maximum difference between a request's time and the server's, because clocks differ.
pub(super) const AGE_MAX: Duration = Duration::from_secs(60);
/// A body starts with the CRC32C of the rest, big-endian: it is not known yet when the head is
/// sent.
pub(super) const CHECKSUM_BYTES: usize = 4;

/// Target of the request for the age of a peer's last renewal.
pub(super) const LEASE_TARGET: &str = "/lease";
