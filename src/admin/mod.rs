//! The admin port: probes, metrics, and the console that shows what a replica does and costs.

mod console;
mod readiness;
mod render;
mod server;
mod snapshot;
pub mod status;
mod topic_sizes;

pub use console::Console;
pub use readiness::Readiness;
pub use server::start;
