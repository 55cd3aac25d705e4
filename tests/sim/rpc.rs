//! Calls between hosts of the simulated network.
//!
//! What travels is a number; what it stands for lies in a table that both ends can reach. So any
//! type can be sent, and a message that is late, lost or cut off is exactly that.

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

pub(crate) const CALLS: u16 = 9000;

/// Things on their way, by the number that is sent.
#[derive(Debug)]
pub(crate) struct Table<T> {
    next: AtomicU64,
    things: Mutex<BTreeMap<u64, T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), things: Mutex::default() }
    }
}

impl<T> Table<T> {
    pub(crate) fn put(&self, thing: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.things.lock().insert(number, thing);
        number
    }

    pub(crate) fn take(&self, number: u64) -> Option<T> {
        self.things.lock().remove(&number)
    }
}

type Answer = Box<dyn Any + Send>;
type Job<S> = Box<dyn FnOnce(Arc<S>) -> BoxFuture<'static, Answer> + Send>;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RpcError {
    /// The call never left.
    NotSent,
    /// It may have happened.
    Unknown,
}

/// Where calls to the service `S` of a host come in.
pub(crate) struct RpcServer<S> {
    host: String,
    jobs: Table<Job<S>>,
    answers: Table<Answer>,
}

impl<S: Send + Sync + 'static> RpcServer<S> {
    pub(crate) fn new(host: &str) -> Arc<Self> {
        Arc::new(Self { host: host.to_owned(), jobs: Table::default(), answers: Table::default() })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Has the host do `job`, over a connection of its own.
    pub(crate) async fn ask<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        within: Duration,
        job: impl FnOnce(Arc<S>) -> F + Send + 'static,
    ) -> Result<T, RpcError> {
        let deadline = Instant::now() + within;
        let job = move |service| job(service).map(|done| Box::new(done) as Answer).boxed();
        let ticket = self.jobs.put(Box::new(job));
        let connect = TcpStream::connect((self.host.as_str(), CALLS));
        let Ok(Ok(mut stream)) = timeout_at(deadline, connect).await else {
            self.jobs.take(ticket);
            return Err(RpcError::NotSent);
        };
        let talk = async {
            stream.write_u64(ticket).await?;
            stream.read_u64().await
        };
        let Ok(Ok(answer)) = timeout_at(deadline, talk).await else {
            return Err(RpcError::Unknown);
        };
        let answer = self.answers.take(answer).expect("it was put there");
        Ok(*answer.downcast().expect("what the job gives"))
    }

    /// Does what is asked of `service`, until the host dies.
    pub(crate) async fn serve(self: Arc<Self>, service: Arc<S>) -> io::Result<()> {
        let listener = TcpListener::bind(("0.0.0.0", CALLS)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tasks::spawn("call", Arc::clone(&self).answer(stream, Arc::clone(&service)));
        }
    }

    async fn answer(self: Arc<Self>, mut stream: TcpStream, service: Arc<S>) -> io::Result<()> {
        let ticket = stream.read_u64().await?;
        let Some(job) = self.jobs.take(ticket) else { return Ok(()) };
        let done = job(service).await;
        stream.write_u64(self.answers.put(done)).await
    }
}
