//! The memory of the frames of a connection, and of the requests that wait for their responses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::login::LOGIN_FRAME_BYTES_MAX;
use crate::engine::memory::{ConnectionQuota, MemoryLimiter, MemoryPermit, ShuttingDown};
use crate::proxy::context::Proxy;
use crate::proxy::endpoint::Endpoint;

/// Frames of one connection whose requests wait without memory of a limiter, in bytes, together.
/// A fetch of 200 partitions has 7 KiB.
const SMALL_WAITING_BYTES: u32 = 8 << 10;
/// Memory of a waiting request for each byte of its frame. A decoded fetch of many partitions, with
/// its permissions, takes five.
const WAITING_PER_BYTE: usize = 8;
/// The part of the memory of waiting requests that one connection may hold.
const WAITING_SHARE: usize = 4;

/// The quotas of a connection. Most are created when they are first needed.
pub(super) struct FrameMemory {
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    client: IpAddr,
    /// True until the client is admitted.
    is_new: bool,
    /// For frames until then.
    login: ConnectionQuota,
    /// For Produce requests to a diskless node.
    produce: Option<ConnectionQuota>,
    /// For all other frames.
    forwarded: Option<PoolQuota>,
    waiting: Option<ConnectionQuota>,
    small_waiting: Arc<Semaphore>,
}

struct PoolQuota {
    pool: Arc<MemoryLimiter>,
    quota: ConnectionQuota,
}

/// The memory of a request.
#[derive(Debug, Default)]
pub(super) struct RequestMemory {
    /// Held by the frame.
    pub(super) frame: Option<MemoryPermit>,
    /// Held by the decoded request while it waits.
    pub(super) waiting: Option<WaitingMemory>,
}

/// The memory of a request that waits for its response.
#[derive(Debug)]
pub(super) enum WaitingMemory {
    /// A part of what the connection holds without asking.
    Small(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit),
    /// A part of a limiter, and all of what the connection holds without asking.
    Large(
        #[expect(dead_code, reason = "held")] OwnedSemaphorePermit,
        #[expect(dead_code, reason = "held")] MemoryPermit,
    ),
}

impl RequestMemory {
    /// Returns whether a part of a limiter is held.
    pub(super) fn is_large(&self) -> bool {
        self.frame.is_some() || matches!(self.waiting, Some(WaitingMemory::Large(..)))
    }

    /// Returns whether anything is held.
    pub(super) fn is_accounted(&self) -> bool {
        self.frame.is_some() || self.waiting.is_some()
    }

    /// Returns the time that the frame waited for memory.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.frame.as_ref().map(|permit| permit.waited)
    }
}

impl FrameMemory {
    pub(super) fn new(proxy: Arc<Proxy>, endpoint: Endpoint, client: IpAddr) -> Self {
        let login = proxy.login_memory.quota_of(LOGIN_FRAME_BYTES_MAX, client);
        Self {
            proxy,
            endpoint,
            client,
            is_new: true,
            login,
            produce: None,
            forwarded: None,
            waiting: None,
            small_waiting: Arc::new(Semaphore::new(SMALL_WAITING_BYTES as usize)),
        }
    }

    /// Notes that the client is admitted.
    pub(super) fn finish_login(&mut self) {
        self.is_new = false;
    }

    /// Returns whether frames of this API are produced to a diskless node.
    pub(super) fn is_diskless_produce(&self, api_key: i16) -> bool {
        matches!(self.endpoint, Endpoint::Node(_)) && api_key == ApiKey::Produce as i16
    }

    /// Returns the quota for a frame that is arriving. `begins` is true until it holds memory.
    pub(super) fn arriving(
        &mut self,
        api_key: Option<i16>,
        broker: Option<i32>,
        begins: bool,
    ) -> &ConnectionQuota {
        match api_key {
            _ if self.is_new => &self.login,
            Some(key) if self.is_diskless_produce(key) => self.produce(),
            _ => self.forwarded(broker, begins),
        }
    }

    /// Returns the quota for Produce requests to a diskless node.
    pub(super) fn produce(&mut self) -> &ConnectionQuota {
        let (memory, client) = (&self.proxy.produce_memory, self.client);
        let bytes = self.proxy.settings.connection_bytes_max;
        self.produce.get_or_insert_with(|| memory.quota_of(bytes, client))
    }

    /// Returns the quota for all other frames: of the pool of the broker that they are sent to. If
    /// `may_change`, it is of the pool's current size, which depends on the number of brokers.
    fn forwarded(&mut self, broker: Option<i32>, may_change: bool) -> &ConnectionQuota {
        let broker = match self.endpoint {
            Endpoint::Broker(id) => Some(id),
            Endpoint::Bootstrap | Endpoint::Node(_) => broker,
        };
        let proxy = &self.proxy;
        let pool = || proxy.classic_memory.pool(broker, proxy.cluster.view().brokers.len());
        if may_change {
            let current = pool();
            self.forwarded.take_if(|forwarded| !Arc::ptr_eq(&forwarded.pool, &current));
        }
        let forwarded = self.forwarded.get_or_insert_with(|| {
            let pool = pool();
            let quota = pool.quota_of(proxy.settings.connection_bytes_max, self.client);
            PoolQuota { pool, quota }
        });
        &forwarded.quota
    }

    /// Acquires memory for a decoded request that waits for its response. Those of a connection have
    /// a little together. A request that does not fit waits for earlier ones, as at a broker; one
    /// that is larger than that waits for all of them, and then takes a part of a limiter, which it
    /// therefore does not hold while it waits for its turn.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing is held.
    pub(super) async fn acquire_waiting(
        &mut self,
        frame_bytes: usize,
        broker: Option<i32>,
    ) -> Result<WaitingMemory, ShuttingDown> {
        let small_bytes = u32::try_from(frame_bytes).unwrap_or(u32::MAX);
        let small = Arc::clone(&self.small_waiting);
        let small = small.acquire_many_owned(small_bytes.min(SMALL_WAITING_BYTES)).await;
        let small = small.map_err(|_| ShuttingDown)?;
        if self.is_new || small_bytes <= SMALL_WAITING_BYTES {
            return Ok(WaitingMemory::Small(small));
        }
        let bytes = frame_bytes.saturating_mul(WAITING_PER_BYTE);
        let quota = match self.endpoint {
            Endpoint::Node(_) => {
                let (memory, client) = (&self.proxy.waiting_memory, self.client);
                let share = memory.bytes() / WAITING_SHARE;
                self.waiting.get_or_insert_with(|| memory.quota_of(share, client))
            }
            // What waits for a broker is of its pool.
            Endpoint::Bootstrap | Endpoint::Broker(_) => self.forwarded(broker, true),
        };
        Ok(WaitingMemory::Large(small, quota.acquire(bytes).await?))
    }
}
