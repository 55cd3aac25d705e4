//! The limits of a connection before a broker has let its client in.

use std::time::Duration;

use tokio::time::Instant;

/// The largest frame, as `sasl.server.max.receive.size` of a broker.
pub(super) const LOGIN_FRAME_BYTES_MAX: usize = 512 << 10;
/// The size of the read buffer: most requests of a login are far smaller. Longer frames acquire
/// memory as they arrive.
pub(super) const LOGIN_READ_BYTES: usize = 4 << 10;
/// Time in which the client has to log in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for which a request of a login that holds memory waits for a broker that accepts no bytes.
pub(super) const LOGIN_FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

/// A login that has not succeeded yet.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) deadline: Instant,
    /// True if the client has sent a request.
    pub(super) has_frames: bool,
}

impl Login {
    pub(super) fn begin() -> Self {
        Self { deadline: Instant::now() + LOGIN_TIMEOUT, has_frames: false }
    }
}
