//! The zone cache: within a zone, the bytes of an object are fetched from object storage once, and
//! replicas fetch them from each other (`docs/adr/0012-the-zone-cache.md`).
//!
//! Invariants: no read depends on a peer. A peer that fails costs latency, and then the store is
//! read. A replica that serves a peer queries no other peer.

mod auth;
mod client;
mod hosts;
mod protocol;
mod ring;
mod server;
mod source;

pub use self::auth::PeerKey;
pub use self::hosts::ZoneHosts;
pub use self::ring::PeerRing;
pub use self::server::PeerServer;
pub use self::source::ZoneSource;
