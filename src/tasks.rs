//! Named, supervised background tasks.
//!
//! A panic in a connection's task ends that connection. A panic in a loop that the whole process
//! depends on ends the process, because a replica without that loop only appears to work.

use std::future::Future;

use tokio::task::JoinHandle;

/// Spawns a task whose return or panic affects no other task.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    use tracing::Instrument as _;
    tokio::task::spawn(future.instrument(tracing::debug_span!("task", name)))
}

/// Spawns a loop that the process depends on: a panic in it aborts the process.
pub fn spawn_critical<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let inner = spawn(name, future);
    spawn("supervisor", async move {
        if let Err(error) = inner.await
            && error.is_panic()
        {
            tracing::error!(name, "a critical task panicked; aborting the process");
            std::process::abort();
        }
    })
}

/// Runs CPU-bound work on a thread where it delays no other task.
///
/// # Cancel safety
/// Dropping the future does not stop the work.
pub async fn run_blocking<T>(work: impl FnOnce() -> T + Send + 'static) -> T
where
    T: Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Cancelled before it started: the runtime is shutting down, and this task with it.
        Err(_) => std::future::pending().await,
    }
}
