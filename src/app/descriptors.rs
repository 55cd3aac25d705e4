//! The limit on open files, and the number of client connections that it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;
use crate::proxy::ConnectionLimits;

/// The descriptors of a client connection: the client's socket, and one to a broker.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// The most descriptors that are kept for the store, Redis, brokers, peers and listeners.
const RESERVE_MAX: u64 = 4_096;
/// The default maximum of connections where the limit on open files allows more.
const CONNECTIONS_DEFAULT: usize = 30_000;

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

/// Returns the limits of client connections: as configured, but not more than the limit on open
/// files allows.
pub(crate) fn connection_limits(settings: &Settings, files: OpenFiles) -> ConnectionLimits {
    let configured = |key: Option<u32>| key.map(|max| max as usize);
    let listeners = &settings.listeners;
    let wanted = configured(listeners.max_connections).unwrap_or(CONNECTIONS_DEFAULT);
    let total = wanted.min(files.connections()).max(1);
    let per_address = configured(listeners.max_connections_per_address);
    ConnectionLimits { total, per_address: per_address.unwrap_or_else(|| (total / 2).max(1)) }
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
            let limits = connection_limits(settings, OpenFiles(files));
            (limits.total, limits.per_address)
        };
        assert_eq!(limits(&settings, 1 << 20), (30_000, 15_000));
        assert_eq!(limits(&settings, 1_024), (384, 192));
        settings.listeners.max_connections = Some(100);
        assert_eq!(limits(&settings, 1_024), (100, 50));
        settings.listeners.max_connections = Some(50_000);
        settings.listeners.max_connections_per_address = Some(7);
        assert_eq!(limits(&settings, 1_024), (384, 7));
        assert_eq!(limits(&settings, 1 << 20), (50_000, 7));
    }
}
