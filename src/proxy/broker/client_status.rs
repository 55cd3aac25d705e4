//! The state of a client that the loops of its connection share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Time for which a request that holds memory waits for the client to read earlier responses.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// The state of a client's connection, shared by its loops.
#[derive(Debug)]
pub(crate) struct ClientStatus {
    opened: Instant,
    /// When bytes last moved between the client and the replica, in milliseconds since `opened`.
    active_ms: AtomicU64,
    admitted: AtomicBool,
    /// Until when a request that holds memory must get its turn, if one waits.
    turn: Mutex<Option<Instant>>,
    turn_changed: Notify,
}

/// A request that holds memory and waits for its turn, until this is dropped.
#[derive(Debug)]
pub(crate) struct TurnWait(Arc<ClientStatus>);

impl Drop for TurnWait {
    fn drop(&mut self) {
        *self.0.turn.lock() = None;
    }
}

impl ClientStatus {
    /// Creates the state of a connection that has just been accepted.
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            active_ms: AtomicU64::new(0),
            admitted: AtomicBool::new(false),
            turn: Mutex::default(),
            turn_changed: Notify::new(),
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

    /// Notes that a request that holds memory waits for its turn. A connection has one at a time.
    pub(crate) fn wait_for_turn(self: &Arc<Self>) -> TurnWait {
        *self.turn.lock() = Some(Instant::now() + TURN_TIMEOUT);
        self.turn_changed.notify_one();
        TurnWait(Arc::clone(self))
    }

    /// Returns once a request that holds memory has waited for its turn for too long, because the
    /// client does not read earlier responses.
    pub(crate) async fn turn_overdue(&self) {
        loop {
            let deadline = *self.turn.lock();
            match deadline {
                None => self.turn_changed.notified().await,
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::time::sleep_until(at).await,
            }
        }
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
    async fn turn_is_overdue_only_while_a_request_waits_for_it() {
        let status = Arc::new(ClientStatus::new());
        let opened = Instant::now();
        let second = Duration::from_secs(1);
        let requests = async {
            for waits in [1, 29, 20, 60] {
                let turn = status.wait_for_turn();
                tokio::time::sleep(waits * second).await;
                drop(turn);
            }
        };
        tokio::select! {
            () = requests => panic!("not noticed"),
            () = status.turn_overdue() => {}
        }
        assert_eq!(opened.elapsed(), 80 * second);
    }

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
