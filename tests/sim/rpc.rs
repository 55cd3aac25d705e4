//! RPC between hosts of the simulated network.
//!
//! The network carries only a number; the message itself is in a mailbox that both ends share. Any
//! type can therefore be sent, and the network can still delay, lose or truncate a message.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use odradek::tasks;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use turmoil::net::{TcpListener, TcpStream};

pub(crate) const RPC_PORT: u16 = 9000;

/// Messages in transit, by the number that is sent.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    next: AtomicU64,
    messages: Mutex<BTreeMap<u64, T>>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), messages: Mutex::default() }
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn put(&self, thing: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.messages.lock().insert(number, thing);
        number
    }

    pub(crate) fn take(&self, number: u64) -> Option<T> {
        self.messages.lock().remove(&number)
    }
}

type AnyResponse = Box<dyn Any + Send>;
type Job<S> = Box<dyn FnOnce(Arc<S>) -> BoxFuture<'static, AnyResponse> + Send>;

/// Reason why a call has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RpcError {
    /// The call was not sent.
    NotSent,
    /// The call may have been executed.
    Unknown,
}

/// Receives calls to the service `S` of a host.
pub(crate) struct RpcServer<S> {
    host: String,
    jobs: Mailbox<Job<S>>,
    responses: Mailbox<AnyResponse>,
}

impl<S: Send + Sync + 'static> RpcServer<S> {
    pub(crate) fn new(host: &str) -> Arc<Self> {
        Arc::new(Self {
            host: host.to_owned(),
            jobs: Mailbox::default(),
            responses: Mailbox::default(),
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Runs `job` on the host, over a connection of its own.
    pub(crate) async fn call<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        within: Duration,
        job: impl FnOnce(Arc<S>) -> F + Send + 'static,
    ) -> Result<T, RpcError> {
        let deadline = Instant::now() + within;
        let job = move |service| job(service).map(|done| Box::new(done) as AnyResponse).boxed();
        let ticket = self.jobs.put(Box::new(job));
        let connect = TcpStream::connect((self.host.as_str(), RPC_PORT));
        let Ok(Ok(mut stream)) = timeout_at(deadline, connect).await else {
            self.jobs.take(ticket);
            return Err(RpcError::NotSent);
        };
        let exchange = async {
            stream.write_u64(ticket).await?;
            stream.read_u64().await
        };
        let Ok(Ok(response)) = timeout_at(deadline, exchange).await else {
            return Err(RpcError::Unknown);
        };
        let response = self.responses.take(response).expect("the server has stored it");
        Ok(*response.downcast().expect("the result type of the job"))
    }

    /// Serves calls to `service` until the host crashes.
    pub(crate) async fn serve(self: Arc<Self>, service: Arc<S>) -> io::Result<()> {
        let listener = TcpListener::bind(("0.0.0.0", RPC_PORT)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tasks::spawn("call", Arc::clone(&self).respond(stream, Arc::clone(&service)));
        }
    }

    async fn respond(self: Arc<Self>, mut stream: TcpStream, service: Arc<S>) -> io::Result<()> {
        let ticket = stream.read_u64().await?;
        let Some(job) = self.jobs.take(ticket) else { return Ok(()) };
        let done = job(service).await;
        stream.write_u64(self.responses.put(done)).await
    }
}
