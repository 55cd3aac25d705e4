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
//! | `client.rs` | connections: one server, Sentinel, Cluster; `WAIT` |
//! | `scripts.rs`, `scripts/*.lua` | the transitions |
//! | `keys.rs`, `codec.rs`, `reply.rs` | keys, packed values, replies |
//! | `events.rs` | subscriptions to the streams |
//! | [`loss_detection`] | detects a Redis that lost data |
//! | [`diagnostics`] | for `odradek doctor` |

mod client;
mod codec;
mod coordinator;
pub mod diagnostics;
mod events;
mod keys;
pub mod loss_detection;
mod operations;
mod reply;
mod scripts;
mod settings;
mod shards;

pub use coordinator::RedisCoordinator;
pub use settings::{RedisSettings, SHARDS_DEFAULT};
