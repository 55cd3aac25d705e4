//! The time for which a process was seen without a lease.

use tokio::time::{Duration, Instant};

/// The time for which a process must have no lease before it is recovered: leases do not survive
/// every failover of the coordinator, and are complete again within two renewals.
pub const LAPSED_AFTER: Duration = Duration::from_secs(15);
/// The greatest time between two observations of one absence. A lease must last longer: a process that
/// renews it between them has it at the second one.
pub const OBSERVATION_GAP_MAX: Duration = Duration::from_secs(4);

/// One reading of the running processes, which had its effect between two times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) sent: Instant,
    pub(super) received: Instant,
}

/// The uninterrupted absence of a process, as far as it was observed.
#[derive(Debug)]
pub(super) struct Absence {
    since: Instant,
    last: Instant,
}

impl Absence {
    /// Returns the absence of a process that a first reading does not have.
    pub(super) fn new(first: Reading) -> Self {
        Self { since: first.received, last: first.sent }
    }

    /// Adds a reading that does not have the process either. It begins again if the process may have
    /// been there in between.
    pub(super) fn observe(&mut self, reading: Reading) {
        if reading.received - self.last > OBSERVATION_GAP_MAX {
            *self = Self::new(reading);
        } else {
            self.last = reading.sent;
        }
    }

    /// Returns whether the process counts as ended.
    pub(super) fn has_lapsed(&self) -> bool {
        self.last.saturating_duration_since(self.since) >= LAPSED_AFTER
    }
}
