//! The zone cache: within a zone an object's bytes leave object storage once, and replicas ask each
//! other for them (`docs/adr/0012-the-zone-cache.md`).
//!
//! Invariant: a peer is never needed. Whatever it does wrong costs latency, and then the store is
//! asked; and what a peer is asked for it never asks another peer for.

mod auth;
mod client;
mod ring;
mod server;
mod source;

use std::time::Duration;

pub use auth::PeerKey;
pub use ring::PeerRing;
pub use server::PeerServer;
pub use source::ZoneSource;

/// The longest range that a peer is asked for, in bytes; a longer one is read from the store.
const RANGE_BYTES_MAX: u64 = 64 << 20;
/// How long a connection may lie idle until the asking side closes it; before the other one does.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How old a request may be, in either direction, for clocks differ.
const AGE_MAX: Duration = Duration::from_secs(60);
/// A body begins with the CRC32C of the rest, big-endian: it is not known yet when the head is sent.
const CHECKSUM_BYTES: usize = 4;
