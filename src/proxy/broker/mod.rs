//! A client's own connection to a broker: requests are forwarded over it, and the proxy asks over
//! it what the broker's ACLs allow this client.

pub(crate) mod authorization;
pub(crate) mod client_name;
pub(super) mod client_status;
pub(super) mod link;
pub(crate) mod login_session;
pub(super) mod reader;
pub(super) mod response_queue;
pub(super) mod rpc;
pub(super) mod session;
mod topic_decisions;
