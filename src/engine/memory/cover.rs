//! Acquires memory for frames as they arrive, in steps.
//!
//! A frame waits for its first step in FIFO order and holds nothing meanwhile. A frame that holds
//! memory never waits for more of the same memory, because two that did could wait for each other:
//! if its next step is not free, it waits for its turn to be **completed** from a reserve that only
//! one arriving frame uses at a time. If it is the share of its client's address that is exhausted,
//! it waits for the turn of that address and exceeds the share: other addresses do not wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::arrivals::{ArrivalPermit, Arrivals};
use super::limiter::{
    ConnectionQuota, MemoryPermit, REQUEST_OVERHEAD_BYTES, ShuttingDown, acquire_many,
};

impl MemoryPermit {
    /// Returns the number of bytes of the frame for which memory is held.
    pub fn covered_bytes(&self) -> usize {
        self.arrival.covered
    }

    /// Releases what a frame holds only while it arrives: the turn to be completed and, unless it
    /// lasts, the share of its client's address.
    pub fn finish_arrival(&mut self) {
        if self.arrival.lasting_share.is_none() {
            self.arrival.of_share = None;
            self.arrival.client_turn = None;
        }
        self.arrival.turn = None;
    }
}

/// The outcome of an attempt to extend a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Taken,
    /// The client's address holds as much as it may.
    ShareExhausted,
    /// The connection or the replica does.
    MemoryExhausted,
}

impl ConnectionQuota {
    /// Makes `permit` cover a frame of `announced` bytes of which `arrived` have arrived: all of it,
    /// or at least one byte more. Like [`ConnectionQuota::acquire`], a frame that is larger than a
    /// limit acquires all of it.
    ///
    /// # Errors
    /// [`ShuttingDown`] once the replica drains.
    ///
    /// # Cancel safety
    /// If dropped before it returns, the permit holds what it held before, and maybe the turn to be
    /// completed.
    pub async fn cover(
        &self,
        permit: &mut Option<MemoryPermit>,
        arrived: usize,
        announced: usize,
    ) -> Result<(), ShuttingDown> {
        let Some(arrivals) = &self.limiter.arrivals else {
            if permit.is_none() {
                let mut whole = self.acquire(announced).await?;
                whole.arrival.covered = announced;
                *permit = Some(whole);
            }
            return Ok(());
        };
        let wanted = announced.min(arrived.saturating_add(arrivals.step_bytes));
        let mut waited = Duration::ZERO;
        match permit {
            None => *permit = Some(self.first_step(arrivals, wanted, &mut waited).await?),
            Some(held) if held.covered_bytes() > arrived => return Ok(()),
            Some(held) => {
                if self.try_step(arrivals, held, wanted) != Step::Taken {
                    let to = (wanted, announced);
                    self.wait_for_step(arrivals, held, to, &mut waited).await?;
                }
                held.waited += waited;
            }
        }
        if !waited.is_zero() {
            self.limiter.metrics.clients.memory_pool_waits.inc();
        }
        Ok(())
    }

    /// Waits for the memory of a frame that holds none.
    async fn first_step(
        &self,
        arrivals: &Arrivals,
        bytes: usize,
        waited: &mut Duration,
    ) -> Result<MemoryPermit, ShuttingDown> {
        let cost = bytes.saturating_add(REQUEST_OVERHEAD_BYTES);
        let of_quota = acquire_many(&self.semaphore, cost.min(self.bytes), waited).await?;
        let of_share = match &self.share {
            Some(share) => {
                let most = cost.min(arrivals.share_bytes);
                Some(acquire_many(&share.bytes, most, waited).await?)
            }
            None => None,
        };
        let most = cost.min(self.limiter.acquirable_bytes());
        let of_limiter = acquire_many(&self.limiter.semaphore, most, waited).await?;
        let lasting_share = self.share.clone().filter(|_| arrivals.keeps_shares);
        let arrival =
            ArrivalPermit { covered: bytes, of_share, lasting_share, ..ArrivalPermit::default() };
        Ok(MemoryPermit { of_quota, of_limiter, arrival, waited: *waited })
    }

    /// Extends the permit to `wanted` bytes of the frame if that much is free.
    fn try_step(&self, arrivals: &Arrivals, held: &mut MemoryPermit, wanted: usize) -> Step {
        if held.arrival.of_reserve.is_some() {
            return Step::MemoryExhausted;
        }
        let cost = wanted.saturating_add(REQUEST_OVERHEAD_BYTES);
        let more = |semaphore: &Arc<Semaphore>, limit: usize, held: &OwnedSemaphorePermit| {
            let bytes = cost.min(limit).saturating_sub(held.num_permits());
            Arc::clone(semaphore).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
        };
        let of_share = match (&self.share, &held.arrival.of_share) {
            (Some(share), Some(of_share)) if held.arrival.client_turn.is_none() => {
                match more(&share.bytes, arrivals.share_bytes, of_share) {
                    Some(more) => Some(more),
                    None => return Step::ShareExhausted,
                }
            }
            _ => None,
        };
        let limiter = &self.limiter;
        let (Some(of_quota), Some(of_limiter)) = (
            more(&self.semaphore, self.bytes, &held.of_quota),
            more(&limiter.semaphore, limiter.acquirable_bytes(), &held.of_limiter),
        ) else {
            return Step::MemoryExhausted;
        };
        held.of_quota.merge(of_quota);
        held.of_limiter.merge(of_limiter);
        if let (Some(held), Some(more)) = (&mut held.arrival.of_share, of_share) {
            held.merge(more);
        }
        held.arrival.covered = wanted;
        Step::Taken
    }

    /// Waits for a step to `wanted` bytes, or for the memory of all `announced` bytes. What others
    /// have to wait for is taken last: the connection's quota, the turn of its address, and only
    /// if the limiter is exhausted the turn to be completed.
    async fn wait_for_step(
        &self,
        arrivals: &Arrivals,
        held: &mut MemoryPermit,
        (wanted, announced): (usize, usize),
        waited: &mut Duration,
    ) -> Result<(), ShuttingDown> {
        let cost = announced.saturating_add(REQUEST_OVERHEAD_BYTES);
        // It is released by the outcomes of earlier requests of the connection.
        let quota = cost.min(self.bytes).saturating_sub(held.of_quota.num_permits());
        held.of_quota.merge(acquire_many(&self.semaphore, quota, waited).await?);
        let mut step = self.try_step(arrivals, held, wanted);
        if let (Step::ShareExhausted, Some(share)) = (step, &self.share) {
            held.arrival.client_turn = Some(acquire_many(&share.turn, 1, waited).await?);
            step = self.try_step(arrivals, held, wanted);
        }
        if step == Step::Taken {
            return Ok(());
        }
        if held.arrival.turn.is_none() {
            held.arrival.turn = Some(acquire_many(&arrivals.turn, 1, waited).await?);
        }
        let rest = cost.saturating_sub(held.arrival.covered).min(arrivals.reserve_bytes);
        let of_reserve = acquire_many(&arrivals.reserve, rest, waited).await?;
        held.arrival.of_reserve = Some(of_reserve);
        held.arrival.covered = announced;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures::FutureExt;

    use super::super::limiter::MemoryLimiter;
    use super::*;

    const MIB: usize = 1 << 20;
    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn limiter() -> Arc<MemoryLimiter> {
        MemoryLimiter::for_frames(64 * MIB, MIB, Arc::default())
    }

    /// Returns whether the frame is covered without waiting.
    fn cover(
        quota: &ConnectionQuota,
        permit: &mut Option<MemoryPermit>,
        arrived: usize,
        announced: usize,
    ) -> bool {
        quota.cover(permit, arrived, announced).now_or_never().is_some_and(|result| result.is_ok())
    }

    #[tokio::test]
    async fn memory_is_held_for_bytes_that_arrived_and_not_for_announced_ones() {
        let limiter = limiter();
        let quota = limiter.quota_of(32 * MIB, ONE);
        let mut permit = None;
        for arrived in (0..32 * MIB).step_by(64 << 10) {
            assert!(cover(&quota, &mut permit, arrived, 32 * MIB));
            let held = limiter.bytes() - limiter.available();
            assert!(held > arrived && held <= arrived + 2 * MIB, "{held} after {arrived}");
            assert!(permit.as_ref().unwrap().covered_bytes() > arrived);
        }
        drop(permit);
        assert_eq!(limiter.available(), limiter.bytes());
    }

    #[tokio::test]
    async fn announcing_without_sending_leaves_memory_to_all_others() {
        let limiter = limiter();
        let mut silent = Vec::new();
        for _ in 0..20 {
            let quota = limiter.quota_of(32 * MIB, ONE);
            let mut permit = None;
            assert!(cover(&quota, &mut permit, 0, 32 * MIB));
            silent.push((quota, permit));
        }
        let quota = limiter.quota_of(32 * MIB, OTHER);
        assert!(cover(&quota, &mut None, 0, 16 * MIB));
    }

    #[tokio::test]
    async fn one_address_cannot_hold_all_memory_with_frames_that_do_not_end() {
        let limiter = limiter();
        let mut held = Vec::new();
        for _ in 0..60 {
            let quota = limiter.quota_of(32 * MIB, ONE);
            let mut permit = None;
            let _waits = cover(&quota, &mut permit, 0, 8 * MIB);
            held.push((quota, permit));
        }
        assert!(limiter.available() >= 32 * MIB, "{}", limiter.available());
        let quota = limiter.quota_of(32 * MIB, OTHER);
        let mut other = None;
        for arrived in (0..16 * MIB).step_by(MIB) {
            assert!(cover(&quota, &mut other, arrived, 16 * MIB), "after {arrived}");
        }
        other.as_mut().unwrap().finish_arrival();
    }

    #[tokio::test]
    async fn frames_that_share_exhausted_memory_complete_one_after_another() {
        let limiter = limiter();
        let mut frames: Vec<_> = (0..40_u8)
            .map(|n| {
                let client = IpAddr::V4(Ipv4Addr::new(10, 0, 1, n));
                (limiter.quota_of(32 * MIB, client), None)
            })
            .collect();
        // Each has a step; the second one is not free for all of them.
        for (quota, permit) in &mut frames {
            assert!(cover(quota, permit, 0, 4 * MIB));
        }
        let mut waiting = 0;
        for (quota, permit) in &mut frames {
            waiting += usize::from(!cover(quota, permit, MIB, 4 * MIB));
        }
        assert!(waiting > 10, "{waiting}");
        let arrive = |(quota, mut permit): (ConnectionQuota, Option<MemoryPermit>)| async move {
            for arrived in [MIB, 2 * MIB, 3 * MIB] {
                quota.cover(&mut permit, arrived, 4 * MIB).await.unwrap();
            }
            permit.as_mut().unwrap().finish_arrival();
        };
        let all = futures::future::join_all(frames.into_iter().map(arrive));
        let completed = tokio::time::timeout(Duration::from_secs(1), all).await;
        assert!(completed.is_ok(), "frames wait for each other");
        assert_eq!(limiter.available(), limiter.bytes());
    }

    #[tokio::test]
    async fn address_that_exhausts_its_share_keeps_no_other_from_completing() {
        let limiter = limiter();
        let of_one: Vec<_> = (0..31)
            .map(|_| {
                let (quota, mut permit) = (limiter.quota_of(32 * MIB, ONE), None);
                assert!(cover(&quota, &mut permit, 0, 16 * MIB));
                (quota, permit)
            })
            .collect();
        let mut of_one = of_one.into_iter();
        let (quota, mut permit) = of_one.next().unwrap();
        assert!(cover(&quota, &mut permit, MIB, 16 * MIB), "one frame exceeds the share");
        let (second_quota, mut second) = of_one.next().unwrap();
        assert!(!cover(&second_quota, &mut second, MIB, 16 * MIB), "one at a time");
        let mut others = Vec::new();
        for n in 0..=u8::MAX {
            let client = IpAddr::V4(Ipv4Addr::new(10, 0, 2, n));
            let (quota, mut permit) = (limiter.quota_of(32 * MIB, client), None);
            if !cover(&quota, &mut permit, 0, 4 * MIB) {
                break;
            }
            others.push((quota, permit));
        }
        let (other_quota, other) = others.last_mut().unwrap();
        assert!(cover(other_quota, other, MIB, 4 * MIB), "the turn to be completed is free");
        drop((permit, second, others, of_one));
        assert_eq!(limiter.available(), limiter.bytes());
    }

    #[tokio::test]
    async fn frame_that_waits_for_its_connection_keeps_no_other_from_completing() {
        let limiter = limiter();
        let quota = limiter.quota_of(4 * MIB, ONE);
        let earlier = quota.acquire(2 * MIB).now_or_never().unwrap().unwrap();
        let mut permit = None;
        assert!(cover(&quota, &mut permit, 0, 4 * MIB));
        assert!(!cover(&quota, &mut permit, MIB, 4 * MIB), "its quota is exhausted");
        drop(earlier);
        assert!(cover(&quota, &mut permit, MIB, 4 * MIB));
        assert!(permit.as_ref().unwrap().arrival.turn.is_none(), "other memory is free");
    }

    #[tokio::test]
    async fn closed_limiter_fails_frames() {
        let limiter = limiter();
        let quota = limiter.quota_of(MIB, ONE);
        limiter.close();
        assert_eq!(quota.cover(&mut None, 0, 1).await, Err(ShuttingDown));
    }
}
