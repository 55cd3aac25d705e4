//! Applies changes of the configuration file to a running replica, and reports the keys that need a
//! restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::convert::client_networks;
use crate::admin::Console;
use crate::config::Settings;
use crate::engine::produce::FlushTuning;
use crate::logging::Logging;
use crate::metrics::{Metrics, ReloadOutcome};
use crate::proxy::Proxy;
use crate::tasks;

/// The interval at which the file is read.
const INTERVAL: Duration = Duration::from_secs(2);
/// Keys and sections that a running replica applies.
const RELOADABLE: &[&str] = &["diskless.topics", "flush", "costs", "metrics.perTopic", "log.level"];
/// Lists of which only the given key is applied: the ports of the entries are already open.
const RELOADABLE_IN_LISTS: &[(&str, &str)] = &[("clients.zones", "cidrs")];

/// The components that changes of the file affect.
#[derive(Debug)]
pub(crate) struct ReloadTargets {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) console: Arc<Console>,
    pub(crate) logging: Option<Logging>,
    pub(crate) metrics: Arc<Metrics>,
    /// The digest of the settings that is reported to the other replicas.
    pub(crate) settings_digest: Arc<AtomicU64>,
}

/// Watches the file, and SIGHUP, for the lifetime of the process.
///
/// # Errors
/// The signal handler cannot be installed.
pub(crate) fn watch_config_file(
    file: PathBuf,
    settings: Settings,
    targets: ReloadTargets,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tasks::spawn_critical("configuration", async move {
        let mut watcher = ConfigWatcher {
            last_bytes: std::fs::read(&file).ok(),
            file,
            started_with: settings.clone(),
            settings,
            targets,
        };
        loop {
            tokio::select! {
                received = hangup.recv() => {
                    if received.is_some() {
                        watcher.reload();
                    }
                }
                () = tokio::time::sleep(INTERVAL) => watcher.poll(),
            }
        }
    });
    Ok(())
}

#[derive(Debug)]
struct ConfigWatcher {
    file: PathBuf,
    /// The content of the file when it was last read.
    last_bytes: Option<Vec<u8>>,
    /// The settings of the file when it was last read.
    settings: Settings,
    /// The settings at the start of the replica, which keys that need a restart still have.
    started_with: Settings,
    targets: ReloadTargets,
}

impl ConfigWatcher {
    /// Reloads the file if it has changed. A file that is being replaced may be missing briefly.
    fn poll(&mut self) {
        let Ok(bytes) = std::fs::read(&self.file) else { return };
        if self.last_bytes.as_ref() != Some(&bytes) {
            self.reload();
        }
    }

    fn reload(&mut self) {
        self.last_bytes = std::fs::read(&self.file).ok();
        let outcome = match Settings::load(&self.file) {
            Ok(settings) => self.apply_changes(settings),
            Err(problems) => {
                for problem in problems.to_string().lines() {
                    tracing::error!(
                        problem,
                        "the configuration is not valid; the previous one remains in effect"
                    );
                }
                ReloadOutcome::rejected
            }
        };
        self.targets.metrics.record_reload(outcome);
    }

    fn apply_changes(&mut self, settings: Settings) -> ReloadOutcome {
        let changed = settings.written.changed_from(&self.settings.written);
        if changed.is_empty() {
            tracing::info!("configuration reloaded without changes");
            return ReloadOutcome::unchanged;
        }
        let reloadable: Vec<_> = changed.iter().filter(|key| is_reloadable(key)).cloned().collect();
        self.apply(&settings);
        let needs_restart = settings.written.changed_from(&self.started_with.written);
        let needs_restart: Vec<_> =
            needs_restart.into_iter().filter(|key| !is_reloadable(key)).collect();
        self.targets.metrics.set_restart_required(!needs_restart.is_empty());
        self.settings = settings;
        if !reloadable.is_empty() {
            tracing::info!(keys = reloadable.join(", "), "configuration changes applied");
        }
        if needs_restart.is_empty() {
            return ReloadOutcome::applied;
        }
        let keys = needs_restart.join(", ");
        tracing::warn!(keys, "changes of these keys take effect after a restart");
        ReloadOutcome::restart_required
    }

    fn apply(&self, settings: &Settings) {
        let ReloadTargets { proxy, console, logging, settings_digest, .. } = &self.targets;
        settings_digest.store(settings.digest(), Ordering::Relaxed);
        proxy.topics.classifier.set_rules(settings.topic_rules(), settings.flush.profile);
        proxy.settings.client_zones.networks.set(client_networks(settings));
        let turn = FlushTuning {
            interval: settings.flush.interval.duration(),
            object_bytes: settings.flush.size.as_usize(),
            puts_per_second_max: settings.flush.max_puts_per_second,
        };
        let producer = proxy.producer.clone();
        tasks::spawn("turn", async move { producer.reconfigure(turn).await });
        console.apply_settings(settings);
        if let Some(logging) = logging
            && settings.log.level != self.settings.log.level
            && !logging.apply_file_level(&settings.log.level)
        {
            tracing::warn!("ODRADEK_LOG is set and overrides log.level");
        }
    }
}

/// Returns whether a running replica applies changes of a key.
fn is_reloadable(key: &str) -> bool {
    let below = |section: &&&str| {
        key.strip_prefix(**section)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let in_list = |(list, end): &&(&str, &str)| {
        key.starts_with(list) && key.split(['.', '[']).any(|part| part == *end)
    };
    RELOADABLE.iter().any(|section| below(&section))
        || RELOADABLE_IN_LISTS.iter().any(|pair| in_list(&pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_reloadable_or_need_a_restart() {
        for reloadable in [
            "diskless.topics",
            "diskless.topics[3].match",
            "flush.interval",
            "costs.zones",
            "clients.zones[0].cidrs[1]",
            "log.level",
        ] {
            assert!(is_reloadable(reloadable), "{reloadable}");
        }
        for needs_restart in
            ["zone", "diskless.nodesPerZone", "flushes", "clients.zones[0].port", "log.format"]
        {
            assert!(!is_reloadable(needs_restart), "{needs_restart}");
        }
    }
}
