//! The accept loop of every port: bounded, tracked, and ended by a token.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tasks;

/// The delay after an accept that failed: most likely the process is out of file descriptors, and
/// connections must end first.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The connections of one or more ports.
#[derive(Clone, Debug)]
pub struct Connections {
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Connections {
    /// Allows `max` connections at once over all ports, until `shutdown` is cancelled.
    pub fn new(max: usize, shutdown: CancellationToken) -> Self {
        Self { permits: Arc::new(Semaphore::new(max)), tasks: TaskTracker::new(), shutdown }
    }

    /// Returns the token that ends the accept loops; connections may watch it too.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Spawns a loop that accepts connections and spawns `serve` for each of them. A connection
    /// above the limit waits in the kernel's bounded backlog. `name` names the tasks.
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
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                accepted = self.accept_one(listener) => match accepted {
                    Ok(connection) => return Some(connection),
                    Err(error) => {
                        let address = listener.local_addr().ok();
                        tracing::warn!(%error, port = name, ?address, "cannot accept a connection");
                    }
                },
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn accept_one(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(std::io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, permit))
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

    #[tokio::test]
    async fn a_connection_above_the_limit_waits_and_a_drain_waits_for_the_last() {
        let connections = Connections::new(1, CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, mut served) = tokio::sync::mpsc::channel(8);
        connections.accept("test", listener, move |mut stream, _| {
            let accepted = accepted.clone();
            async move {
                let _open = accepted.send(()).await;
                let _closed = stream.read(&mut [0]).await;
            }
        });
        let first = TcpStream::connect(address).await.unwrap();
        served.recv().await.unwrap();
        let second = TcpStream::connect(address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(served.try_recv().is_err(), "the limit is one");
        drop(first);
        served.recv().await.unwrap();
        connections.shutdown().cancel();
        let drained = connections.drained();
        tokio::pin!(drained);
        let early = tokio::time::timeout(Duration::from_millis(20), &mut drained).await;
        assert!(early.is_err(), "the second connection is open");
        drop(second);
        drained.await;
    }
}
