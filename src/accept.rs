//! The accept loop of every port: bounded, tracked, and ended by a token.
//!
//! A connection above the limit is accepted and closed, so that its client notices at once and tries
//! another replica. In the kernel's backlog it would appear to be connected.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tasks;

/// The delay after an accept that failed: most likely the process is out of file descriptors, and
/// connections must end first.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The shortest time between two lines of the log about the same condition.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Limits how often a condition that peers can cause is logged.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<(Option<Instant>, u64)>);

impl LogLimit {
    /// Counts an occurrence. Returns how many there were since the last line, this one included, if it
    /// is time for another one.
    pub fn occurred(&self) -> Option<u64> {
        let mut state = self.0.lock();
        let (logged, count) = &mut *state;
        *count += 1;
        if logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            return None;
        }
        *logged = Some(Instant::now());
        Some(std::mem::take(count))
    }
}

/// The connections of one or more ports.
#[derive(Clone, Debug)]
pub struct Connections {
    max: usize,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    refused: Counter,
    refusals: Arc<LogLimit>,
    failures: Arc<LogLimit>,
    on_refusal: OnRefusal,
}

/// An action for each connection above the limit.
#[derive(Clone, Default)]
struct OnRefusal(Option<Arc<dyn Fn(IpAddr) + Send + Sync>>);

impl fmt::Debug for OnRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRefusal").finish_non_exhaustive()
    }
}

impl Connections {
    /// Allows `max` connections at once over all ports, until `shutdown` is cancelled.
    pub fn new(max: usize, shutdown: CancellationToken) -> Self {
        Self {
            max,
            permits: Arc::new(Semaphore::new(max)),
            tasks: TaskTracker::new(),
            shutdown,
            refused: Counter::default(),
            refusals: Arc::default(),
            failures: Arc::default(),
            on_refusal: OnRefusal::default(),
        }
    }

    /// Counts connections above the limit.
    #[must_use]
    pub fn count_refused(self, refused: Counter) -> Self {
        Self { refused, ..self }
    }

    /// Calls this with the peer of each connection above the limit.
    #[must_use]
    pub fn on_refusal(self, act: impl Fn(IpAddr) + Send + Sync + 'static) -> Self {
        Self { on_refusal: OnRefusal(Some(Arc::new(act))), ..self }
    }

    /// Returns the token that ends the accept loops; connections may watch it too.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Spawns a loop that accepts connections and spawns `serve` for each of them. A connection
    /// above the limit is closed. `name` names the tasks.
    pub fn accept<F>(
        &self,
        name: &'static str,
        listener: TcpListener,
        serve: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (this, loops) = (self.clone(), self.tasks.clone());
        let accepting = async move {
            while let Some((stream, peer, permit)) = this.next(&listener, name).await {
                let served = serve(stream, peer);
                let connection = async move {
                    served.await;
                    drop(permit);
                };
                tasks::spawn(name, this.tasks.track_future(connection));
            }
        };
        // The loop is tracked as well, so that no connection starts after the last one ended.
        tasks::spawn_critical(name, loops.track_future(accepting));
    }

    /// Returns the next connection, or `None` once the token is cancelled.
    async fn next(
        &self,
        listener: &TcpListener,
        name: &'static str,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => match Arc::clone(&self.permits).try_acquire_owned() {
                    Ok(permit) => return Some((stream, peer, permit)),
                    Err(_) => {
                        self.refused.inc();
                        if let OnRefusal(Some(act)) = &self.on_refusal {
                            act(peer.ip());
                        }
                        if let Some(refused) = self.refusals.occurred() {
                            let max = self.max;
                            tracing::warn!(%peer, port = name, max, refused, "connections refused: too many");
                        }
                    }
                },
                Err(error) => {
                    if let Some(failures) = self.failures.occurred() {
                        let address = listener.local_addr().ok();
                        tracing::warn!(%error, port = name, ?address, failures, "cannot accept a connection");
                    }
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Waits until the token is cancelled and every connection has ended.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Serves until the client closes, and reports each connection that is served.
    fn serve(connections: &Connections, listener: TcpListener) -> tokio::sync::mpsc::Receiver<()> {
        let (accepted, served) = tokio::sync::mpsc::channel(8);
        connections.accept("test", listener, move |mut stream, _| {
            let accepted = accepted.clone();
            async move {
                let _open = accepted.send(()).await;
                let _closed = stream.read(&mut [0]).await;
            }
        });
        served
    }

    #[tokio::test]
    async fn connection_above_the_limit_is_closed_and_counted() {
        let refused = Counter::default();
        let connections =
            Connections::new(1, CancellationToken::new()).count_refused(refused.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut served = serve(&connections, listener);
        let first = TcpStream::connect(address).await.unwrap();
        served.recv().await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0, "the limit is one");
        assert_eq!(refused.get(), 1);
        assert!(served.try_recv().is_err());
        drop(first);
        // The permit is free once the task has ended.
        while connections.permits.available_permits() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _third = TcpStream::connect(address).await.unwrap();
        served.recv().await.unwrap();
    }

    #[tokio::test]
    async fn drain_waits_for_the_last_connection() {
        let connections = Connections::new(2, CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut served = serve(&connections, listener);
        let open = TcpStream::connect(address).await.unwrap();
        served.recv().await.unwrap();
        connections.shutdown().cancel();
        let drained = connections.drained();
        tokio::pin!(drained);
        let early = tokio::time::timeout(Duration::from_millis(20), &mut drained).await;
        assert!(early.is_err(), "a connection is open");
        drop(open);
        drained.await;
    }

    #[tokio::test(start_paused = true)]
    async fn condition_is_logged_once_a_minute_with_its_count() {
        let limit = LogLimit::default();
        assert_eq!(limit.occurred(), Some(1));
        assert_eq!((limit.occurred(), limit.occurred()), (None, None));
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!(limit.occurred(), Some(3));
    }
}
