//! Tests the engine's public API above faulty stores and coordinators, in virtual time.

mod batches;
mod catch_up;
mod cold_reads;
mod crash;
mod failure_modes;
mod fetch;
mod fetch_events;
mod flush_rate;
mod harness;
mod history;
mod indeterminate;
mod list_offsets;
mod lossy;
mod memory_bounds;
mod ordering;
mod power_loss;
mod produce;
mod refusals;
mod shard_failures;
mod shards;
mod tailing_readers;
mod takeover;
mod two_shards;
mod uploads;
mod zone_cache;
mod zone_harness;
