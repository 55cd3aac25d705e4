//! State of a limiter whose frames acquire memory as they arrive, and of such a frame.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Number of client addresses from which on those without connections are removed.
const SHARES_SWEEP: usize = 64;

/// The part of a limiter that concerns arriving frames.
#[derive(Debug)]
pub(super) struct Arrivals {
    pub(super) step_bytes: usize,
    /// Memory for completing frames.
    pub(super) reserve_bytes: usize,
    pub(super) reserve: Arc<Semaphore>,
    /// The turn to complete a frame.
    pub(super) turn: Arc<Semaphore>,
    pub(super) share_bytes: usize,
    /// True if a share counts for as long as memory is held, not only while frames arrive.
    pub(super) keeps_shares: bool,
    shares: Mutex<Shares>,
}

/// The memory that one client address may hold.
#[derive(Debug)]
pub(super) struct ClientShare {
    pub(super) bytes: Arc<Semaphore>,
    /// The turn to exceed the share with one frame.
    pub(super) turn: Arc<Semaphore>,
}

/// The shares of client addresses with connections.
#[derive(Debug, Default)]
struct Shares {
    by_client: HashMap<IpAddr, Weak<ClientShare>>,
    sweep_at: usize,
}

/// Permits of a frame that is arriving, besides those of its quota and its limiter.
#[derive(Debug, Default)]
pub(super) struct ArrivalPermit {
    /// The bytes of the frame for which memory is held.
    pub(super) covered: usize,
    pub(super) of_share: Option<OwnedSemaphorePermit>,
    /// The turn of the client's address.
    pub(super) client_turn: Option<OwnedSemaphorePermit>,
    /// The share, if it counts for as long as memory is held.
    pub(super) lasting_share: Option<Arc<ClientShare>>,
    pub(super) turn: Option<OwnedSemaphorePermit>,
    /// Held like the rest of the permit, until the request has its outcome.
    pub(super) of_reserve: Option<OwnedSemaphorePermit>,
}

impl Arrivals {
    pub(super) fn new(bytes: usize, step_bytes: usize, keeps_shares: bool) -> Self {
        let reserve_bytes = bytes / 8;
        Self {
            step_bytes,
            reserve_bytes,
            reserve: Arc::new(Semaphore::new(reserve_bytes)),
            turn: Arc::new(Semaphore::new(1)),
            share_bytes: bytes / 2,
            keeps_shares,
            shares: Mutex::default(),
        }
    }

    /// Returns the share of a client address, the same for all of its connections.
    pub(super) fn share(&self, client: IpAddr) -> Arc<ClientShare> {
        let mut shares = self.shares.lock();
        if let Some(share) = shares.by_client.get(&client).and_then(Weak::upgrade) {
            return share;
        }
        if shares.by_client.len() >= shares.sweep_at {
            shares.by_client.retain(|_, share| share.strong_count() > 0);
            shares.sweep_at = SHARES_SWEEP.max(2 * shares.by_client.len());
        }
        let share = Arc::new(ClientShare {
            bytes: Arc::new(Semaphore::new(self.share_bytes)),
            turn: Arc::new(Semaphore::new(1)),
        });
        shares.by_client.insert(client, Arc::downgrade(&share));
        share
    }

    pub(super) fn available(&self) -> usize {
        self.reserve.available_permits()
    }

    pub(super) fn close(&self) {
        self.reserve.close();
        self.turn.close();
        for share in self.shares.lock().by_client.values().filter_map(Weak::upgrade) {
            share.bytes.close();
            share.turn.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn shares_of_departed_clients_are_removed() {
        let arrivals = Arrivals::new(1 << 20, 1 << 10, false);
        for n in 0..10 * SHARES_SWEEP as u32 {
            drop(arrivals.share(IpAddr::V4(Ipv4Addr::from(n))));
        }
        assert!(arrivals.shares.lock().by_client.len() <= SHARES_SWEEP);
    }
}
