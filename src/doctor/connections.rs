//! Checks the number of client connections that the limit on open files allows.

use super::report::Finding;
use crate::app::{OpenFiles, ProcessMemory, connection_limits};
use crate::config::Settings;

const LISTENERS: &str = "listeners";
/// With fewer connections than this, a replica is unlikely to serve a production cluster.
const CONNECTIONS_MIN: usize = 2_000;

pub(super) fn check(settings: &Settings) -> Option<Finding> {
    Some(check_limit(settings, OpenFiles::available()))
}

fn check_limit(settings: &Settings, files: OpenFiles) -> Finding {
    let (limit, limits) =
        (files.limit(), connection_limits(settings, files, ProcessMemory::read()));
    let (total, each) = (limits.total, limits.per_address);
    let summary = format!(
        "the limit on open files, {limit}, allows {} client connections; at most {total} are \
         accepted, {each} of one address",
        files.connections()
    );
    let wanted = settings.listeners.max_connections.map_or(CONNECTIONS_MIN, |max| max as usize);
    if files.connections() >= wanted {
        return Finding::ok(LISTENERS, summary);
    }
    Finding::warn(LISTENERS, summary, "further clients are disconnected at once").remedy(
        "raise the hard limit: LimitNOFILE in a systemd unit, --ulimit nofile of a container, \
         `ulimit -Hn` in a shell; or set listeners.maxConnections",
    )
}
