//! The memory and the deadlines of the frame that is being read.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::memory::{ConnectionQuota, MemoryPermit, ShuttingDown};

/// A frame that holds memory and of which no byte arrives for this time ends its connection.
const STALL_TIMEOUT: Duration = Duration::from_secs(15);
/// A frame that holds memory must arrive within this time and another second for each MiB that has
/// arrived, or else a client that sends byte by byte would keep others from producing.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// A frame that has begun to arrive and holds memory.
#[derive(Debug, Default)]
pub(super) struct IncomingFrame {
    permit: Option<MemoryPermit>,
    progress: Option<Progress>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The beginning, or later by the time that the frame waited for memory.
    began: Instant,
    last: Instant,
    arrived: usize,
}

impl Progress {
    fn deadline(&self) -> Instant {
        let rate = Duration::from_secs(self.arrived as u64 >> 20);
        (self.last + STALL_TIMEOUT).min(self.began + FRAME_TIMEOUT + rate)
    }
}

impl IncomingFrame {
    /// Acquires memory for bytes that have not arrived yet, and returns how many may be read.
    ///
    /// # Cancel safety
    /// If dropped before it returns, the frame keeps what it holds.
    pub(super) async fn make_room(
        &mut self,
        quota: &ConnectionQuota,
        arrived: usize,
        announced: usize,
    ) -> Result<usize, ShuttingDown> {
        let asked = Instant::now();
        quota.cover(&mut self.permit, arrived, announced).await?;
        let now = Instant::now();
        let mut progress = self.progress.unwrap_or(Progress { began: asked, last: asked, arrived });
        let waited = now.duration_since(asked);
        progress.began += waited;
        progress.last += waited;
        if arrived > progress.arrived {
            (progress.last, progress.arrived) = (now, arrived);
        }
        self.progress = Some(progress);
        let covered = self.permit.as_ref().map_or(0, MemoryPermit::covered_bytes);
        Ok(covered.saturating_sub(arrived).max(1))
    }

    /// Returns the time until which more of the frame has to arrive; `None` if it holds no memory.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.progress.map(|progress| progress.deadline())
    }

    /// Returns whether the frame holds memory.
    pub(super) fn holds_memory(&self) -> bool {
        self.permit.is_some()
    }

    /// Returns the memory of a frame that has arrived.
    pub(super) fn take(&mut self) -> Option<MemoryPermit> {
        self.progress = None;
        let mut permit = self.permit.take()?;
        permit.finish_arrival();
        Some(permit)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::engine::memory::MemoryLimiter;

    const MIB: usize = 1 << 20;
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn frame_must_arrive_continuously_and_at_a_minimum_rate() {
        let limiter = MemoryLimiter::for_frames(64 * MIB, MIB, Arc::default());
        let quota = limiter.quota_of(32 * MIB, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let began = Instant::now();
        let mut frame = IncomingFrame::default();
        assert_eq!(frame.deadline(), None);
        assert_eq!(frame.make_room(&quota, 0, 32 * MIB).await, Ok(MIB));
        assert_eq!(frame.deadline(), Some(began + STALL_TIMEOUT));

        tokio::time::advance(10 * SECOND).await;
        frame.make_room(&quota, 1, 32 * MIB).await.unwrap();
        assert_eq!(frame.deadline(), Some(began + 25 * SECOND));
        // No further byte has arrived, so a wake-up does not count as progress.
        tokio::time::advance(SECOND).await;
        frame.make_room(&quota, 1, 32 * MIB).await.unwrap();
        assert_eq!(frame.deadline(), Some(began + 25 * SECOND));
        tokio::time::advance(13 * SECOND).await;
        frame.make_room(&quota, 2 * MIB, 32 * MIB).await.unwrap();
        assert_eq!(frame.deadline(), Some(began + 32 * SECOND));

        assert!(frame.holds_memory());
        drop(frame.take());
        assert_eq!((frame.deadline(), limiter.available()), (None, limiter.bytes()));
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_a_frame_waits_for_memory_does_not_count() {
        let limiter = MemoryLimiter::for_frames(8 * MIB, 8 * MIB, Arc::default());
        let of = |n| limiter.quota_of(8 * MIB, IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)));
        let (first, second) = (of(1), of(2));
        let mut all = None;
        first.cover(&mut all, 0, 8 * MIB).await.unwrap();
        let mut frame = IncomingFrame::default();
        let freed = async {
            tokio::time::sleep(100 * SECOND).await;
            drop(all);
        };
        let (room, ()) = tokio::join!(frame.make_room(&second, 0, 4 * MIB), freed);
        assert_eq!(room, Ok(4 * MIB));
        assert_eq!(frame.deadline(), Some(Instant::now() + STALL_TIMEOUT));
    }
}
