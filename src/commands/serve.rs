//! `odradek serve FILE`: runs a replica.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Console, Readiness};
use crate::app::{self, ReloadTargets};
use crate::config::Settings;
use crate::doctor;
use crate::logging::Logging;
use crate::metrics::Metrics;
use crate::tasks;

/// The timeout of a drain; connections that are open after it are closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a replica until a signal ends it, and applies changes of its configuration file.
///
/// # Errors
/// A failure that no retry resolves: a port that is in use, metadata of another Kafka cluster.
pub(super) async fn run(
    settings: Settings,
    file: PathBuf,
    logging: Option<Logging>,
) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let readiness = Arc::new(Readiness::default());
    let metrics = Arc::new(Metrics::default());
    metrics.set_build_info(&settings.replica, &settings.zone);
    let console =
        Console::start(&settings, Arc::clone(&metrics), Arc::clone(&readiness), logging.clone());
    let (ready, shown) = (Arc::clone(&readiness), Arc::clone(&console));
    admin::start(settings.admin.bind, ready, Arc::clone(&metrics), shown).await?;
    let mut replica = tokio::select! {
        () = shutdown.drain.cancelled() => return Ok(()),
        replica = app::start(&settings, Arc::clone(&metrics), &readiness) => replica?,
    };
    console.set_proxy(Arc::clone(&replica.proxy));
    let (proxy, settings_digest) =
        (Arc::clone(&replica.proxy), Arc::clone(&replica.settings_digest));
    let targets = ReloadTargets { proxy, console, logging, metrics, settings_digest };
    app::watch_config_file(file, settings.clone(), targets)?;
    readiness.set_ready(true);
    let checked = settings.clone();
    tasks::spawn("doctor", async move { doctor::log_warnings(&checked).await });
    shutdown.drain.cancelled().await;
    tracing::info!("draining");
    readiness.set_ready(false);
    tokio::select! {
        () = shutdown.abort.cancelled() => tracing::warn!("stopped without draining"),
        drained = tokio::time::timeout(DRAIN_TIMEOUT, replica.drain()) => match drained {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!("drain timed out; open connections are closed"),
        },
    }
    Ok(())
}

/// The tokens that SIGTERM and SIGINT cancel.
struct Shutdown {
    /// Cancelled by the first signal.
    drain: CancellationToken,
    /// Cancelled by the second signal.
    abort: CancellationToken,
}

impl Shutdown {
    /// Installs the signal handlers.
    fn on_signals() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let tokens = [drain.clone(), abort.clone()];
        tasks::spawn_critical("signals", async move {
            for token in tokens {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(Self { drain, abort })
    }
}
