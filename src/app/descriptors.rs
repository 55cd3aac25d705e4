//! The limit on open files, and the number of client connections that it and memory allow.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::process_memory::ProcessMemory;
use crate::config::Settings;
use crate::proxy::ConnectionLimits;

/// The descriptors of a client connection: the client's socket, and one to a broker.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// The most descriptors that are kept for the store, Redis, brokers, peers and listeners.
const RESERVE_MAX: u64 = 4_096;
/// The default maximum of connections where open files and memory allow more.
const CONNECTIONS_DEFAULT: usize = 30_000;
/// The memory of a busy connection: its read buffer.
const CONNECTION_BYTES: u64 = 64 << 10;
/// The part of the process' memory that connections may take by default.
const MEMORY_DIVISOR: u64 = 4;

/// The number of files that the process may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles(u64);

impl OpenFiles {
    /// Raises the soft limit to the hard one. The soft one exists for programs that use `select(2)`.
    pub(crate) fn raise() -> Self {
        let before = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before });
        if let Err(error) = raised {
            tracing::warn!(%error, soft = before.current, hard = before.maximum, "cannot raise the limit on open files");
        }
        Self(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    /// Returns the limit that [`OpenFiles::raise`] would set.
    pub(crate) fn available() -> Self {
        Self(getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX))
    }

    /// Returns the limit.
    pub(crate) fn limit(self) -> u64 {
        self.0
    }

    /// Returns the number of client connections that the limit allows.
    pub(crate) fn connections(self) -> usize {
        let reserve = (self.0 / 4).min(RESERVE_MAX);
        let connections = (self.0 - reserve) / DESCRIPTORS_PER_CONNECTION;
        usize::try_from(connections).unwrap_or(usize::MAX)
    }
}

/// Returns the limits of client connections: as configured, or what memory allows, but not more than
/// the limit on open files allows. One address may have all of them unless load balancers announce
/// clients: an address may be that of a load balancer or a NAT gateway.
pub(crate) fn connection_limits(
    settings: &Settings,
    files: OpenFiles,
    memory: ProcessMemory,
) -> ConnectionLimits {
    let configured = |key: Option<u32>| key.map(|max| max as usize);
    let listeners = &settings.listeners;
    let in_memory = memory.bytes() / MEMORY_DIVISOR / CONNECTION_BYTES;
    let default = CONNECTIONS_DEFAULT.min(usize::try_from(in_memory).unwrap_or(usize::MAX));
    let wanted = configured(listeners.max_connections).unwrap_or(default);
    let total = wanted.min(files.connections()).max(1);
    let are_announced = !listeners.proxy_protocol_from.is_empty();
    let per_address = if are_announced { (total / 2).max(1) } else { total };
    let configured = configured(listeners.max_connections_per_address);
    ConnectionLimits { total, per_address: configured.unwrap_or(per_address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_on_open_files_is_raised_and_a_reserve_is_kept() {
        let raised = OpenFiles::raise();
        assert_eq!(raised, OpenFiles::available());
        let limits = getrlimit(Resource::Nofile);
        assert_eq!(limits.current, limits.maximum);
        assert_eq!(OpenFiles(1_024).connections(), 384);
        assert_eq!(OpenFiles(20_000).connections(), 7_952);
        assert_eq!(OpenFiles(1 << 20).connections(), 522_240);
    }

    #[test]
    fn configured_limits_are_bounded_by_open_files() {
        let mut settings = Settings::default();
        let limits = |settings: &Settings, files| {
            let limits = connection_limits(settings, OpenFiles(files), ProcessMemory(16 << 30));
            (limits.total, limits.per_address)
        };
        assert_eq!(limits(&settings, 1 << 20), (30_000, 30_000));
        assert_eq!(limits(&settings, 1_024), (384, 384));
        settings.listeners.max_connections = Some(100);
        assert_eq!(limits(&settings, 1_024), (100, 100));
        settings.listeners.proxy_protocol_from = vec!["10.0.0.0/28".parse().unwrap()];
        assert_eq!(limits(&settings, 1_024), (100, 50));
        settings.listeners.max_connections = Some(50_000);
        settings.listeners.max_connections_per_address = Some(7);
        assert_eq!(limits(&settings, 1_024), (384, 7));
        assert_eq!(limits(&settings, 1 << 20), (50_000, 7));
    }

    #[test]
    fn default_maximum_is_what_a_quarter_of_the_memory_allows() {
        let mut settings = Settings::default();
        let total = |settings: &Settings, memory| {
            connection_limits(settings, OpenFiles(1 << 20), ProcessMemory(memory)).total
        };
        assert_eq!(total(&settings, 2 << 30), 8_192);
        assert_eq!(total(&settings, u64::MAX), 30_000);
        settings.listeners.max_connections = Some(20_000);
        assert_eq!(total(&settings, 2 << 30), 20_000, "an explicit limit is not reduced");
    }
}
