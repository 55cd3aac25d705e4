//! Follows the configuration file: what may change while the replica runs is taken over, the rest
//! is named.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{client_networks, in_memory, seal_profile};
use crate::config::Settings;
use crate::console::Console;
use crate::engine::produce::Turn;
use crate::logging::Logging;
use crate::metrics::{Metrics, ReloadOutcome};
use crate::proxy::Proxy;
use crate::tasks;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Keys, and sections of them, that a running replica takes over.
const LIVE: &[&str] = &["diskless.topics", "flush", "costs", "metrics.perTopic", "log.level"];
/// Of these lists only what ends so is taken over: their ports are open already.
const LIVE_ENDS: &[(&str, &str)] = &[("clients.zones", "cidrs")];

/// What changes when the file does.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) proxy: Arc<Proxy>,
    pub(super) console: Arc<Console>,
    pub(super) logging: Option<Logging>,
    pub(super) metrics: Arc<Metrics>,
    /// What the other replicas are told of the settings.
    pub(super) told: Arc<AtomicU64>,
}

/// Follows the file for as long as the process lives.
///
/// # Errors
/// The signal cannot be had.
pub(super) fn follow(file: PathBuf, settings: Settings, parts: Parts) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tasks::spawn_critical("configuration", async move {
        let mut follower = Follower {
            seen: std::fs::read(&file).ok(),
            file,
            runs: settings.clone(),
            settings,
            parts,
        };
        loop {
            tokio::select! {
                received = hangup.recv() => {
                    if received.is_some() {
                        follower.reload();
                    }
                }
                () = tokio::time::sleep(INTERVAL) => follower.look(),
            }
        }
    });
    Ok(())
}

#[derive(Debug)]
struct Follower {
    file: PathBuf,
    /// The file's bytes when it was last read.
    seen: Option<Vec<u8>>,
    /// What the file said last.
    settings: Settings,
    /// What it said when the replica started, for what has stayed as it was then.
    runs: Settings,
    parts: Parts,
}

impl Follower {
    /// Reads the file again if it has changed. One that is being replaced is missing for a moment.
    fn look(&mut self) {
        let Ok(bytes) = std::fs::read(&self.file) else { return };
        if self.seen.as_ref() != Some(&bytes) {
            self.reload();
        }
    }

    fn reload(&mut self) {
        self.seen = std::fs::read(&self.file).ok();
        let outcome = match Settings::load(&self.file) {
            Ok(settings) => self.take_over(settings),
            Err(problems) => {
                for problem in problems.to_string().lines() {
                    tracing::error!(problem, "the configuration is wrong; the old one stays");
                }
                ReloadOutcome::refused
            }
        };
        self.parts.metrics.reloaded(outcome);
    }

    fn take_over(&mut self, settings: Settings) -> ReloadOutcome {
        let changed = settings.written.changed_from(&self.settings.written);
        if changed.is_empty() {
            tracing::info!("the configuration is read again, and says what it said");
            return ReloadOutcome::unchanged;
        }
        let live: Vec<_> = changed.iter().filter(|key| is_live(key)).cloned().collect();
        self.apply(&settings);
        let waits = settings.written.changed_from(&self.runs.written);
        let waits: Vec<_> = waits.into_iter().filter(|key| !is_live(key)).collect();
        self.parts.metrics.restart_needed(!waits.is_empty());
        self.settings = settings;
        if !live.is_empty() {
            tracing::info!(keys = live.join(", "), "the configuration has changed: taken over");
        }
        if waits.is_empty() {
            return ReloadOutcome::applied;
        }
        let keys = waits.join(", ");
        tracing::warn!(keys, "these keys have changed, and count after a restart only");
        ReloadOutcome::restart_needed
    }

    fn apply(&self, settings: &Settings) {
        let Parts { proxy, console, logging, told, .. } = &self.parts;
        told.store(settings.digest(), Ordering::Relaxed);
        proxy
            .topics
            .set_rules(settings.diskless.topics.clone(), seal_profile(settings.flush.profile));
        proxy.settings.client_zones.networks.set(client_networks(settings));
        let turn = Turn {
            interval: settings.flush.interval,
            object_bytes: in_memory(settings.flush.size_bytes),
            puts_per_second_max: settings.flush.puts_per_second_max,
        };
        let producer = proxy.producer.clone();
        tasks::spawn("turn", async move { producer.turn(turn).await });
        console.follow(settings);
        if let Some(logging) = logging
            && settings.log.level != self.settings.log.level
            && !logging.follow_file(&settings.log.level)
        {
            tracing::warn!("ODRADEK_LOG is set, and comes before log.level");
        }
    }
}

/// Whether a running replica takes a key over.
fn is_live(key: &str) -> bool {
    let below = |section: &&&str| {
        key.strip_prefix(**section)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let inside = |(list, end): &&(&str, &str)| {
        key.starts_with(list) && key.split(['.', '[']).any(|part| part == *end)
    };
    LIVE.iter().any(|section| below(&section)) || LIVE_ENDS.iter().any(|pair| inside(&pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_live_or_wait_for_a_restart() {
        for live in [
            "diskless.topics",
            "diskless.topics[3].match",
            "flush.interval",
            "costs.zones",
            "clients.zones[0].cidrs[1]",
            "log.level",
        ] {
            assert!(is_live(live), "{live}");
        }
        for waits in
            ["zone", "diskless.nodesPerZone", "flushes", "clients.zones[0].port", "log.format"]
        {
            assert!(!is_live(waits), "{waits}");
        }
    }
}
