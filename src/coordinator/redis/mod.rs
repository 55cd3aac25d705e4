//! The batch coordinator in Redis: one Lua script for each transition.
//!
//! Partitions are distributed over shards, each in one hash slot; a commit runs one script for
//! each shard that it concerns. `docs/redis-schema.md` describes the layout, `keys.rs` lists every
//! key.
//!
//! | Module | Contents |
//! |---|---|
//! | [`RedisCoordinator`] | the adapter, and how it attaches; `operations.rs` has the port's operations |
//! | `shards.rs` | calls of scripts, with the checks that each call makes |
//! | `client.rs` | runs a script on the server of a hash tag; deadlines, `WAIT` |
//! | `lanes.rs` | connections: one for each shard and kind of call |
//! | `deployment.rs`, `cluster.rs`, `node.rs` | one server, Sentinel, Cluster; who owns a slot |
//! | `scripts.rs`, `scripts/*.lua` | the transitions |
//! | `keys.rs`, `codec.rs`, `reply.rs` | keys, packed values, replies |
//! | `events.rs` | subscriptions to the streams |
//! | `sweep.rs` | deletes expired producers |
//! | [`loss_detection`] | detects a Redis that lost data |
//! | [`eviction`] | eviction policies, which must be `noeviction` |
//! | [`diagnostics`] | for `odradek doctor` |

mod client;
mod cluster;
mod codec;
mod coordinator;
mod deployment;
pub mod diagnostics;
mod events;
pub mod eviction;
mod keys;
mod lanes;
pub mod loss_detection;
mod node;
mod operations;
mod reply;
mod scripts;
mod settings;
mod shards;
mod sweep;

pub use coordinator::RedisCoordinator;
pub use settings::{RedisSettings, SHARDS_CLUSTER, SHARDS_DEFAULT, SHARDS_MAX, default_shards};
pub use sweep::SweepPosition;
