//! The state of a client that the loops of its connection share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The state of a client's connection, shared by its loops.
#[derive(Debug)]
pub(crate) struct ClientStatus {
    opened: Instant,
    /// When bytes last moved between the client and the replica, in milliseconds since `opened`.
    active_ms: AtomicU64,
    admitted: AtomicBool,
}

impl ClientStatus {
    /// Creates the state of a connection that has just been accepted.
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            active_ms: AtomicU64::new(0),
            admitted: AtomicBool::new(false),
        }
    }

    /// Notes that a broker has responded to a request that it accepts from authenticated clients only.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    /// Returns whether a broker has let the client in.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Notes that bytes moved.
    pub(crate) fn touch(&self) {
        self.active_ms.store(self.opened.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns once no byte has moved in either direction for `timeout`.
    pub(crate) async fn idle(&self, timeout: Duration) {
        loop {
            let active = Duration::from_millis(self.active_ms.load(Ordering::Relaxed));
            let expiry = self.opened + active + timeout;
            if expiry <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(expiry).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connection_is_idle_once_no_byte_moved_for_the_timeout() {
        let status = ClientStatus::new();
        let opened = Instant::now();
        let second = Duration::from_secs(1);
        let moving = async {
            for _ in 0..5 {
                tokio::time::sleep(7 * second).await;
                status.touch();
            }
        };
        tokio::join!(status.idle(10 * second), moving);
        assert_eq!(opened.elapsed(), 45 * second);
    }
}
