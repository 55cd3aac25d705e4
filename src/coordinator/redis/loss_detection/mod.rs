//! Detects a Redis that lost data, before any of its metadata is served (ADR 14).
//!
//! A failover to a lagging replica, a restart from an older file, a restored snapshot and a
//! FLUSHALL all leave a Redis that answers normally and lacks acknowledged commits. Such
//! a Redis must not assign offsets, because it would assign some of them twice.
//!
//! # How it works
//! Every start of a master and every promotion of a replica draws a new *replication id*
//! (`master_replid`). Each shard, and the registry, stores the replication id under which it was
//! last verified. Every script compares that id with the server's own and refuses to run when they
//! differ. Verification then collects the *observed positions* of all replicas: the greatest
//! sequence that each of them saw under each replication id. A shard that lacks one of these
//! positions is quarantined.
//!
//! Each shard is in one of four states. The state is stored in Redis, so that all replicas agree.
//!
//! ```text
//!                     first replica              every expected replica
//!                     reports                    reported, or a lease passed
//!   +------------+                +-----------+                       +----------+
//!   | Unverified | -------------> | Verifying | --------------------> | Verified |
//!   +------------+                +-----------+                       +----------+
//!     ^        |                    |       |                           |      |
//!     |        |                    |       |                           |      |
//!     +--------|--------------------+-------|---------------------------+      |
//!     ^        |    replication id changed  |                                  |
//!     |        |                            |  a reported position is missing, |
//!     |        v                            v  or the sequence went back       v
//!     |      +-----------------------------------------------------------------------+
//!     |      | Quarantined: no operation runs; the mark stays in this data set       |
//!     |      +-----------------------------------------------------------------------+
//!     |                                     :
//!     +.....................................+
//!       a Redis that has the data, and therefore no mark, takes its place
//! ```
//!
//! | State | `meta` of the shard | Result of operations |
//! |---|---|---|
//! | Unverified | `replication_id` is not the server's | `{'unverified'}`; the caller starts verification |
//! | Verifying | as Unverified, and the hash `verifying` names the replicas that reported | [`Unavailable`] until it is over |
//! | Verified | `replication_id` is the server's | normally, to callers that reported |
//! | Quarantined | `quarantined` is set | [`MetadataLost`] |
//!
//! # Parts
//! - [`observed_position`]: what a replica saw, and the port that stores it outside of Redis
//! - [`object_store`]: the adapter of that port, one JSON object for each replica
//! - [`recorded`]: the positions up to which a loss is repaired instead of refused
//! - `verification`: reports positions and waits for the other replicas
//! - `monitor`: periodic checks and the saving of positions
//! - `replication_id.lua`, `verify.lua`: the transitions; `scripts/prelude.lua` is the check in
//!   front of every other script
//!
//! [`Unavailable`]: crate::coordinator::CoordinatorError::Unavailable
//! [`MetadataLost`]: crate::coordinator::CoordinatorError::MetadataLost

pub(super) mod monitor;
pub mod object_store;
pub mod observed_position;
pub mod recorded;
mod verification;
