//! Follows the configuration file: what may change while the replica runs is taken over, the rest
//! is named.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::convert::{client_networks, in_memory, seal_profile};
use crate::config::Settings;
use crate::console::Console;
use crate::engine::produce::FlushTuning;
use crate::logging::Logging;
use crate::metrics::{Metrics, ReloadOutcome};
use crate::proxy::Proxy;
use crate::tasks;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Keys, and sections of them, that a running replica takes over.
const RELOADABLE: &[&str] = &["diskless.topics", "flush", "costs", "metrics.perTopic", "log.level"];
/// Of these lists only what ends so is taken over: their ports are open already.
const RELOADABLE_IN_LISTS: &[(&str, &str)] = &[("clients.zones", "cidrs")];

/// What changes when the file does.
#[derive(Debug)]
pub(crate) struct ReloadTargets {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) console: Arc<Console>,
    pub(crate) logging: Option<Logging>,
    pub(crate) metrics: Arc<Metrics>,
    /// What the other replicas are told of the settings.
    pub(crate) settings_digest: Arc<AtomicU64>,
}

/// Follows the file for as long as the process lives.
///
/// # Errors
/// The signal cannot be had.
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
    /// The file's bytes when it was last read.
    last_bytes: Option<Vec<u8>>,
    /// What the file said last.
    settings: Settings,
    /// What it said when the replica started, for what has stayed as it was then.
    started_with: Settings,
    targets: ReloadTargets,
}

impl ConfigWatcher {
    /// Reads the file again if it has changed. One that is being replaced is missing for a moment.
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
                    tracing::error!(problem, "the configuration is wrong; the old one stays");
                }
                ReloadOutcome::rejected
            }
        };
        self.targets.metrics.record_reload(outcome);
    }

    fn apply_changes(&mut self, settings: Settings) -> ReloadOutcome {
        let changed = settings.written.changed_from(&self.settings.written);
        if changed.is_empty() {
            tracing::info!("the configuration is read again, and says what it said");
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
            tracing::info!(
                keys = reloadable.join(", "),
                "the configuration has changed: taken over"
            );
        }
        if needs_restart.is_empty() {
            return ReloadOutcome::applied;
        }
        let keys = needs_restart.join(", ");
        tracing::warn!(keys, "these keys have changed, and count after a restart only");
        ReloadOutcome::restart_required
    }

    fn apply(&self, settings: &Settings) {
        let ReloadTargets { proxy, console, logging, settings_digest, .. } = &self.targets;
        settings_digest.store(settings.digest(), Ordering::Relaxed);
        proxy
            .topics
            .set_rules(settings.diskless.topics.clone(), seal_profile(settings.flush.profile));
        proxy.settings.client_zones.networks.set(client_networks(settings));
        let turn = FlushTuning {
            interval: settings.flush.interval,
            object_bytes: in_memory(settings.flush.size_bytes),
            puts_per_second_max: settings.flush.puts_per_second_max,
        };
        let producer = proxy.producer.clone();
        tasks::spawn("turn", async move { producer.reconfigure(turn).await });
        console.apply_settings(settings);
        if let Some(logging) = logging
            && settings.log.level != self.settings.log.level
            && !logging.apply_file_level(&settings.log.level)
        {
            tracing::warn!("ODRADEK_LOG is set, and comes before log.level");
        }
    }
}

/// Whether a running replica takes a key over.
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
    fn keys_are_live_or_wait_for_a_restart() {
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
