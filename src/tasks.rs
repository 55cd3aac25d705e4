//! Named, supervised background tasks.
//!
//! A panic in a connection's task ends that connection; a panic in a loop that the whole
//! process depends upon ends the process, because a replica without it only looks alive.

use std::future::Future;

use tokio::task::JoinHandle;

/// Spawns a task whose end, by return or panic, concerns nobody else.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    use tracing::Instrument as _;
    tokio::task::spawn(future.instrument(tracing::debug_span!("task", name)))
}

/// Spawns a loop that the process cannot live without: a panic in it aborts the process.
pub fn spawn_critical<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let inner = spawn(name, future);
    spawn("supervisor", async move {
        if let Err(error) = inner.await
            && error.is_panic()
        {
            tracing::error!(name, "a task that the process depends upon panicked; aborting");
            std::process::abort();
        }
    })
}

/// Runs what takes CPU time, not waiting, where it delays no other task.
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
        // Cancelled before it began: the runtime ends, and with it whoever waits here.
        Err(_) => std::future::pending().await,
    }
}
