//! The composition root: settings and components become a running replica.
//!
//! Only this folder, `doctor` and `commands` know concrete adapters. [`start`] builds a replica
//! subsystem by subsystem, each in a file of its own.

mod background;
mod convert;
mod coordinator;
mod cut_off;
mod descriptors;
mod embedded;
mod eviction;
mod gauges;
mod kafka_login;
mod lease;
mod membership;
mod metadata_health;
mod object_store;
mod process_memory;
pub mod process_positions;
mod proxy;
mod recovery;
mod reload;
mod startup;
mod zone_cache;

pub(crate) use descriptors::{OpenFiles, connection_limits};
pub(crate) use kafka_login::kafka_login;
pub(crate) use process_memory::ProcessMemory;
pub(crate) use reload::{ReloadTargets, watch_config_file};
pub(crate) use startup::start;
