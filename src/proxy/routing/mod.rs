//! Routing of clients: the diskless nodes of all zones, and the way to brokers.

pub mod client_zone;
pub mod node_ids;
pub(crate) mod router;
pub mod topology;
